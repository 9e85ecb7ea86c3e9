"""Batches drawn again and again from crops that lie on the device.

An accelerator that trains a small network outruns the processors that cut and degrade crops. The
pool holds the newest of their batches, larger in space and time than a step needs; a step draws
its crops from all of them, anywhere on the LR grid, mirrored and turned anew.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from framelift.methods.base import Batch
from framelift.training.crops import RandomCrops, load_batches
from framelift.training.settings import DataSettings

START = 8  # batches before the first step
POOL = 2  # sets the generator that draws from the pool apart from those of crops and recipes


class Pool:
    """Batches as a function of (seed, index), as is what lies in the pool."""

    def __init__(self, source: RandomCrops, settings: DataSettings, device: torch.device) -> None:
        self.source, self.settings, self.device = source, settings, device
        self.share = source.share

    def draw(self, first: int, last: int, workers: int, pin: bool) -> Iterator[Batch]:
        """Batches `first` to `last` (exclusive), on the device; new ones are made by `workers`."""
        size, every = self.settings.pool, self.settings.pool_every
        newest = min(START, size) + first // every
        oldest = max(0, newest - size)
        fresh = load_batches(self.source, oldest, newest + last // every + 1, workers, pin)
        kept: deque[Batch] = deque(maxlen=size)
        for index in range(first, last):
            wanted = min(START, size) + index // every
            while oldest < wanted:
                batch = next(fresh)
                hr = batch.hr.to(self.device, non_blocking=True)
                same = batch.lr is batch.hr
                kept.append(Batch(hr, hr if same else batch.lr.to(self.device, non_blocking=True)))
                oldest += 1
            yield self._drawn(kept, index)

    def _drawn(self, kept: deque[Batch], index: int) -> Batch:
        step, first, stride = self.share.of(index)
        rng = np.random.default_rng([self.source.seed, step, first, stride, POOL])
        clips = [
            self._clip(kept[int(rng.integers(len(kept)))], rng) for _ in range(self.source.batch)
        ]
        hr, lr = (torch.stack(x) for x in zip(*clips, strict=True))
        return Batch(hr, lr)

    def _clip(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A clip of one of the batch's, and its low-resolution version."""
        own = self.settings
        item = int(rng.integers(len(batch.hr)))
        t = int(rng.integers(batch.hr.shape[1] - own.frames + 1))
        scale = batch.hr.shape[-1] // batch.lr.shape[-1]
        low = own.crop // scale
        y, x = (int(rng.integers(side - low + 1)) for side in batch.lr.shape[-2:])
        turns, flip = int(rng.integers(4)), int(rng.integers(2))

        def cut(clips: Tensor, factor: int) -> Tensor:
            side = low * factor
            rows, columns = (slice(at * factor, at * factor + side) for at in (y, x))
            clip = clips[item, t : t + own.frames, :, rows, columns]
            if own.augment == "full":
                clip = torch.rot90(clip, turns, (-2, -1))
            return clip.flip(-1) if own.augment != "none" and flip else clip

        hr = cut(batch.hr, scale)
        return hr, hr if scale == 1 else cut(batch.lr, 1)
