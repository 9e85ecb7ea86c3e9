"""The pool of crops on the device."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framelift.errors import UsageError
from framelift.ops.resize import downscale
from framelift.training.crops import RandomCrops
from framelift.training.pool import Pool
from framelift.training.settings import DataSettings
from framelift.training.store import Clip

SETTINGS = DataSettings(
    frames=2, crop=16, margin=0, pool=4, pool_every=2, pool_crop=32, pool_frames=3
)


def pool(settings: DataSettings, batch: int = 3) -> Pool:
    frames = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    kept = replace(settings, crop=settings.pool_crop or settings.crop)
    source = RandomCrops(
        [Clip("clip", frames, 1.0)], kept, batch, 0, settings.pool_frames or settings.frames
    )
    return Pool(source, settings, torch.device("cpu"))


def batches(settings: DataSettings, first: int, last: int) -> list[torch.Tensor]:
    return [
        torch.cat([b.hr.flatten(), b.lr.flatten()])
        for b in (b.to(torch.device("cpu")) for b in pool(settings).draw(first, last, 0, False))
    ]


def test_batches_follow_from_their_index_also_after_a_resume():
    whole, rest = batches(SETTINGS, 0, 20), batches(SETTINGS, 13, 20)
    assert len(whole) == 20
    for a, b in zip(whole[13:], rest, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("augment", ["none", "flip", "full"])
def test_low_and_high_resolution_belong_together(augment):
    settings = replace(SETTINGS, augment=augment, frames=3)
    for batch in pool(settings).draw(0, 6, 0, False):
        batch = batch.to(torch.device("cpu"))
        assert batch.hr.shape == (3, 3, 3, 16, 16)
        assert batch.lr.shape == (3, 3, 3, 4, 4)
        error = (downscale(batch.hr, 4)[..., 1:-1, 1:-1] - batch.lr[..., 1:-1, 1:-1]).abs()
        assert error.max() < 0.6  # white noise: the crop's border is seen from inside only
        assert error.mean() < 0.06


def test_frames_alone_need_no_low_resolution():
    settings = replace(SETTINGS, degradation="none", frames=1, pool_frames=1)
    batch = next(pool(settings).draw(0, 1, 0, False)).to(torch.device("cpu"))
    assert batch.hr.shape == batch.lr.shape == (3, 1, 3, 16, 16)


def test_old_batches_leave_the_pool():
    settings = replace(SETTINGS, pool=1, pool_every=1, pool_crop=16, pool_frames=2, augment="none")
    made = pool(settings)
    for index, batch in enumerate(made.draw(0, 4, 0, False)):
        source = made.source[index + 1 if index else 0].hr
        assert any(torch.equal(clip, s) for clip in batch.hr for s in source) or index


def test_kept_crops_are_not_smaller_than_crops():
    with pytest.raises(UsageError, match="pool_crop is 8"):
        DataSettings(crop=16, pool_crop=8)
