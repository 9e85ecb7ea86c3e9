"""What an interrupted run leaves behind, so that the same command continues it.

A folder beside the output holds `settings.json`, one segment per finished window in the final
codec, the float tail that the next window cross-fades with, and for each window a record, written
last: a window without a record does not exist.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import load_file, save
from torch import Tensor

from framelift.errors import UsageError
from framelift.files import atomic, read_json, write_json
from framelift.video.faults import writing
from framelift.video.write import Segment

SUFFIX = ".framelift"


def journal_folder(output: Path) -> Path:
    """Where the journal of an output lies."""
    return output.with_name(output.name + SUFFIX)


@dataclass(frozen=True)
class Done:
    """A finished window: its segment, the tile side it was computed with, whether it has a tail."""

    segment: Segment
    tile: int
    has_tail: bool


class Journal:
    """The journal of one output, locked against a second process while it is open."""

    def __init__(self, output: Path) -> None:
        self.folder = journal_folder(output)
        self._lock = FileLock(output.with_name(f".{output.name}.lock"), timeout=0)
        self.done: list[Done] = []

    def __enter__(self) -> "Journal":
        try:
            self._lock.acquire()
        except Timeout:
            raise UsageError(
                f"Another process is already writing {self.folder.with_suffix('')}.",
                "Wait for it, or choose another --output.",
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def previous(self) -> dict[str, Any] | None:
        """The settings of an interrupted run, if there is one."""
        record = self.folder / "settings.json"
        return read_json(record) if record.exists() else None

    def open(self, settings: Mapping[str, Any], restart: bool) -> None:
        """Start, or continue a run with the same settings; refuse one with others."""
        previous = self.previous()
        if previous is not None and restart:
            self.discard()
            previous = None
        if previous is not None:
            changed = [
                f"{name} was {previous.get(name)!r}, is {settings.get(name)!r}"
                for name in sorted(previous.keys() | settings.keys())
                if previous.get(name) != settings.get(name)
            ]
            if changed:
                raise UsageError(
                    f"{self.folder} holds an unfinished run with other settings: "
                    f"{'; '.join(changed)}.",
                    "Use the same settings to continue it, or --restart to throw it away.",
                )
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            with writing(self.folder):
                self.folder.mkdir(parents=True)
                write_json(self.folder / "settings.json", dict(settings))
        self.done = self._finished()

    def segment_path(self, window: int, images: bool) -> Path:
        """Where a window's segment is to be written."""
        return self.folder / (f"{window:06d}" if images else f"{window:06d}.mkv")

    def commit(self, segment: Segment, tail: Tensor | None, tile: int) -> None:
        """Record a finished window whose segment is already on the disk."""
        with writing(self.folder):
            self._commit(segment, tail, tile)

    def _commit(self, segment: Segment, tail: Tensor | None, tile: int) -> None:
        window = len(self.done)
        if tail is not None:
            with atomic(self._tail_path(window)) as part:
                part.write_bytes(save({"tail": tail.contiguous().cpu()}))
        write_json(
            self._record_path(window),
            {
                "segment": segment.path.name,
                "bytes": _size(segment.path),
                "pts": segment.pts,
                "durations": segment.durations,
                "tail": tail is not None,
                "tile": tile,
            },
        )
        self.done.append(Done(segment, tile, tail is not None))
        if window:
            self._tail_path(window - 1).unlink(missing_ok=True)

    def tail(self) -> Tensor | None:
        """The frames that the last finished window held back."""
        path = self._tail_path(len(self.done) - 1)
        return load_file(path)["tail"] if path.exists() else None

    def discard(self) -> None:
        """Remove the journal."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.done = []

    def _finished(self) -> list[Done]:
        done: list[Done] = []
        while (record := self._record_path(len(done))).exists():
            facts = read_json(record)
            path = self.folder / facts["segment"]
            if not path.exists() or _size(path) != facts["bytes"]:
                break
            segment = Segment(path, facts["pts"], facts["durations"])
            done.append(Done(segment, facts["tile"], facts["tail"]))
        # Only the newest tail is kept: behind a lost segment, go back to a window that needs none.
        while done and done[-1].has_tail and not self._tail_path(len(done) - 1).exists():
            done.pop()
        return done

    def _record_path(self, window: int) -> Path:
        return self.folder / f"{window:06d}.json"

    def _tail_path(self, window: int) -> Path:
        return self.folder / f"{window:06d}.tail.safetensors"


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files)
