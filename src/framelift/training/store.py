"""The clips of a training run.

Files are decoded once into a cache and then read by memory map; the clips of a dataset by name,
small and many, are read or made as they are needed.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framelift.datasets import Source, open_dataset
from framelift.errors import InputError
from framelift.files import part_path, publish, read_json, write_json
from framelift.images import STILLS, read_picture
from framelift.ops.resize import resize
from framelift.training.data_settings import SourceSettings
from framelift.video.read import VideoReader


@dataclass(frozen=True)
class Clip:
    """Frames uint8 `[T, H, W, 3]`, how often to sample them, and whether only to validate on them.

    `frames` is an array on the disk, or a `LazyFrames`, which is read when it is indexed.
    """

    name: str
    frames: Any
    weight: float
    held_out: bool = False


class LazyFrames:
    """A source's frames with the part of an array's interface that cropping needs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.shape = (len(source), *source.size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        times, *places = key
        return np.stack(list(self.source.frames(times.start, times.stop)))[:, *places]


def open_store(root: Path, sources: tuple[SourceSettings, ...], cache: Path) -> list[Clip]:
    """Open every clip that `sources` name below `root`, decoding files not yet in `cache`."""
    clips = []
    for source in sources:
        if source.dataset:
            clips += _dataset_clips(root, source)
            continue
        files = sorted(root.glob(source.glob))
        if not files:
            raise InputError(
                f"No file below {root} matches {source.glob!r}.",
                "Pass the folder that holds the training clips with --data.",
            )
        for file in files:
            folder = cache / f"{file.stem}-{_key(file, source)}"
            if not (folder / "clip.json").exists():
                _decode_into(folder, file, source)
            frames = np.load(folder / "frames.npy", mmap_mode="r")
            size = (frames.shape[0] * frames.shape[1] * frames.shape[2] / 1e6) ** 0.5
            clips.append(Clip(file.stem, frames, source.weight * size))
    return clips


def _dataset_clips(root: Path, source: SourceSettings) -> Iterator[Clip]:
    """The clips of a dataset's training and validation splits, all equally often."""
    for split, held_out in ((source.split, False), (source.holdout_split, True)):
        if held_out and not split:
            continue
        for clip in open_dataset(source.dataset, root / source.folder, split or None).clips:
            if clip.gt is not None:
                frames = LazyFrames(clip.gt)
                yield Clip(f"{split}/{clip.name}", frames, source.weight, held_out)


def describe(cache: Path) -> list[dict[str, object]]:
    """What a store holds, for the record of a run."""
    return [read_json(p) for p in sorted(cache.glob("*/clip.json"))]


def _key(file: Path, source: SourceSettings) -> str:
    parts = [file] if file.is_file() else [p for p in file.iterdir() if p.is_file()]
    size = sum(p.stat().st_size for p in parts)
    facts = f"{file.name} {size} {source.stride} {source.shrink}"
    return hashlib.sha256(facts.encode()).hexdigest()[:10]


def _decode_into(folder: Path, file: Path, source: SourceSettings) -> None:
    part = part_path(folder)
    part.mkdir(parents=True)
    try:
        frames = np.stack([_shrink(f, source.shrink) for f in _decode(file, source.stride)])
        np.save(part / "frames.npy", frames)
        write_json(part / "clip.json", {"name": file.name, "shape": frames.shape})
        publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _decode(file: Path, stride: int) -> Iterator[np.ndarray]:
    if file.suffix.lower() in STILLS:
        yield read_picture(file)
        return
    for frame in VideoReader(file):
        if frame.index % stride == 0:
            rgb = frame.rgb()
            yield rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)


def _shrink(frame: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return frame
    height, width = (side // factor * factor for side in frame.shape[:2])
    x = torch.from_numpy(frame[:height, :width].copy()).permute(2, 0, 1).float()
    small = resize(x, (height // factor, width // factor))
    return small.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
