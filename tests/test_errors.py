import errno
import pickle

import pytest

from framelift.cli.main import explain
from framelift.errors import (
    Exit,
    FrameliftError,
    InputError,
    NoRoomError,
    StoppedError,
    UsageError,
    lacks_memory,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FrameliftError, 1),
        (UsageError, 2),
        (InputError, 4),
        (NoRoomError, 5),
        (StoppedError, 130),
    ],
)
def test_exit_codes_stay_as_documented(kind, code):
    assert kind("It broke.").exit_code == code
    assert issubclass(kind, FrameliftError)


def test_exit_codes_differ():
    assert len({int(code) for code in Exit}) == len(list(Exit)) == 8
    assert (Exit.OK, Exit.REPAIRED, Exit.TERMINATED) == (0, 3, 143)


def test_message_is_problem_then_remedy():
    assert str(InputError("a.mp4 is empty.", "Copy it again.")) == "a.mp4 is empty. Copy it again."
    assert str(InputError("a.mp4 is empty.")) == "a.mp4 is empty."


def test_errors_cross_processes_whole():
    error = InputError("a.mp4 is empty.", "Copy it again.")
    error.exit_code = Exit.REPAIRED
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is InputError
    assert (copy.problem, copy.remedy, str(copy)) == (error.problem, error.remedy, str(error))
    assert copy.exit_code == Exit.REPAIRED


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
        ImportError("libx.so: failed to map segment from shared object"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_lack_of_memory_is_seen_behind_what_it_was_taken_for(error):
    assert lacks_memory(error)
    taken = InputError("clip.mp4 is damaged.")
    taken.__cause__ = error
    assert lacks_memory(taken)
    assert explain(taken).exit_code == Exit.NO_ROOM
    assert not lacks_memory(ValueError("memory lane"))
