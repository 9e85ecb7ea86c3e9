"""Files that appear whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


def part_path(final: Path) -> Path:
    """A temporary name beside `final` (same file system) that keeps its extension."""
    return final.with_name(f"{_part_prefix(final)}{uuid4().hex[:8]}.part{final.suffix}")


def remove_parts(final: Path) -> None:
    """Remove what killed processes left of `final`; only for whoever alone may write it."""
    prefix, end = _part_prefix(final), f".part{final.suffix}"
    with suppress(OSError):
        for path in list(final.absolute().parent.iterdir()):
            if path.name.startswith(prefix) and path.name.endswith(end):
                remove(path)


def _part_prefix(final: Path) -> str:
    """Begins the temporary names of `final` and of no other file."""
    stem = final.stem.encode(errors="surrogateescape")[:80].decode("utf-8", "ignore")
    name = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:6]
    return f".{stem}.{name}-"


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems refuse to sync folders
            raise
    finally:
        os.close(descriptor)


def publish(part: Path, final: Path, replace: bool = True) -> None:
    """Give a finished temporary file or folder its final name, durably.

    Without `replace`, FileExistsError where something has that name by now.
    """
    for file in [part] if part.is_file() else sorted(p for p in part.rglob("*") if p.is_file()):
        sync(file)
    if replace:
        part.replace(final)
    elif part.is_file() and _link(part, final):
        part.unlink()
    elif os.path.lexists(final):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
    else:
        part.rename(final)
    if os.name == "posix":
        sync(final.parent)


def _link(part: Path, final: Path) -> bool:
    """Give a file a second name, if the file system can; FileExistsError if it is taken."""
    try:
        os.link(part, final)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def atomic(final: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it becomes `final` on success and vanishes on failure."""
    part = part_path(final)
    try:
        yield part
        publish(part, final)
    finally:
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def to_json(content: Any) -> str:
    """Readable JSON; what JSON does not know becomes text."""
    return json.dumps(content, indent=1, sort_keys=True, default=str, ensure_ascii=False)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; names that are not UTF-8 keep their bytes as escapes."""
    with atomic(path) as part:
        part.write_text(to_json(content) + "\n", "utf-8", "backslashreplace")


def read_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text("utf-8"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of its files' names and contents in order.

    FileNotFoundError where there is neither: nothing has no digest.
    """
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def free_bytes(folder: Path) -> int:
    """Free space of the file system that holds `folder` (or its nearest existing parent)."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
