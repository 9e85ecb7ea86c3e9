"""What an interrupted run leaves behind, so that the same command continues it.

A folder beside the output holds `settings.json`, one segment per finished window in the final
codec, the float tail that the next window cross-fades with, and for each window a record, written
last: a window without a record does not exist. Records hold checksums, so that what the disk has
lost is computed again. Windows may be finished in any order: a tail stays until the window behind
it is recorded.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from framelift.errors import UsageError
from framelift.files import atomic, read_json, sha256, write_json
from framelift.video.faults import reason, writing
from framelift.video.write import Segment

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".framelift"
_OURS = re.compile(
    r"settings\.json|published\.json|\d{6}(\.json|\.mkv|\.(tail|held)\.safetensors)?|\..*\.part.*"
)


def journal_folder(output: Path) -> Path:
    """Where the journal of an output lies."""
    return output.with_name(output.name + SUFFIX)


def check_journal(output: Path) -> None:
    """Refuse to keep a journal in a folder that is the user's own."""
    folder = journal_folder(output)
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or any(not _OURS.fullmatch(p.name) for p in folder.iterdir()):
        raise UsageError(
            f"{folder} is in the way of the notes on a run, and not one of framelift's.",
            "Move it away, or choose another --output.",
        )


def is_published(output: Path) -> bool:
    """Whether `output` is what a run published just before it was killed."""
    try:
        return read_json(journal_folder(output) / "published.json")["file"] == _identity(output)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _identity(path: Path) -> list[int]:
    """What stays the same when a file is renamed, and is another's if it is replaced."""
    facts = path.stat()
    return [facts.st_dev, facts.st_ino]


@dataclass(frozen=True)
class Done:
    """A finished window: its segment, the tile side it was computed with, whether it has a tail."""

    segment: Segment
    tile: int
    has_tail: bool


class Journal:
    """The journal of one output, locked against a second process while it is open."""

    def __init__(self, output: Path) -> None:
        self.output, self.folder = output, journal_folder(output)
        self._lock = FileLock(output.with_name(f".{output.name}.lock"), timeout=0)
        self._relative: Path | None = None
        self.done: dict[int, Done] = {}

    def __enter__(self) -> "Journal":
        try:
            self._lock.acquire()
        except Timeout:
            raise UsageError(
                f"Another process is already writing {self.output}.",
                "Wait for it, or choose another --output.",
            ) from None
        except OSError as error:
            raise UsageError(
                f"{self._lock.lock_file} cannot be locked: {reason(error)}.",
                "Remove it, or choose another --output.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def previous(self) -> dict[str, Any] | None:
        """The settings of an interrupted run, if there is one that can be read."""
        record = self.folder / "settings.json"
        try:
            found = read_json(record)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged() from error
        if not isinstance(found, dict):
            raise self._damaged()
        return found

    def relative(self, source: Path) -> dict[str, Any] | None:
        """The settings of an unfinished run on `source` whose output differs in its suffix only.

        Such a run may have failed to finish because of its container; `open` takes its windows
        over if all settings are the same.
        """
        if self.folder.exists() or not self.output.suffix:
            return None
        for folder in sorted(self.output.parent.glob(f"{escape(self.output.stem)}.*{SUFFIX}")):
            name = Path(folder.name.removesuffix(SUFFIX))
            try:
                found = Journal(folder.with_name(name.name)).previous()
                same = found is not None and found.get("input") == sha256(source)
            except (OSError, UsageError):
                continue
            if same and name.stem == self.output.stem and name.suffix:
                self._relative = folder
                return found
        return None

    def _inherit(self, settings: Mapping[str, Any]) -> None:
        """Move the windows of the relative here, unless it is another run or still going on."""
        if self._relative is None or self.folder.exists():
            return
        other = Journal(self._relative.with_name(self._relative.name.removesuffix(SUFFIX)))
        try:
            with other:
                if other.previous() == settings:
                    other.folder.rename(self.folder)
        except UsageError:
            pass  # another process writes it

    def _damaged(self) -> UsageError:
        return UsageError(
            f"{self.folder} holds an unfinished run whose settings are damaged.",
            "It cannot be continued: pass --restart to throw it away.",
        )

    def open(
        self,
        settings: Mapping[str, Any],
        restart: bool,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start, or continue a run with the same settings; refuse one with others.

        `warn` hears of finished windows that the disk has lost.
        """
        if restart:
            self.discard()
        else:
            self._inherit(settings)
        previous = self.previous()
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
            self.discard()
            with writing(self.folder):
                self.folder.mkdir(parents=True)
                write_json(self.folder / "settings.json", dict(settings))
        self.done = self._finished()
        if lost := len(list(self.folder.glob("[0-9]" * 6 + ".json"))) - len(self.done):
            warn(f"{lost} finished windows of the unfinished run are damaged; computed again.")

    def segment_path(self, window: int, images: bool) -> Path:
        """Where a window's segment is to be written."""
        return self.folder / (f"{window:06d}" if images else f"{window:06d}.mkv")

    def commit(self, window: int, segment: Segment, tail: "Tensor | None", tile: int) -> None:
        """Record a finished window whose segment is already on the disk."""
        if tail is not None:
            self.keep_tail(window, tail)
        with writing(self.folder):
            self._record(window, segment, tail is not None, tile)
        self.done[window] = Done(segment, tile, tail is not None)
        if window:
            self._tail_path(window - 1).unlink(missing_ok=True)

    def keep_tail(self, window: int, tail: "Tensor") -> None:
        """Store the frames that a window holds back for the next one."""
        from safetensors.torch import save

        with writing(self.folder), atomic(self._tail_path(window)) as part:
            part.write_bytes(save({"tail": tail.contiguous().cpu()}))

    def _record(self, window: int, segment: Segment, has_tail: bool, tile: int) -> None:
        write_json(
            self._record_path(window),
            {
                "segment": segment.path.name,
                "sha256": sha256(segment.path),
                "pts": segment.pts,
                "durations": segment.durations,
                "tail": sha256(self._tail_path(window)) if has_tail else None,
                "tile": tile,
            },
        )

    def tail(self, window: int) -> "Tensor | None":
        """The frames that a window holds back, `[T, 3, H, W]`; None if they are not there."""
        from safetensors.torch import load_file

        path = self._tail_path(window)
        return load_file(path)["tail"] if path.exists() else None

    def find(self, window: int) -> Done | None:
        """A recorded window, if its segment is what the record says; needs no `open`."""
        found = self._read(window)
        return found[0] if found else None

    def publishing(self, part: Path, record: Mapping[str, Any]) -> None:
        """Note that `part` is about to get the output's name, and what its record will say."""
        with writing(self.folder):
            write_json(
                self.folder / "published.json", {"file": _identity(part), "record": dict(record)}
            )

    def published(self) -> dict[str, Any]:
        """The record of an output that `is_published`."""
        return read_json(self.folder / "published.json")["record"]

    def discard(self) -> None:
        """Remove the journal; the settings last, so that what remains is recognised as ours."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name != "settings.json":
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            shutil.rmtree(self.folder, ignore_errors=True)
        self.done = {}

    def _finished(self) -> dict[int, Done]:
        done: dict[int, Done] = {}
        tails: dict[int, str | None] = {}
        for record in sorted(self.folder.glob("[0-9]" * 6 + ".json")):
            window = int(record.stem)
            if (found := self._read(window)) is not None:
                done[window], tails[window] = found
        # A window that is to be computed needs the tail before it: without one, that goes as well.
        for window in range(max(done, default=-1) + 1, 0, -1):
            tail = tails.get(window - 1)
            if window not in done and tail is not None and not self._has_tail(window - 1, tail):
                done.pop(window - 1, None)
        return done

    def _read(self, window: int) -> tuple[Done, str | None] | None:
        """A recorded window and its tail's checksum; None if it is missing or damaged."""
        try:
            facts = read_json(self._record_path(window))
            path = self.folder / facts["segment"]
            if path.parent != self.folder or sha256(path) != facts["sha256"]:
                return None
            pts, durations = ([int(v) for v in facts[name]] for name in ("pts", "durations"))
            tail = facts["tail"]
            if len(pts) != len(durations) or not isinstance(tail, str | None):
                return None
            done = Done(Segment(path, pts, durations), int(facts["tile"]), tail is not None)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return done, tail

    def _has_tail(self, window: int, checksum: str) -> bool:
        path = self._tail_path(window)
        return path.is_file() and sha256(path) == checksum

    def _record_path(self, window: int) -> Path:
        return self.folder / f"{window:06d}.json"

    def _tail_path(self, window: int) -> Path:
        return self.folder / f"{window:06d}.tail.safetensors"
