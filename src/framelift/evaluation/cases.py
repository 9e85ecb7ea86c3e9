"""The clips of an evaluation: from a dataset, or by matching folders of finished clips by name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from framelift.datasets import open_dataset, open_source
from framelift.datasets.base import Clip, Dataset, Source
from framelift.errors import InputError, UsageError
from framelift.evaluation.frames import View, whole
from framelift.evaluation.settings import EvaluateSettings
from framelift.video.sequence import SUFFIXES

T = TypeVar("T")
OUTPUT_NAME = re.compile(r"(_lr)?(_(\d+(\.\d+)?x|\d+p))?$")  # of `framelift degrade`, `upscale`


@dataclass(frozen=True)
class Case:
    """One clip. `gt` and `lr` show the same part of it; `lr` is None where a recipe makes it.

    `measured` are the frames whose values count, None for all. `sr` holds finished results by
    method, where they are given. `still` says how often the one frame stands in a row that the
    clip consists of, None for clips as they are.
    """

    name: str
    scale: int
    gt: View | None = None
    lr: View | None = None
    sr: Mapping[str, View] = field(default_factory=dict)
    measured: tuple[int, ...] | None = None
    still: int | None = None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return next(v for v in (self.gt, self.lr, *self.sr.values()) if v is not None).frames


def dataset_cases(
    dataset: Dataset, settings: EvaluateSettings, recipe_scale: int | None
) -> list[Case]:
    """The clips of a dataset. `recipe_scale` is that of the degradation to use, None where the
    dataset's own LR frames are to be used."""
    clips = _chosen(settings.clips, {clip.name: clip for clip in dataset.clips}, dataset.root)
    return [_dataset_case(clip, settings, recipe_scale) for clip in clips.values()]


def _dataset_case(clip: Clip, settings: EvaluateSettings, recipe_scale: int | None) -> Case:
    gt = whole(clip.gt, settings.frames) if clip.gt is not None else None
    lr = None
    if recipe_scale is None and clip.lr is not None:
        lr = whole(clip.lr, settings.frames)
    elif gt is None:
        raise InputError(
            f"The clip {clip.name} has no ground truth to degrade.", "Leave out --recipe."
        )
    if gt is not None and lr is not None:
        _check_counts(clip.name, {"ground truth": gt, "low-resolution clip": lr})
        scale = _ratio(clip.name, gt, lr)
    else:
        scale = recipe_scale or settings.scale or 4
    if gt is not None and lr is None:
        gt = replace(gt, box=(0, 0, *(side // scale * scale for side in gt.size)))
    case = _cropped(Case(clip.name, scale, gt, lr, measured=clip.measured), settings.crop)
    if settings.still:
        gt, lr = (v.still(settings.still) if v else None for v in (case.gt, case.lr))
        return replace(case, gt=gt, lr=lr, measured=None, still=settings.still)
    if case.measured is None:
        return case
    measured = tuple(i for i in case.measured if i < case.frames)
    if not measured:
        raise UsageError(
            f"--frames {settings.frames} leaves out the frames of {clip.name} that count.",
            "Use more frames.",
        )
    return replace(case, measured=measured)


def finished_cases(settings: EvaluateSettings) -> list[Case]:
    """The clips of --sr, --gt and --lr, matched by name."""
    folders = _labelled(settings.sr)
    where = settings.gt or next(iter(folders.values()))
    reference = _clips(where)
    alone = next(iter(reference)) if len(reference) == 1 else None
    results = {label: _clips(path, alone) for label, path in folders.items()}
    low = _clips(settings.lr, alone) if settings.lr else {}
    cases = []
    for name, source in _chosen(settings.clips, reference, where).items():
        sr = {
            label: whole(_match(name, clips, folders[label]), settings.frames)
            for label, clips in results.items()
        }
        gt = whole(source, settings.frames) if settings.gt else None
        lr = whole(_match(name, low, settings.lr), settings.frames) if settings.lr else None
        cases.append(_finished_case(name, sr, gt, lr, settings))
    return cases


def _finished_case(
    name: str, sr: dict[str, View], gt: View | None, lr: View | None, settings: EvaluateSettings
) -> Case:
    high = {**({"ground truth": gt} if gt else {}), **sr}
    _check_counts(name, {**high, **({"low-resolution clip": lr} if lr else {})})
    first, view = next(iter(high.items()))
    for label, other in high.items():
        if other.size != view.size:
            raise InputError(
                f"Clip {name}: {first} is {_shape(view)}, {label} is {_shape(other)}.",
                "Results and ground truth must have the same size: crop or upscale again.",
            )
    scale = _ratio(name, view, lr) if lr else settings.scale or 4
    return _cropped(Case(name, scale, gt, lr, sr), settings.crop)


def _cropped(case: Case, crop: int | None) -> Case:
    """The central square of every view of a case."""
    if crop is None:
        return case
    views = [v for v in (case.gt, *case.sr.values()) if v is not None]
    if not views:
        lr = case.lr.center(max(1, crop // case.scale), 1) if case.lr else None
        return replace(case, lr=lr)
    multiple = case.scale if case.lr or case.gt else 1
    box = views[0].center(crop, multiple).box
    if 0 in box[2:]:
        raise UsageError(f"--crop {crop} is smaller than the scale.", "Use a larger crop.")
    gt = replace(case.gt, box=box) if case.gt else None
    sr = {label: replace(v, box=box) for label, v in case.sr.items()}
    part = replace(views[0], box=box)
    lr = part.shrunk(case.lr, case.scale) if case.lr else None
    return replace(case, gt=gt, lr=lr, sr=sr)


def _ratio(name: str, high: View, low: View) -> int:
    ratio = high.size[0] // max(1, low.size[0])
    if ratio < 1 or (low.size[0] * ratio, low.size[1] * ratio) != high.size:
        raise InputError(
            f"Clip {name}: {_shape(high)} is no whole multiple of {_shape(low)}.",
            "Low and high resolution must differ by a whole factor: crop one of them.",
        )
    return ratio


def _check_counts(name: str, views: Mapping[str, View]) -> None:
    first, view = next(iter(views.items()))
    for label, other in views.items():
        if other.frames != view.frames:
            raise InputError(
                f"Clip {name}: {first} has {view.frames} frames, {label} has {other.frames}.",
                "Both must show the same frames; --frames N compares the first N only.",
            )


def _labelled(words: Sequence[Path]) -> dict[str, Path]:
    """Folders by label: name=folder, or the folder's own name."""
    found: dict[str, Path] = {}
    for word in words:
        label, equals, rest = str(word).partition("=")
        if equals and not rest:
            raise UsageError(f"--sr {word} names no folder.", "Write name=folder.")
        path = Path(rest) if equals and not word.exists() else word
        label = label if equals and path is not word else path.resolve().name
        if label in found:
            raise UsageError(
                f"Two folders of results are called {label!r}.", "Name them: --sr one=a/x two=b/x"
            )
        found[label] = path
    return found


def _clips(path: Path, alone: str | None = None) -> dict[str, Source]:
    """The clips that a path stands for: videos and folders of frames in a folder, or one of these.

    One clip that is named itself takes the name `alone`, if that is given.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Check the name.")
    if path.is_file() or any(p.suffix.lower() in SUFFIXES for p in path.iterdir()):
        return {alone or path.resolve().stem: open_source(path)}
    clips = open_dataset("folder", path).clips
    return {clip.name: clip.gt for clip in clips if clip.gt is not None}


def _match(name: str, clips: Mapping[str, Source], where: Path) -> Source:
    """The clip of that name, or what `framelift degrade` and `framelift upscale` make of it."""
    for other in (name, *clips):
        if other in clips and name in (other, OUTPUT_NAME.sub("", other)):
            return clips[other]
    raise InputError(
        f"{where} holds no clip {name!r}; it holds {_few(clips)}.",
        "Clips are matched by name: rename them, or choose others with --clips.",
    )


def _chosen(names: Sequence[str], clips: Mapping[str, T], where: Path) -> dict[str, T]:
    """The clips asked for, all if none is."""
    for name in names:
        if name not in clips:
            raise UsageError(f"{where} holds no clip {name!r}.", f"It holds {_few(clips)}.")
    return {name: clip for name, clip in clips.items() if not names or name in names}


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _shape(view: View) -> str:
    return f"{view.size[1]}×{view.size[0]}"
