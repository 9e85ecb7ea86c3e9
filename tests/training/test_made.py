"""Batches of clips that are made by rule."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch

from framelift.datasets import MovingMNIST
from framelift.errors import UsageError
from framelift.methods.base import Batch
from framelift.training.crops import Share, load_batches
from framelift.training.made import MadeClips, find_makers
from framelift.training.settings import DataSettings, SourceSettings

SOURCE = SourceSettings(dataset="moving-mnist", folder="mnist", split="many", holdout_split="val")
WHOLE = DataSettings((SOURCE,), frames=10, crop=64, margin=0, degradation="none", augment="none")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "mnist").mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train-images", 30), ("t10k-images", 10)):
        head = b"".join(int(n).to_bytes(4) for n in (0x803, count, 28, 28))
        images = rng.integers(256, size=(count, 28, 28), dtype=np.uint8)
        path = folder / "mnist" / f"{name}-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(head + images.tobytes()))
    return folder


@pytest.fixture
def maker(root):
    return MovingMNIST(root / "mnist", "many")


def test_a_batch_is_a_function_of_seed_and_index(maker):
    one, same, other = (MadeClips(maker, 4, seed, 6) for seed in (1, 1, 2))
    one[0]
    assert torch.equal(one[3].hr, same[3].hr)
    assert not torch.equal(one[3].hr, other[3].hr)
    assert not torch.equal(one[3].hr, one[4].hr)
    for workers in (0, 2):
        loaded = list(load_batches(same, 2, 4, workers))
        assert [torch.equal(b.hr, one[i].hr) for b, i in zip(loaded, (2, 3), strict=True)] == [
            True,
            True,
        ]


def test_its_clips_are_those_of_the_dataset(maker):
    batch = MadeClips(maker, 8, 0, 4)[5]
    assert (batch.hr.shape, batch.hr.dtype) == ((8, 4, 1, 64, 64), torch.uint8)
    step = np.random.default_rng([0, 5])
    clips = step.integers(len(maker), size=8)
    starts = step.integers(7, size=8)
    for made, clip, t in zip(batch.hr[:, :, 0].numpy(), clips, starts, strict=True):
        np.testing.assert_array_equal(made, maker[int(clip)][t : t + 4])


def test_processes_and_rounds_share_what_one_would_see(maker):
    whole = MadeClips(maker, 6, 0, 10)[7].hr
    shares = [
        MadeClips(maker, 1, 0, 10, Share(rank, 3, rounds=2))[14 + turn].hr
        for turn in range(2)
        for rank in range(3)
    ]
    assert torch.equal(torch.cat(shares), whole)


def test_on_the_device_they_are_what_every_batch_is(maker):
    batch = MadeClips(maker, 2, 0, 3)[0]
    there = batch.to(CPU)
    assert there.hr is there.lr
    assert (there.hr.shape, there.hr.dtype) == ((2, 3, 3, 64, 64), torch.float32)
    torch.testing.assert_close(there.hr[:, :, 1], batch.hr[:, :, 0] / 255)
    assert torch.equal(there.to(CPU).hr, there.hr)
    pair = Batch(torch.rand(1, 2, 3, 8, 8), torch.rand(1, 2, 3, 2, 2))
    assert torch.equal(pair.to(CPU).lr, pair.lr)


@pytest.mark.parametrize(
    "change",
    [
        {"crop": 32},
        {"margin": 4},
        {"augment": "flip"},
        {"degradation": "bi"},
        {"holdout": ("00001",)},
        {"sources": (SOURCE, SOURCE)},
        {"sources": (replace(SOURCE, stride=2),)},
        {"sources": (replace(SOURCE, holdout_split=""),)},
        {"sources": (SourceSettings(glob="*.mp4"),)},
    ],
)
def test_what_is_cut_or_degraded_is_not_made(root, change):
    assert find_makers(root, replace(WHOLE, **change)) is None


def test_whole_clips_are_made(root):
    training, held_out = find_makers(root, WHOLE)
    assert (len(training), len(held_out)) == (200_000, 10_000)
    with pytest.raises(UsageError, match="have 10"):
        MadeClips(training, 2, 0, 11)
