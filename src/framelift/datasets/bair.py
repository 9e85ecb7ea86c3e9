"""BAIR robot pushing (Ebert et al. 2017), 64×64: `softmotion30_44k/{train,test}/*.tfrecords`."""

import re
from functools import partial
from pathlib import Path

import numpy as np

from framelift.datasets.base import ArraySource, Clip
from framelift.datasets.layout import Found
from framelift.datasets.tfrecord import bytes_features, read_record, scan
from framelift.errors import InputError

FRAMES, SIDE = 30, 64
FOLDER = "softmotion30_44k"
COUNTS = {"test": 256, "train": 43_264}
"""Published trajectories. Three ten-frame pieces of each are the 130K clips of VDM-VSR (§IV-B)."""
_NAME = re.compile(r"traj_(\d+)_to_(\d+)\.tfrecords")


def read_bair(root: Path, split: str, camera: str = "aux1") -> Found:
    """The trajectories of a split as seen by `camera` (aux1 or main)."""
    folder = next((f for f in (root / FOLDER / split, root / split) if f.is_dir()), None)
    files = sorted(folder.glob("*.tfrecords"), key=_first) if folder else []
    if not files:
        raise InputError(
            f"{root} does not hold BAIR robot pushing: there is no {FOLDER}/{split}/*.tfrecords.",
            "Unpack bair_robot_pushing_dataset_v0.tar and name the folder it makes.",
        )
    clips, problems = [], []
    for file in files:
        offsets = scan(file)
        match = _NAME.fullmatch(file.name)
        first = _first(file)
        if match is None or int(match[2]) - first + 1 != len(offsets):
            problems.append(f"{file.name} holds {len(offsets)} trajectories, unlike its name.")
        for number, offset in enumerate(offsets, start=first):
            load = partial(read_trajectory, file, offset, camera)
            clips.append(Clip(f"{number:05d}", ArraySource((file,), (FRAMES, SIDE, SIDE), load)))
    deviations = []
    if len(clips) != COUNTS[split]:
        deviations = [f"There are {len(clips)} trajectories; published are {COUNTS[split]}."]
    where = f"{files[0].parent.relative_to(root).as_posix()}/*.tfrecords, camera {camera}"
    return Found(tuple(clips), where, tuple(problems), tuple(deviations))


def read_trajectory(file: Path, offset: int, camera: str) -> np.ndarray:
    """The frames of one record, uint8 `[30, 64, 64, 3]` RGB; they are stored raw, not as JPEG."""
    features = bytes_features(read_record(file, offset))
    frames = [features.get(f"{i}/image_{camera}/encoded", b"") for i in range(FRAMES)]
    if any(len(frame) != SIDE * SIDE * 3 for frame in frames):
        raise InputError(
            f"The record at byte {offset} of {file} is not a BAIR trajectory: it lacks "
            f"{FRAMES} raw {SIDE}×{SIDE} frames of image_{camera}.",
            "Use the 64×64 dataset, softmotion30_44k.",
        )
    return np.frombuffer(b"".join(frames), np.uint8).reshape(FRAMES, SIDE, SIDE, 3)


def _first(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    return int(match[1]) if match else 0
