"""Settings dataclasses from TOML tables and from name=value words, with errors by name."""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from framelift.errors import InputError, UsageError

T = TypeVar("T")


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file that holds a `what`, as in "preset".

    InputError where there is no such file, or where it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no {what} {path}.", "Check the path.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable {what}: {error}.", "Correct it.") from error


def from_mapping(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    """Build a (nested) settings dataclass.

    UsageError for unknown names, wrong types, and values that the class itself refuses by a
    ValueError.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where} is {content!r}.", "It must be a table, as in [section].")
    hints = get_type_hints(kind)
    for key in content:
        _known(list(hints), key, where)
    values = check_types(hints, content, where)
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{where} is incomplete: {error}.", "Add what is missing.") from error
    except ValueError as error:
        raise UsageError(f"{where}: {error}.", "Correct it.") from error


def check_types(hints: Mapping[str, Any], content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`content` with every value converted to the type that `hints` names, or a UsageError."""
    return {k: _convert(hints.get(k, Any), v, f"{where}, {k}") for k, v in content.items()}


def suggest(word: str, known: Iterable[str]) -> str:
    """A sentence with what was probably meant, or with all that is known."""
    known = sorted(known)
    close = get_close_matches(word, known, 1)
    return f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}."


def from_strings(kind: type, words: Sequence[str], where: str) -> dict[str, Any]:
    """Read name=value words as fields of `kind`: numbers, true/false, none, or text."""
    content: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{where} {word!r} has no value.", "Write it as name=value.")
        name = name.strip().replace("-", "_")
        _known([f.name for f in fields(kind)], name, where)
        content[name] = _parse(text.strip())
    return content


def check_finite(settings: Any) -> None:
    """Refuse a settings dataclass in which a number is nan or infinite (UsageError)."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UsageError(f"{field.name} is {number}.", "It must be a finite number.")


def _parse(text: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def _known(names: Sequence[str], name: str, where: str) -> None:
    if name not in names:
        raise UsageError(f"{where} has an unknown setting {name!r}.", suggest(name, names))


def _convert(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, where)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _convert_union(args, value, where)
    if origin is Literal:
        if value not in args:
            raise UsageError(
                f"{where} is {value!r}.", f"Choose one of {', '.join(map(str, args))}."
            )
        return value
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return _convert_items(origin, args, value, where)
    if origin is dict and isinstance(value, Mapping):
        return {_convert(args[0], k, where): _convert(args[1], v, where) for k, v in value.items()}
    if origin in (tuple, list, dict):
        kind = "a table, as in {name = 1}" if origin is dict else "a list, as in [1, 2]"
        raise UsageError(f"{where} is {value!r}.", f"It must be {kind}.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if isinstance(hint, type) and (not isinstance(value, hint) or wrong_bool):
        raise UsageError(f"{where} is {value!r}.", f"It must be of type {hint.__name__}.")
    return value


def _convert_union(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """The first kind that fits; the first of all explains what was expected where none does."""
    if value is None and NoneType in kinds:
        return None
    kinds = [k for k in kinds if k is not NoneType]
    words = [word for k in kinds if get_origin(k) is Literal for word in get_args(k)]
    if words and len(kinds) > 1 and all(get_origin(k) is Literal for k in kinds):
        return _convert(Literal[tuple(words)], value, where)
    for kind in kinds[1:]:
        if isinstance(kind, type) and isinstance(value, kind):
            return value
    return _convert(kinds[0], value, where)


def _convert_items(kind: type, args: tuple[Any, ...], value: Sequence[Any], where: str) -> Any:
    repeated = kind is list or args[-1] is Ellipsis
    kinds = [args[0]] * len(value) if repeated else list(args)
    if len(kinds) != len(value):
        raise UsageError(f"{where} has {len(value)} entries.", f"It takes {len(kinds)}.")
    return kind(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
