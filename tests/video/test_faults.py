"""What the system reports becomes what a user can act on."""

import errno
import os
import resource
from pathlib import Path

import pytest

from framelift.errors import Exit, FrameliftError, NoRoomError, UsageError
from framelift.video.faults import writing


def failing(code: int, path: Path) -> FrameliftError:
    with pytest.raises(FrameliftError) as caught, writing(path):
        raise OSError(code, os.strerror(code), str(path))
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (errno.ENOSPC, NoRoomError, "is full"),
        (errno.EFBIG, NoRoomError, "ulimit -f"),
        (errno.EMFILE, NoRoomError, "ulimit -n"),
        (errno.ENOMEM, NoRoomError, "Memory ran out"),
        (errno.ENOENT, UsageError, "not there any more"),
        (errno.EACCES, UsageError, "may not be written"),
        (errno.EEXIST, UsageError, "has appeared"),
    ],
)
def test_errors_are_told_apart(tmp_path, code, kind, word):
    error = failing(code, tmp_path / "out.mp4")
    assert isinstance(error, kind)
    assert word in str(error)
    assert error.exit_code != Exit.BUG


def test_a_limit_on_file_sizes_is_not_a_full_disk(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(NoRoomError, match="ulimit -f"), writing(tmp_path / "out"):
            (tmp_path / "out").write_bytes(bytes(4096))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
