"""Results by content: a number is found again as long as nothing that decides it has changed."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import framelift
from framelift.errors import InputError
from framelift.files import read_json, sha256, write_json


def key_of(content: Any) -> str:
    """SHA-256 of a JSON value: the name under which its result is kept."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A folder of JSON files named by key; each also holds the content that its key stands for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, content: Mapping[str, Any]) -> Any:
        """The result kept for `content`, or None."""
        path = self._path(content)
        try:
            return read_json(path)["result"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is damaged: {error}.", "Remove it; its result is computed again."
            ) from error

    def put(self, content: Mapping[str, Any], result: Any) -> None:
        """Keep a result."""
        path = self._path(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"of": content, "result": result})

    def _path(self, content: Mapping[str, Any]) -> Path:
        key = key_of(content)
        return self._folder / key[:2] / f"{key}.json"


def files_digest(paths: tuple[Path, ...]) -> str:
    """SHA-256 over the contents of files in order, whatever they are called."""
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        digest.update(f"{_file_digest(path, facts.st_size, facts.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=100_000)
def _file_digest(path: Path, size: int, changed: int) -> str:
    return sha256(path)


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 of the source of framelift, and of the packages of other `modules`, as of a method
    that is not part of framelift: no number outlives the code that made it.

    Of whole packages: a list of what a number depends on is wrong as soon as a module moves.
    """
    digest = source_digest(Path(framelift.__file__).parent)
    others = {name.partition(".")[0] for name in modules} - {framelift.__name__}
    found = [[name, source_digest(_source_of(name))] for name in sorted(others)]
    return key_of([digest, found]) if found else digest


def source_digest(path: Path) -> str:
    """SHA-256 of a module's file, or of all Python files of a package's folder with their names.

    InputError where there are none.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    if not files:
        raise InputError(f"{path} holds no Python source.", "Results of unknown code are not kept.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def _source_of(name: str) -> Path:
    """The folder of a package, or the file of a module."""
    module = import_module(name)
    if folders := list(getattr(module, "__path__", ())):
        return Path(folders[0])
    if file := getattr(module, "__file__", None):
        return Path(file)
    raise InputError(
        f"The source of {name} cannot be found.", "Define methods in a module of their own."
    )


@cache
def versions(*packages: str) -> dict[str, str]:
    """Installed versions of packages, framelift's own first; absent ones are left out."""
    found = {"framelift": framelift.__version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
