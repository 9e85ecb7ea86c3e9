"""The clips that are observed, restored and compared with."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framelift.datasets import open_dataset
from framelift.datasets.base import Clip, show_size
from framelift.datasets.catalog import find_spec
from framelift.errors import InputError
from framelift.papers.reproduce import STAND_IN, Request

Shape = tuple[int, int, int]
"""Frames, height, width."""


@dataclass(frozen=True)
class Reference:
    """A clip of high resolution, uint8 `[T, H, W, 3]` RGB."""

    name: str
    frames: np.ndarray

    @cached_property
    def signal(self) -> Tensor:
        """`[T, 3, H, W]` in [-1, 1]."""
        return torch.from_numpy(self.frames.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the frames."""
        return hashlib.sha256(self.frames.tobytes()).hexdigest()


def find_references(request: Request, count: int, shape: Shape) -> tuple[list[Reference], str]:
    """The data's first clips, cut to the prior's length and from the centre to its size; and what
    they are, in a sentence."""
    name, split, root = _source(request)
    dataset = open_dataset(name, root, split).pieces(shape[0])
    if len(dataset.clips) < count:
        raise InputError(
            f"{root} has {len(dataset.clips)} clips of {shape[0]} frames, {count} are needed.",
            f"Use less: --options references={max(1, len(dataset.clips))}",
        )
    found = [Reference(c.name, _frames(c, shape)) for c in dataset.clips[:count]]
    title = find_spec(name).title if name != STAND_IN else f"{root.name}, standing in"
    size = f"{shape[0]} frames of {show_size(shape[1:])}"
    which = f"first {count} clips" if count > 1 else "first clip"
    return found, f"Data: {title}, {dataset.split}, {which} of {size}."


def _source(request: Request) -> tuple[str, str | None, Path]:
    """Name, split and folder of the item's data, or of what stands in for it."""
    (data,) = request.item.data
    if data.name in request.roots:
        return data.name, data.split, request.roots[data.name]
    return STAND_IN, None, request.roots[STAND_IN]


def _frames(clip: Clip, shape: Shape) -> np.ndarray:
    assert clip.gt is not None
    frames = np.stack(list(clip.gt.frames()))
    height, width = frames.shape[1:3]
    if height < shape[1] or width < shape[2]:
        raise InputError(
            f"The clip {clip.name} is {show_size((height, width))}, smaller than the prior's "
            f"{show_size(shape[1:])}.",
            "Use larger clips, or a prior of smaller ones.",
        )
    top, left = (height - shape[1]) // 2, (width - shape[2]) // 2
    return frames[:, top : top + shape[1], left : left + shape[2]].copy()
