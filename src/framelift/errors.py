"""Errors that reach the user: one sentence on what is wrong, one on what to do, an exit code."""

import errno
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every `framelift` command."""

    OK = 0
    BUG = 1
    USAGE = 2
    REPAIRED = 3  # finished, but frames were missing or had to be replaced
    BAD_INPUT = 4
    NO_ROOM = 5  # out of memory or disk
    INTERRUPTED = 130  # stopped by Ctrl-C; the same command resumes
    TERMINATED = 143  # stopped by SIGTERM; the same command resumes


class FrameliftError(Exception):
    """Base of the errors shown to users without a traceback.

    `problem` says what is wrong, `remedy` what to do about it; both are whole sentences.
    """

    exit_code = Exit.BUG

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy


class UsageError(FrameliftError):
    """A setting is wrong, or settings contradict each other."""

    exit_code = Exit.USAGE


class InputError(FrameliftError):
    """An input file is missing, unreadable, not a video, or not one that may be processed."""

    exit_code = Exit.BAD_INPUT


class NoRoomError(FrameliftError):
    """Memory or disk does not suffice."""

    exit_code = Exit.NO_ROOM


class StoppedError(FrameliftError):
    """The user or the system asked the run to stop; finished windows are kept."""

    exit_code = Exit.INTERRUPTED


_OUT_OF_MEMORY = (
    "allocate memory",
    "out of memory",
    "not enough memory",
    "failed to map segment",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",  # oneDNN
)


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that memory ran out, on any device."""
    while error is not None and not isinstance(error, NoRoomError):
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        text = str(error).lower()
        if any(words in text for words in _OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
