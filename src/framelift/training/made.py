"""Training batches of clips that are made by rule, in as little time as their pixels take.

A clip of Moving MNIST costs less to make than to read, cut and convert one by one: here a worker
makes those of a batch together, and they stay grey and in 8 bits until they are on the device.
"""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from framelift.datasets import Maker, find_maker
from framelift.errors import UsageError
from framelift.methods.base import Batch
from framelift.training.crops import Share
from framelift.training.settings import DataSettings

WHOLE = Share()


class MadeClips(Dataset[Batch]):
    """Batches as a function of (seed, index), shared by processes as `RandomCrops` shares them."""

    def __init__(
        self, maker: Maker, batch: int, seed: int, frames: int, share: Share = WHOLE
    ) -> None:
        if frames > maker.frames:
            raise UsageError(
                f"[data] frames is {frames}, and the clips have {maker.frames}.",
                f"Choose {maker.frames} or fewer.",
            )
        self.maker, self.batch, self.seed, self.frames = maker, batch, seed, frames
        self.share = share

    def __getitem__(self, index: int) -> Batch:
        """The `index`-th batch of this process; grey, in 8 bits (see `Batch`)."""
        step, first, stride = self.share.of(index)
        rng = np.random.default_rng([self.seed, step])
        whole = self.batch * stride
        clips = rng.integers(len(self.maker), size=whole)[first::stride]
        starts = rng.integers(self.maker.frames - self.frames + 1, size=whole)[first::stride]
        made = self.maker.make(clips)
        cut = [clip[t : t + self.frames] for clip, t in zip(made, starts, strict=True)]
        hr = torch.from_numpy(np.stack(cut))[:, :, None]
        return Batch(hr, hr)


def find_makers(root: Path, data: DataSettings) -> tuple[Maker, Maker] | None:
    """What makes clips to train on and to hold out, where whole frames of one source are wanted.

    None where clips are to be read, cropped, mirrored or degraded.
    """
    if len(data.sources) != 1 or data.holdout or data.margin or data.degradation != "none":
        return None
    (source,) = data.sources
    if not source.dataset or data.augment != "none" or source.shrink != 1 or source.stride != 1:
        return None
    folder = root / source.folder
    training, held_out = (
        find_maker(source.dataset, folder, split) for split in (source.split, source.holdout_split)
    )
    if training is None or held_out is None or {training.size, held_out.size} != {data.crop}:
        return None
    return training, held_out
