"""Recipes at work: what is random, what stays, what the numbers are."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from framelift.degrade import Degradation, load_recipe, recipe_names
from framelift.degrade.ops import bd
from framelift.degrade.recipe import Recipe
from framelift.degrade.stages import Blur, Jpeg, Noise, Observe, Resize, Shuffle, Stride
from framelift.errors import InputError, UsageError
from framelift.ops.resize import downscale
from framelift.training.crops import RandomCrops
from framelift.training.settings import DataSettings
from framelift.training.store import Clip

RANDOM = ("compressed", "mild", "realworld", "realesrgan", "shake", "vdm_vsr")


def clip(frames=3, height=66, width=83):
    """Waves that move over a noisy background."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    still = 0.2 * torch.rand(3, height, width, generator=generator)
    return torch.stack(
        [still + 0.4 + 0.4 * torch.sin((x + 2 * t) / 5) * torch.cos(y / 7) for t in range(frames)]
    ).clamp(0, 1)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_gives_small_frames_that_depend_on_seed_and_clip(name):
    x = clip()
    low = Degradation(name, seed=3)(x, "calendar")
    assert low.shape == (3, 3, 16, 20)
    assert low.dtype == torch.float32
    assert torch.equal(low, (low * 255).round() / 255)
    assert torch.equal(low, Degradation(name, seed=3)(x, "calendar"))
    others = Degradation(name, seed=4)(x, "calendar"), Degradation(name, seed=3)(x, "city")
    assert all(torch.equal(low, other) == (name not in RANDOM) for other in others)


def test_bi_is_matlabs_formula_bit_for_bit_as_before():
    """Taps of the 4× antialiased cubic written out, with mirrored borders, in float64."""
    x = clip(2, 64, 80)
    t = np.abs((np.arange(16) - 7.5) / 4)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    taps = np.where(t <= 1, near, far)
    taps /= taps.sum()

    def shrink(a):
        padded = np.pad(a, ((0, 0),) * (a.ndim - 1) + ((6, 6),), mode="symmetric")
        return np.lib.stride_tricks.sliding_window_view(padded, 16, axis=-1)[..., ::4, :] @ taps

    rows = np.swapaxes(shrink(np.swapaxes(x.double().numpy(), -1, -2)), -1, -2)
    levels = np.round(np.clip(shrink(rows), 0, 1) * 255)
    low = Degradation("bi")(x)
    assert np.abs(low.numpy() * 255 - levels).max() < 1e-3
    assert torch.equal(low, (downscale(x, 4).clamp(0, 1) * 255).round() / 255)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bd_recipe_is_the_operation(scale):
    x = clip(2, 66, 84)
    cut = x[..., : 66 // scale * scale, : 84 // scale * scale]
    low = Degradation("bd", scale)(x)
    assert (low - bd(cut, scale)).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("name", ["realesrgan", "shake", "vdm_vsr"])
def test_first_frames_do_not_depend_on_the_later_ones(name):
    x = clip(5)
    degradation = Degradation(name, seed=1)
    assert torch.equal(degradation(x)[:2], degradation(x[:2]))


def test_streaming_is_lazy_and_equal():
    """A generator without end: only a codec may look ahead, by its delay."""
    x = clip(4)
    for name, ahead in (("bi", 0), ("shake", 0), ("realworld", 160)):
        degradation = Degradation(name, seed=1)
        read = []

        def endless(read=read):
            for index in itertools.count():
                read.append(index)
                yield x[index % 4]

        results = list(itertools.islice(degradation.stream(endless()), 3))
        assert [index for index, _ in results] == [0, 1, 2]
        assert len(read) <= 4 + ahead
        if not ahead:
            assert torch.equal(torch.stack([low for _, low in results]), degradation(x)[:3])


def test_parameters_stay_in_a_clip_and_drift_slowly():
    recipe = Recipe(stages=(Blur(sigma=(0.5, 2.0), sigma_step=0.02), Resize(relative_to="output")))
    drawn = Degradation(recipe, seed=5).draw("a")[1][0]
    rng, values, track = drawn.rng(), drawn.values, []
    for _ in range(400):
        track.append(values["sigma_x"])
        values = drawn.drifted(values, rng)
    steps = np.abs(np.diff(track))
    assert 0 < steps.max() <= 0.02
    assert 0.5 <= min(track) < max(track) <= 2.0
    assert values["size"] == drawn.values["size"]


def test_a_changed_stage_leaves_the_draws_of_the_others():
    def last(first):
        recipe = Recipe(stages=(first, Shuffle(first=(Jpeg(),), second=(Noise(),)), Jpeg()))
        return Degradation(recipe, seed=2).draw("a")[1][-1].values

    assert last(Blur()) == last(Noise(kinds={"poisson": 1.0}))


def test_draws_follow_probabilities_and_ranges():
    recipe = Recipe(
        stages=(
            Blur(probability=0.25, kernels={"iso": 3.0, "sinc": 1.0}),
            Shuffle(first=(Jpeg(quality=(30, 40)),), second=(Noise(),), swap=0.5),
        )
    )
    draws = [Degradation(recipe, seed=s).describe("a") for s in range(400)]
    blurs = [d[0] for d in draws if d[0]["op"] == "blur"]
    assert 70 <= len(blurs) <= 130
    assert 0.65 <= np.mean([b["kernel"] == "iso" for b in blurs]) <= 0.85
    assert 160 <= sum(d[-1]["op"] == "jpeg" for d in draws) <= 240
    qualities = [s["quality"] for d in draws for s in d if s["op"] == "jpeg"]
    assert 30 <= min(qualities) < 31
    assert 39 < max(qualities) <= 40


@pytest.mark.parametrize("name", ["compressed", "mild"])
def test_recipes_for_training_hold_their_parameters_and_are_milder_than_realworld(name):
    x = clip(4, 96, 112)
    clean = Degradation("bi")(x)

    def damage(recipe):
        made = (Degradation(recipe, seed=s)(x) - clean for s in range(24))
        return float(np.mean([low.abs().mean() for low in made]))

    assert not any(d.drift for s in range(8) for d in Degradation(name, seed=s).draw("a")[1])
    truth, _ = Degradation(name).pair(x)
    assert torch.equal(truth, x)
    assert 0 < damage(name) < damage("realworld")


def test_compressed_takes_every_quality():
    levels = [Degradation("compressed", seed=s).describe("a")[-1]["crf"] for s in range(100)]
    assert 18 <= min(levels) < 20
    assert 33 < max(levels) <= 35


def test_truth_is_what_the_recipe_made_of_the_scene():
    x = clip(3, 64, 80)
    truth, low = Degradation("shake", seed=1).pair(x, "a")
    assert truth.shape == x.shape
    assert not torch.allclose(truth, x, atol=0.01)
    assert torch.equal(low, Degradation("bi")(truth))
    truth, _ = Degradation("bd").pair(clip(2, 66, 83))
    assert torch.equal(truth, clip(2, 66, 83)[..., :64, :80])


def test_masked_frames_are_not_seen():
    x = clip(5)
    recipe = Recipe(stages=(Observe(keep=(1, 4)),))
    assert [i for i, _ in Degradation(recipe).stream(x)] == [1, 4]
    assert torch.equal(Degradation(recipe)(x), Degradation(Recipe(stages=(Stride(),)))(x)[[1, 4]])
    with pytest.raises(InputError, match="no frame"):
        Degradation(Recipe(stages=(Observe(keep=(9,)),)))(x)


@pytest.mark.parametrize("name", recipe_names())
def test_gradients_reach_the_frames(name):
    x = clip(2, 32, 32).requires_grad_()
    Degradation(name, seed=2)(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum(1).gt(0).float().mean() > 0.05


def test_recipes_that_end_at_another_size_are_refused():
    with pytest.raises(UsageError, match="80x64 pixels instead of 20x16"):
        Degradation(Recipe(name="mine", stages=(Blur(),)))(clip(1, 64, 80))
    with pytest.raises(InputError, match="3x2 pixels"):
        Degradation("bi")(torch.rand(1, 3, 2, 3))
    with pytest.raises(UsageError, match="scale"):
        Degradation("bi", scale=0)


@pytest.fixture
def crops():
    frames = (clip(4, 96, 112).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)

    def make(degradation, seed=7):
        settings = DataSettings(crop=32, margin=8, degradation=str(degradation))
        return RandomCrops([Clip("a", frames, 1.0)], settings, batch=3, seed=seed, frames=2)

    return make


def test_training_crops_of_bi_are_what_they_were(crops):
    batch = crops("bi")[11]
    rng = np.random.default_rng([7, 11])
    made = crops("bi")
    hr = torch.from_numpy(np.stack([made._cut(made._draw(rng)) for _ in range(3)])).permute(
        0, 1, 4, 2, 3
    )
    lr = (downscale(hr.float() / 255, 4).clamp(0, 1) * 255).round() / 255
    assert torch.equal(batch.hr, hr[..., 8:-8, 8:-8])  # as bytes
    assert torch.equal(batch.lr, lr[..., 2:-2, 2:-2])


@pytest.mark.parametrize("name", ["realworld", "shake", "bd"])
def test_training_crops_are_a_function_of_seed_and_step(crops, name):
    made = crops(name)
    made[4]
    first, again, later = made[5], crops(name)[5], made[6]
    assert first.hr.shape == (3, 2, 3, 32, 32)
    assert first.lr.shape == (3, 2, 3, 8, 8)
    assert torch.equal(first.lr, again.lr)
    assert torch.equal(first.hr, again.hr)
    assert not torch.equal(first.lr, later.lr)
    assert not torch.equal(first.lr, crops(name, seed=8)[5].lr)


def test_training_takes_recipe_files_and_refuses_unknown_names(crops, tmp_path: Path):
    mine = tmp_path / "bi.toml"  # its name alone does not make it bi
    mine.write_text('[[stages]]\nop = "stride"\n')
    assert load_recipe(mine).name == "bi"
    assert not torch.equal(crops(mine)[0].lr, crops("bi")[0].lr)
    with pytest.raises(InputError, match="Did you mean 'realworld'"):
        crops("real-word")
