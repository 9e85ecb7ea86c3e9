"""Settings dataclasses from TOML tables and from name=value words, with errors by name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from framelift.errors import UsageError

T = TypeVar("T")


def from_mapping(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    """Build a (nested) settings dataclass; unknown names and wrong types raise UsageError."""
    hints = get_type_hints(kind)
    for key in content:
        _known(kind, key, where)
    try:
        return kind(**{k: _convert(hints[k], v, f"{where}, {k}") for k, v in content.items()})
    except TypeError as error:
        raise UsageError(f"{where} is incomplete: {error}.", "Add what is missing.") from error


def from_strings(kind: type, words: Sequence[str], where: str) -> dict[str, Any]:
    """Read name=value words as fields of `kind`: numbers, true/false, none, or text."""
    content: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{where} {word!r} has no value.", "Write it as name=value.")
        name = name.strip().replace("-", "_")
        _known(kind, name, where)
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


def _known(kind: type, name: str, where: str) -> None:
    names = [f.name for f in fields(kind)]
    if name in names:
        return
    close = get_close_matches(name, names, 1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(names)}."
    raise UsageError(f"{where} has an unknown setting {name!r}.", hint)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} must be a table.", "Write it as [section].")
        return from_mapping(hint, value, where)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if str in args and isinstance(value, str):
            return value
        return None if value is None else _convert(args[0], value, where)
    if origin is Literal:
        if value not in args:
            raise UsageError(
                f"{where} is {value!r}.", f"Choose one of {', '.join(map(str, args))}."
            )
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_tuple(args, value, where)
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if origin in (tuple, dict):
        kind = "a list, as in [1, 2]" if origin is tuple else "a table, as in {name = 1}"
        raise UsageError(f"{where} is {value!r}.", f"It must be {kind}.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if isinstance(hint, type) and (not isinstance(value, hint) or wrong_bool):
        raise UsageError(f"{where} is {value!r}.", f"It must be of type {hint.__name__}.")
    return value


def _convert_tuple(args: tuple[Any, ...], value: Sequence[Any], where: str) -> tuple[Any, ...]:
    kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        raise UsageError(f"{where} has {len(value)} entries.", f"It takes {len(kinds)}.")
    return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
