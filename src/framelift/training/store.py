"""The clips of a training run.

Files are decoded once into a cache and then read by memory map; the clips of a dataset by name,
small and many, are read or made as they are needed.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock

from framelift.datasets import Source, open_dataset
from framelift.errors import InputError
from framelift.files import part_path, publish, write_json
from framelift.images import STILLS, read_picture
from framelift.ops.resize import resize
from framelift.training.motion import PATHS, MovingStill
from framelift.training.settings import SourceSettings
from framelift.video.faults import make_folder, writing
from framelift.video.read import VideoReader


class Frames(Protocol):
    """Frames uint8 `[T, H, W, 3]`, read where they are indexed; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: tuple[slice, ...], /) -> np.ndarray: ...


@dataclass(frozen=True)
class Clip:
    """Frames, how often to sample them, and whether only to validate on them."""

    name: str
    frames: Frames
    weight: float
    held_out: bool = False


@dataclass(frozen=True)
class StoredFrames:
    """Frames in a `.npy` file. Only its path travels to another process."""

    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return self._open().shape

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        return self._open()[key]

    def _open(self) -> np.ndarray:
        return np.lib.format.open_memmap(self.path, mode="r")


@dataclass(frozen=True)
class LazyFrames:
    """A source's frames, decoded where they are indexed."""

    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.source), *self.source.size, 3)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        times, *places = key
        return np.stack(list(self.source.frames(times.start, times.stop)))[:, *places]


def open_store(
    root: Path,
    sources: Iterable[SourceSettings],
    cache: Path,
    say: Callable[[str], None] = lambda line: None,
) -> list[Clip]:
    """Open every clip that `sources` name below `root`, decoding files not yet in `cache`.

    Several processes may call this at once: each file is decoded by one of them, and the others
    wait. `say` hears what was wrong with a file and was repaired.
    """
    clips: list[Clip] = []
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
            frames = StoredFrames(_decoded(file, source, cache, say) / "frames.npy")
            clips += _clips_of(file, frames, source)
    return clips


def _clips_of(file: Path, frames: StoredFrames, source: SourceSettings) -> Iterator[Clip]:
    """A video as it is; a still picture, where `motion` is wanted, seen by some moving cameras."""
    count, height, width = frames.shape[:3]
    size = (max(count, source.motion) * height * width / 1e6) ** 0.5 * source.weight
    if not source.motion or count > 1:
        yield Clip(file.stem, frames, size)
        return
    for n in range(PATHS):
        yield Clip(file.stem, MovingStill(frames, source.motion, n), size / PATHS)


def _dataset_clips(root: Path, source: SourceSettings) -> Iterator[Clip]:
    """The clips of a dataset's training and validation splits, all equally often."""
    for split, held_out in ((source.split, False), (source.holdout_split, True)):
        if held_out and not split:
            continue
        for clip in open_dataset(source.dataset, root / source.folder, split or None).clips:
            if clip.gt is not None:
                frames = LazyFrames(clip.gt)
                yield Clip(f"{split}/{clip.name}", frames, source.weight, held_out)


def _decoded(file: Path, source: SourceSettings, cache: Path, say: Callable[[str], None]) -> Path:
    """The folder of a file's frames, which is there when this returns."""
    folder = cache / f"{file.stem}-{_key(file, source)}"
    if not (folder / "clip.json").exists():
        make_folder(cache)
        with FileLock(cache / f".{folder.name}.lock"):
            if not (folder / "clip.json").exists():
                _decode_into(folder, file, source, say)
    return folder


def _key(file: Path, source: SourceSettings) -> str:
    parts = [file] if file.is_file() else [p for p in file.iterdir() if p.is_file()]
    size = sum(p.stat().st_size for p in parts)
    facts = f"{file.name} {size} {source.stride} {source.shrink}"
    return hashlib.sha256(facts.encode()).hexdigest()[:10]


def _decode_into(
    folder: Path, file: Path, source: SourceSettings, say: Callable[[str], None]
) -> None:
    part = part_path(folder)
    with writing(folder):
        part.mkdir(parents=True)
    try:
        frames = (_shrink(f, source.shrink) for f in _decode(file, source.stride, say))
        shape = _write_array(part / "frames.npy", frames, folder)
        if shape[0] == 0:
            raise InputError(f"{file} has no frames.", "Remove it from the training clips.")
        with writing(folder):
            write_json(part / "clip.json", {"name": file.name, "shape": shape})
            publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_array(path: Path, frames: Iterable[np.ndarray], folder: Path) -> tuple[int, ...]:
    """Write frames one by one as an array `[T, H, W, 3]`; returns its shape.

    NumPy leaves room in a header for the first axis to grow, so that it can be written again.
    """
    count, size = 0, (0, 0, 0)
    with path.open("wb") as stream:
        for frame in frames:
            with writing(folder):
                if count == 0:
                    size = (frame.shape[0], frame.shape[1], 3)
                    _write_header(stream, (0, *size))
                if frame.shape != size:
                    sizes = " and ".join(f"{s[1]}×{s[0]}" for s in (size, frame.shape))
                    raise InputError(
                        f"{folder.name} has frames of {sizes} pixels.",
                        "All frames of a training clip must have the same size.",
                    )
                stream.write(np.ascontiguousarray(frame).data)
            count += 1
        stream.seek(0)
        _write_header(stream, (count, *size))
    return (count, *size)


def _write_header(stream: Any, shape: tuple[int, ...]) -> None:
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, facts)


def _decode(file: Path, stride: int, say: Callable[[str], None]) -> Iterator[np.ndarray]:
    if file.suffix.lower() in STILLS:
        yield read_picture(file)
        return
    reader = VideoReader(file)
    for frame in reader:
        if frame.index % stride == 0:
            rgb = frame.rgb()
            yield rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)
    for warning in reader.report.warnings:
        say(f"warning: {file.name}: {warning}")


def _shrink(frame: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return frame
    height, width = (side // factor * factor for side in frame.shape[:2])
    x = torch.from_numpy(frame[:height, :width].copy()).permute(2, 0, 1).float()
    small = resize(x, (height // factor, width // factor))
    return small.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
