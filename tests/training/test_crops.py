"""Training batches: the same whoever makes them, shared between processes, drawn from mixtures."""

import os
import signal

import numpy as np
import pytest
import torch

from framelift.degrade import Degradation
from framelift.errors import InputError, NoRoomError, UsageError
from framelift.training.crops import RandomCrops, Share, choose_workers, load_batches
from framelift.training.settings import DataSettings, RecipeShare
from framelift.training.store import Clip

PAIR = (RecipeShare("bi", 1.0), RecipeShare("compressed", 1.0))


def picture(seed=0, frames=5, height=80, width=96):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def make(degradation="bi", batch=4, share=Share(), frames=2, clips=None):  # noqa: B008
    settings = DataSettings(crop=32, margin=8, degradation=degradation)
    clips = clips or [Clip("a", picture(), 1.0), Clip("b", picture(1), 2.0)]
    return RandomCrops(clips, settings, batch, seed=7, frames=frames, share=share)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("degradation", ["bi", "realworld", PAIR])
def test_any_number_of_workers_makes_the_same_batches(degradation):
    found = [list(load_batches(make(degradation), 2, 6, workers)) for workers in (0, 1, 4)]
    torch.set_num_threads(2)
    try:
        found.append(list(load_batches(make(degradation), 2, 6, 0)))
    finally:
        torch.set_num_threads(1)
    for batches in found:
        assert len(batches) == 4
        for one, other in zip(batches, found[0], strict=True):
            assert torch.equal(one.hr, other.hr)
            assert torch.equal(one.lr, other.lr)


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(load_batches(make(), 0, 2, 1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("degradation", ["bi", "realworld", PAIR])
@pytest.mark.parametrize(("processes", "rounds"), [(2, 1), (1, 2), (3, 2)])
def test_shares_make_up_the_batch_of_one_process(degradation, processes, rounds):
    count = processes * rounds
    whole = make(degradation, batch=2 * count)[5]
    for rank in range(processes):
        crops = make(degradation, batch=2, share=Share(rank, processes, rounds))
        for turn in range(rounds):
            part, first = crops[5 * rounds + turn], turn * processes + rank
            assert torch.equal(part.hr, whole.hr[first::count])
            assert torch.equal(part.lr, whole.lr[first::count])


class Broken:
    """Frames that cannot be read."""

    shape = (5, 80, 96, 3)

    def __getitem__(self, key):
        raise InputError("The file b.mp4 is damaged.", "Download it again.")


class Deadly(Broken):
    """Frames that kill whoever reads them."""

    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_workers_arrive_as_they_were(workers):
    crops = make(clips=[Clip("b", Broken(), 1.0)])
    with pytest.raises(InputError) as caught:
        list(load_batches(crops, 0, 3, workers))
    assert str(caught.value) == "The file b.mp4 is damaged. Download it again."
    assert caught.value.remedy == "Download it again."


def test_a_killed_worker_is_named():
    crops = make(clips=[Clip("b", Deadly(), 1.0)])
    with pytest.raises(NoRoomError, match="was killed"):
        list(load_batches(crops, 0, 3, 1))


def test_mixture_draws_a_recipe_for_each_clip():
    batch = make(PAIR, batch=40, frames=3)[0].to(torch.device("cpu"))
    clean = torch.stack([Degradation("bi")(hr) for hr in batch.hr])
    change = (clean - batch.lr)[..., 2:-2, 2:-2].abs()  # away from what the margin changes
    untouched = change.flatten(2).amax(2) < 1e-4  # [clips, frames]
    assert torch.equal(untouched.any(1), untouched.all(1))  # a clip is one or the other
    assert 10 <= int(untouched.all(1).sum()) <= 30


def test_mixture_takes_crops_where_the_plain_recipe_does():
    mixed = (RecipeShare("bi", 1.0), RecipeShare("bd", 3.0))
    assert torch.equal(make(mixed)[3].hr, make("bi")[3].hr)


def test_faulty_mixtures():
    with pytest.raises(UsageError, match="above 0"):
        RecipeShare("bi", 0.0)
    with pytest.raises(UsageError, match="empty"):
        DataSettings(degradation=())
    with pytest.raises(InputError, match="no degradation recipe"):
        make((RecipeShare("bi"), RecipeShare("realwrld")))


def test_workers_by_default(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_workers(3, cpu, 1) == 3
    assert choose_workers(None, cpu, 1) == 1
    assert choose_workers(None, cpu, 16) == 0
    assert choose_workers(None, cuda, 1) == 15
    assert choose_workers(None, cuda, 4) == 3
