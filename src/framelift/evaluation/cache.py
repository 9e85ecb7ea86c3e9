"""Results by content: a number is found again as long as nothing that decides it has changed."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache, lru_cache
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
def code_digest() -> str:
    """SHA-256 of framelift's source, so that no number outlives the code that made it.

    Of the whole package: a list of what a number depends on is wrong as soon as a module moves.
    """
    root = Path(framelift.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


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
