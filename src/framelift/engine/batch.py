"""Many inputs: which they are, what each becomes, and that one cannot harm the others. No torch."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from framelift.engine.job import default_output, read_record, record_path
from framelift.engine.settings import UpscaleSettings
from framelift.errors import FrameliftError, InputError, UsageError
from framelift.video.containers import VIDEO_SUFFIXES
from framelift.video.faults import make_folder
from framelift.video.probe import probe
from framelift.video.stills import SUFFIXES as PICTURE_SUFFIXES


@dataclass(frozen=True)
class Item:
    """One input of a batch. Without an `output`, `problem` says why; `done` if it needs nothing."""

    source: Path
    output: Path | None = None
    done: bool = False
    problem: FrameliftError | None = None


def collect_inputs(paths: Sequence[Path]) -> list[Path]:
    """Inputs of a batch: a folder of videos stands for its videos and the photos beside them, one
    of images alone for itself.

    What framelift has made of another input of the same folder is none.
    """
    inputs: list[Path] = []
    for path in paths:
        found = list(_media(path)) if path.is_dir() else []
        made = set(_results_of(found))
        inputs.extend([f for f in found if f not in made] or [path])
    if not inputs:
        raise InputError("There is no input.", "Name a video, a folder or an image sequence.")
    return list({os.path.realpath(path): path for path in inputs}.values())


def folders_left_out(paths: Sequence[Path]) -> list[Path]:
    """The folders inside the folders of a batch: they are not entered."""
    inside = (p for path in paths if path.is_dir() for p in sorted(path.iterdir()))
    return [p for p in inside if p.is_dir() and p.suffix != ".framelift" and p.name[0] != "."]


def _media(folder: Path) -> Iterator[Path]:
    """The videos of a folder, with the pictures beside them; nothing if there are only pictures,
    which are a sequence."""
    shown = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if any(p.suffix.lower() in VIDEO_SUFFIXES for p in shown):
        yield from (p for p in shown if p.suffix.lower() in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES))


def _results_of(videos: Sequence[Path]) -> Iterator[Path]:
    """Those that a record beside them calls the output of a run on another one of them."""
    there = {os.path.realpath(video) for video in videos}
    for video in videos:
        record = read_record(video)
        if record is not None and os.path.realpath(record.get("input", "")) in there:
            yield video


def plan_batch(
    sources: Sequence[Path], folder: Path | None, settings: UpscaleSettings, scale: float
) -> list[Item]:
    """What every source of a batch becomes, beside it or in `folder`, which is made.

    Outputs that would have the same name are told apart by their sources' folders or suffixes. A
    finished output of the same source is not made again unless `settings.overwrite`.
    """
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                f"Several inputs cannot all become {folder}.", "Name a folder as --output."
            )
        make_folder(folder)
    items = [_item(source, folder, settings, scale) for source in sources]
    names = Counter(os.path.realpath(item.output) for item in items if item.output)
    taken: set[str] = set()
    planned = []
    for item in items:
        if item.output is not None:
            output = item.output
            if names[os.path.realpath(output)] > 1:
                output = _told_apart(item.source, output, taken)
            taken.add(os.path.realpath(output))
            item = Item(item.source, output, _is_done(item.source, output, settings))
        planned.append(item)
    return planned


def _item(source: Path, folder: Path | None, settings: UpscaleSettings, scale: float) -> Item:
    try:
        output = default_output(
            source, probe(source, scale=settings.scale or scale), settings, scale
        )
    except FrameliftError as error:
        return Item(source, problem=error)
    return Item(source, output if folder is None else folder / output.name)


def _told_apart(source: Path, output: Path, taken: set[str]) -> Path:
    """`clip_avi_4x.mkv` for `clip.avi`; with its folder's name, then a number, if that is taken."""
    rest = output.stem.removeprefix(source.stem)
    suffix = source.suffix.removeprefix(".")
    inner = f"{source.stem}_{suffix}" if suffix else source.stem
    names = [f"{inner}{rest}", f"{source.resolve().parent.name}_{inner}{rest}"]
    names += [f"{names[-1]}_{n}" for n in range(2, len(taken) + 3)]
    choices = (output.with_name(f"{name}{output.suffix}") for name in names)
    return next(path for path in choices if os.path.realpath(path) not in taken)


def _is_done(source: Path, output: Path, settings: UpscaleSettings) -> bool:
    """Whether an earlier run has made `output` of this very source, and nothing is to be redone."""
    if settings.overwrite or settings.restart or not output.exists():
        return False
    record = read_record(output)
    if record is None or os.path.realpath(record.get("input", "")) != os.path.realpath(source):
        return False
    return source.stat().st_mtime <= record_path(output).stat().st_mtime
