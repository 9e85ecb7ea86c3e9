"""Moving MNIST (Srivastava et al. 2015): made from MNIST by rule, or the published test file.

Digits of 28×28 pixels move with constant speed over a black canvas and bounce off its borders;
where they overlap, the brighter pixel shows. VDM-VSR (§IV-A) trains on 20,000 clips of 10 frames;
the split "many" has ten times as many of the same digits.
"""

import gzip
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from framelift.datasets.base import ArraySource, Clip
from framelift.datasets.layout import Found
from framelift.errors import InputError, UsageError

DIGIT = 28
CLIPS = {"test": 10_000, "train": 20_000, "val": 10_000, "many": 200_000}
TEST_FILE = "mnist_test_seq.npy"
_IMAGES = {
    "train": ("train-images", 60_000),
    "val": ("t10k-images", 10_000),
    "many": ("train-images", 60_000),
}


class MovingMNIST:
    """Clip i is a function of (seed, split, i) alone; its first frames do not depend on `frames`.

    `split` "train" and "many" draw digits from MNIST's training images, "val" from its test
    images. `step` is the distance of one frame as a fraction of the free range, `size` − 28 pixels.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        frames: int = 10,
        size: int = 64,
        digits: int = 2,
        seed: int = 0,
        step: float = 0.1,
    ) -> None:
        if split not in _IMAGES:
            raise UsageError(
                f"Moving MNIST cannot make the split {split!r}.", "Use train, val or many."
            )
        if size < DIGIT or frames < 1 or digits < 1:
            raise UsageError(
                f"{digits} digits, {frames} frames and {size} pixels make no clip.",
                f"Use at least one digit, one frame and {DIGIT} pixels.",
            )
        self.path = _find_images(root, split)
        self.images = read_idx_images(self.path)
        self.split, self.frames, self.size, self.digits = split, frames, size, digits
        self.seed, self.step = seed, step

    def __len__(self) -> int:
        return CLIPS[self.split]

    def __getitem__(self, index: int) -> np.ndarray:
        """Clip `index` as uint8 `[T, H, W]`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.make([index])[0]

    def make(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The clips of these indices as uint8 `[N, T, H, W]`: many at once cost less."""
        split = list(_IMAGES).index(self.split)
        numbers = np.empty((len(indices), self.digits), int)
        starts, angles = np.empty((*numbers.shape, 2)), np.empty(numbers.shape)
        for n, index in enumerate(indices):
            rng = np.random.default_rng([self.seed, split, int(index)])
            for d in range(self.digits):
                numbers[n, d] = rng.integers(len(self.images))
                starts[n, d], angles[n, d] = rng.random(2), rng.uniform(0, 2 * np.pi)
        places = trajectories(starts, angles, self.frames, self.step) * (self.size - DIGIT)
        clips = np.zeros((len(indices), self.frames, self.size, self.size), np.uint8)
        for n, clip in enumerate(clips):
            for number, path in zip(numbers[n], places[n].astype(int).tolist(), strict=True):
                for frame, (y, x) in zip(clip, path, strict=True):
                    window = frame[y : y + DIGIT, x : x + DIGIT]
                    np.maximum(window, self.images[number], out=window)
        return clips


def trajectories(starts: np.ndarray, angles: np.ndarray, frames: int, step: float) -> np.ndarray:
    """Positions `[..., T, 2]` (y, x) in [0, 1] from `starts` `[..., 2]`, one step before frame 0.

    `angles` `[...]` are the first directions; at the borders digits bounce.
    """
    place = starts
    velocity = step * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    places = []
    for _ in range(frames):
        place = place + velocity
        velocity = np.where((place <= 0) | (place >= 1), -velocity, velocity)
        place = place.clip(0, 1)
        places.append(place)
    return np.stack(places, axis=-2)


MAKERS = {split: partial(MovingMNIST, split=split) for split in _IMAGES}


def read_moving_mnist(root: Path, split: str) -> Found:
    """The published test file, 10,000 clips of 20 frames, or clips of 10 frames made on demand."""
    if split == "test":
        return _read_test(root)
    made = MovingMNIST(root, split)
    shape = (made.frames, made.size, made.size)
    clips = [
        Clip(f"{i:05d}", ArraySource((made.path,), shape, partial(_color, made, i)))
        for i in range(len(made))
    ]
    expected = _IMAGES[split][1]
    deviations = (
        (f"There are {len(made.images)} digits; published are {expected}.",)
        if len(made.images) != expected
        else ()
    )
    return Found(tuple(clips), f"made from {made.path.name}", (), deviations)


def _read_test(root: Path) -> Found:
    path = root / TEST_FILE
    if not path.is_file():
        raise InputError(
            f"{root} does not hold {TEST_FILE}.",
            "Download it, or make clips from MNIST's files with --split train or val.",
        )
    try:
        videos = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a NumPy file.", "Download it again.") from error
    if videos.ndim != 4 or videos.dtype != np.uint8:
        raise InputError(
            f"{path} holds {videos.dtype} {list(videos.shape)}, not uint8 [20, 10000, 64, 64].",
            "Download it again.",
        )
    frames, count, height, width = videos.shape
    clips = [
        Clip(f"{i:05d}", ArraySource((path,), (frames, height, width), partial(_column, videos, i)))
        for i in range(count)
    ]
    wrong = videos.shape != (20, CLIPS["test"], 64, 64)
    deviations = (f"{TEST_FILE} is {list(videos.shape)}; published is [20, 10000, 64, 64].",)
    return Found(tuple(clips), TEST_FILE, (), deviations if wrong else ())


def _color(made: MovingMNIST, index: int) -> np.ndarray:
    return np.repeat(made[index][..., None], 3, axis=3)


def _column(videos: np.ndarray, index: int) -> np.ndarray:
    return np.repeat(videos[:, index, ..., None], 3, axis=3)


def _find_images(root: Path, split: str) -> Path:
    name = _IMAGES[split][0]
    for folder in (root, root / "raw", root / "MNIST" / "raw"):
        for file in (f"{name}-idx3-ubyte", f"{name}.idx3-ubyte"):
            for path in (folder / f"{file}.gz", folder / file):
                if path.is_file():
                    return path
    raise InputError(
        f"{root} does not hold MNIST: there is no {name}-idx3-ubyte.gz.",
        "Name the folder with MNIST's four files.",
    )


def read_idx_images(path: Path) -> np.ndarray:
    """The images of an MNIST file in IDX format, gzipped or not: uint8 `[N, 28, 28]`."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Download it again.") from error
    magic, count, height, width = (int.from_bytes(data[i : i + 4]) for i in range(0, 16, 4))
    if magic != 0x803 or (height, width) != (DIGIT, DIGIT) or len(data) != 16 + count * DIGIT**2:
        raise InputError(f"{path} is not a whole file of MNIST images.", "Download it again.")
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, DIGIT, DIGIT)
