"""Whether a folder is what its name claims: every picture is decoded, sizes are compared."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from framelift.datasets.base import (
    Clip,
    ImageSource,
    Size,
    Source,
    choose,
    read_picture,
    show_size,
)
from framelift.datasets.catalog import find_spec
from framelift.datasets.layout import Spec, find_clips
from framelift.errors import InputError


@dataclass(frozen=True)
class Report:
    """What was found. `sizes` and `lr_sizes` count clips by "width×height"."""

    name: str
    root: str
    split: str
    where: str
    clips: int
    expected_clips: int | None
    frames: int
    frames_per_clip: tuple[int, int]
    """The fewest and the most."""
    sizes: dict[str, int]
    lr_sizes: dict[str, int]
    wrong: tuple[str, ...]
    """Sentences on everything that differs from the published dataset."""


@dataclass(frozen=True)
class _Look:
    """One clip, decoded."""

    frames: int
    gt: Size | None
    lr: Size | None
    wrong: list[str]


def check_dataset(
    name: str,
    root: Path,
    split: str | None = None,
    lr: str | None = None,
    quick: bool = False,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Compare a folder with the published dataset; `quick` decodes one frame of every clip.

    `on_clip` hears of every clip that is done. Raises InputError if nothing below `root` looks
    like the dataset.
    """
    spec = find_spec(name)
    split = choose(f"split of {name}", split, tuple(spec.splits))
    found = find_clips(spec, root, split, lr)
    looks = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for look in pool.map(partial(_look, spec, quick=quick), found.clips):
            looks.append(look)
            on_clip(len(looks), len(found.clips))
    lengths = [look.frames for look in looks]
    return Report(
        name=name,
        root=str(root),
        split=split,
        where=found.where,
        clips=len(found.clips),
        expected_clips=spec.expected_clips(split),
        frames=sum(lengths),
        frames_per_clip=(min(lengths, default=0), max(lengths, default=0)),
        sizes=_count(look.gt for look in looks),
        lr_sizes=_count(look.lr for look in looks),
        wrong=(*found.problems, *found.deviations, *(w for look in looks for w in look.wrong)),
    )


def _look(spec: Spec, clip: Clip, quick: bool) -> _Look:
    gt, wrong = _examine(clip.name, clip.gt, quick)
    lr, wrong_lr = _examine(f"{clip.name} (low resolution)", clip.lr, quick)
    wrong += wrong_lr
    expected = spec.expected_size(clip.name)
    if gt and expected and gt != expected:
        wrong.append(f"Clip {clip.name} is {show_size(gt)}; published is {show_size(expected)}.")
    if gt and lr and not _fits(gt, lr, spec.scale):
        small, large = show_size(lr), show_size(gt)
        rule = f"not {large} divided by {spec.scale}" if spec.scale else f"no whole part of {large}"
        wrong.append(f"Clip {clip.name}: {small} is {rule}.")
    return _Look(len(clip), gt, lr, wrong)


def _fits(gt: Size, lr: Size, scale: int | None) -> bool:
    """Whether `lr` is `gt`, cropped to a multiple of the scale, divided by it."""
    scale = scale or max(1, round(gt[0] / lr[0]))
    return lr == (gt[0] // scale, gt[1] // scale)


def _examine(name: str, source: Source | None, quick: bool) -> tuple[Size | None, list[str]]:
    """The commonest size of a clip's frames, and sentences on damaged and odd ones."""
    sizes: Counter[Size] = Counter()
    wrong = []
    for picture in _decode(source, quick) if source else ():
        if isinstance(picture, InputError):
            wrong.append(picture.problem)
        else:
            sizes[picture.shape[0], picture.shape[1]] += 1
    if len(sizes) > 1:
        wrong.append(f"Clip {name} mixes the sizes {', '.join(map(show_size, sizes))}.")
    return (sizes.most_common(1)[0][0] if sizes else None), wrong


def _decode(source: Source, quick: bool) -> Iterator[np.ndarray | InputError]:
    """Frames, or what is wrong with them; damaged pictures do not hide those after them."""
    stop = 1 if quick else None
    if not isinstance(source, ImageSource):
        try:
            yield from source.frames(0, stop)
        except InputError as error:
            yield error
        return
    for path in source.paths[:stop]:
        try:
            yield read_picture(path)
        except InputError as error:
            yield error


def _count(sizes: Iterator[Size | None]) -> dict[str, int]:
    return dict(Counter(show_size(size) for size in sizes if size))
