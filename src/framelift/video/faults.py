"""Translate what libav and the operating system report into errors a user can act on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error

from framelift.errors import FrameliftError, NoRoomError, UsageError
from framelift.files import free_bytes

_FULL = {errno.ENOSPC, errno.EDQUOT}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
_LIMITS = {errno.EFBIG: "ulimit -f", errno.EMFILE: "ulimit -n", errno.ENFILE: "ulimit -n"}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors met while writing `path` into NoRoomError or FrameliftError."""
    try:
        yield
    except FrameliftError:
        raise
    except FileExistsError as error:
        raise UsageError(
            f"{path} has appeared while it was being made; it was left as it is.",
            "Move it away and run the same command again: it continues.",
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(path) from error
        if error.errno == errno.ENOMEM:
            raise _no_memory(path) from error
        raise _cannot_write(path, error) from error
    except MemoryError as error:
        raise _no_memory(path) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise _cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Create a folder and those above it, if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {path} cannot be made: {reason(error)}.", "Choose another --output."
        ) from error


def _no_room(path: Path) -> NoRoomError:
    folder = path.absolute().parent
    free = free_bytes(folder) // 2**20
    return NoRoomError(
        f"The disk that holds {folder} is full ({free} MiB free).",
        "Free some space or write to another disk, then run the same command again: it resumes.",
    )


def _no_memory(path: Path) -> NoRoomError:
    return NoRoomError(
        f"Memory ran out while writing {path.name}.",
        "Close other programs, or choose a smaller scale or a faster encoder preset.",
    )


def _cannot_write(path: Path, error: BaseException) -> FrameliftError:
    code = getattr(error, "errno", None)
    if code in _LIMITS:
        return NoRoomError(
            f"The system's limits forbid writing {path.name}: {reason(error)}.",
            f"Raise the limit ({_LIMITS[code]}) and run the same command again: it resumes.",
        )
    if code in _GONE:
        return UsageError(
            f"{path.absolute().parent} is not there any more.",
            "Bring the folder back, or choose another --output, and run the command again.",
        )
    if isinstance(error, PermissionError):
        return UsageError(
            f"{path.absolute().parent} may not be written to.", "Choose another output folder."
        )
    return FrameliftError(
        f"{path.name} could not be written: {reason(error)}.",
        "Please report this together with the command you ran.",
    )


def reason(error: BaseException) -> str:
    """The short description inside an error, without the call that produced it."""
    return str(getattr(error, "strerror", None) or error).rstrip(".")
