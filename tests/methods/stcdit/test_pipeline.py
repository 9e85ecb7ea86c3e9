"""Sampling: noise levels, guidance, latent tiles, anchors, sizes."""

from dataclasses import replace

import pytest
import torch
from stcdit_parts import TINY_INPUT, disturb, pipeline

from framelift.errors import UsageError
from framelift.methods.base import ClipInfo
from framelift.methods.load import load_pipeline
from framelift.methods.registry import find_method
from framelift.methods.stcdit.build import build_pipeline
from framelift.methods.stcdit.codec import SegmentCodec
from framelift.methods.stcdit.latent_tiles import LatentTile, merge, plan_latent_tiles
from framelift.methods.stcdit.pipeline import STCDiTPipeline
from framelift.methods.stcdit.settings import STCDiTSettings
from framelift.methods.stcdit.velocity import Condition, LinearGuess
from framelift.ops.noise import PositionNoise
from framelift.ops.resize import resize

GUIDED = {"gated": True}


def clip(frames=6, height=14, width=22):
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))


def guided(**options) -> STCDiTPipeline:
    made = pipeline(GUIDED, **options)
    disturb(made.transformer)
    return made


@pytest.mark.parametrize("enlarge", [1, 2, 3, 4])
@pytest.mark.parametrize("frames", [1, 2, 10])
def test_sizes(enlarge, frames):
    made = guided()(clip(frames), settings=STCDiTSettings(enlarge=enlarge))
    assert made.shape == (frames, 3, 14 * enlarge, 22 * enlarge)
    assert made.dtype == torch.float32
    assert 0 <= made.min() <= made.max() <= 1


def test_the_papers_noise_levels():
    sampler = guided().sampler(STCDiTSettings(steps=10))
    expected = [1, 0.978, 0.952, 0.921, 0.882, 0.833, 0.769, 0.682, 0.556, 0.357]
    found = [float(sampler.alpha_sigma(i)[1]) for i in range(10)]
    assert found == pytest.approx(expected, abs=6e-4)
    assert sampler.timesteps[0] == 1000
    assert float(sampler.scheduler.sigmas[-1]) == 0


def test_a_perfect_velocity_leads_to_the_data():
    """Euler steps along n − x₀ from pure noise end at x₀."""
    made = guided()
    y = torch.randn(1, 4, 3, 4, 4)
    x0, settings = torch.randn_like(y), STCDiTSettings(steps=3)
    noise = PositionNoise(5)
    start = torch.cat([noise("start", range(f, f + 1), (4, 4, 4)) for f in (0, 1, 5)])
    start = start.transpose(0, 1)[None]
    made.guided_velocity = lambda *given: start - x0
    condition = Condition(y, [0], torch.zeros(1, 1, 8))
    *_, (_, last) = made.sample(made.sampler(settings), condition, [0, 1, 5], settings, noise)
    torch.testing.assert_close(last, x0, atol=1e-5, rtol=0)


def test_one_tile_is_no_tile():
    small, large = guided(tile=[6, 8, 12]), guided(tile=[99, 99, 99])
    assert torch.equal(small(clip()), large(clip()))
    several = guided(tile=[2, 4, 4])
    assert not torch.equal(several(clip()), large(clip()))


@pytest.mark.parametrize("size", [(1, 2, 2), (5, 8, 10), (7, 30, 46), (21, 120, 160)])
@pytest.mark.parametrize("tile", [(21, 120, 160), (5, 8, 8), (3, 7, 9)])
def test_tiles_cover_all_latents(size, tile):
    tiles = plan_latent_tiles(size, tile, 0.95)
    seen = torch.zeros(size)
    for t in tiles:
        t.crop(seen).add_(1)
        assert t.frames <= tile[0]
        assert t.y % 2 == t.x % 2 == t.height % 2 == t.width % 2 == 0
    assert seen.min() >= 1


def test_merging_velocities_of_tiles():
    """What does not depend on the tile is merged to itself."""
    field = torch.randn(1, 4, 7, 30, 46)
    tiles = plan_latent_tiles(field.shape[2:], (5, 8, 12), 0.95)
    made = merge(lambda tile: tile.crop(field), tiles, field)
    torch.testing.assert_close(made, field, atol=1e-5, rtol=1e-4)


def test_far_from_a_seam_the_tile_size_changes_nothing():
    """Of a transformer that looks at its own patch, the tiles' sizes are not to be seen at all."""
    results = []
    for tile in ([3, 4, 6], [2, 8, 4], [99, 99, 99]):
        made = pipeline(tile=tile)
        for block in made.transformer.blocks:  # no attention: nothing is seen but the patch
            torch.nn.init.zeros_(block.attn1.to_out[0].weight)
            torch.nn.init.zeros_(block.attn1.to_out[0].bias)
        results.append(made(clip(10)))
    torch.testing.assert_close(results[0], results[2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(results[1], results[2], atol=1e-5, rtol=1e-4)


def test_anchors_of_segments():
    made = guided()
    codec = SegmentCodec(made.vae, [range(i, i + 5) for i in range(0, 50, 5)])
    assert codec.anchors == list(range(0, 20, 2))

    def chosen(**options):
        return made.anchors(codec, STCDiTSettings(**options))

    assert chosen() == [0, 8, 16, 18]
    assert chosen(anchor_interval=1) == list(range(0, 20, 2))
    assert chosen(anchor_interval=16) == [0, 18]
    assert chosen(anchors="none") == []
    uneven = SegmentCodec(made.vae, [range(9), range(9, 10), range(10, 11)])
    assert made.anchors(uneven, STCDiTSettings(anchors="uniform", anchor_interval=1)) == [0, 1, 3]


def test_a_tile_without_anchors_takes_its_first_latent():
    y = torch.randn(1, 4, 10, 4, 4)
    condition = Condition(y, [0, 8], torch.zeros(1, 1, 8))
    assert condition.at(LatentTile(0, 0, 0, 9, 4, 4)).frames == [0, 8]
    assert condition.at(LatentTile(3, 0, 0, 4, 4, 4)).frames == [0]
    assert replace(condition, frames=[]).at(LatentTile(3, 0, 0, 4, 4, 4)).frames == []


@pytest.mark.parametrize("settings", [{"reconstruction": "uniform"}, {"segment_frames": 5},
                                      {"anchors": "none"}, {"anchors": "uniform"}])  # fmt: skip
def test_ablations_change_the_result(settings):
    made = guided()
    x = resize(clip(1, 8, 12), (64, 96)).clamp(0, 1).repeat(12, 1, 1, 1)
    x[2:] = x[2:].roll(8, dims=-1)  # a jump of the camera
    usual, other = STCDiTSettings(enlarge=1), STCDiTSettings(enlarge=1, **settings)
    assert made.segments(x, usual) == [range(2), range(2, 11), range(11, 12)]
    assert not torch.equal(made(x, settings=usual), made(x, settings=other))


def test_noise_belongs_to_frames():
    """A window's noise is that of the whole clip at its place."""
    noise, seen = PositionNoise(1), {}

    def recorder(stream, frames, size, step=0):
        for f in frames:
            seen[f] = noise(stream, range(f, f + 1), size)
        return noise(stream, frames, size, step)

    settings = STCDiTSettings(reconstruction="uniform", segment_frames=5)
    guided()(clip(10), settings=settings, noise=recorder)
    assert sorted(seen) == [0, 1, 5, 6]


def test_guidance_needs_a_prompt_of_its_own():
    made = guided()
    condition = Condition(torch.randn(1, 4, 2, 4, 4), [0], torch.randn(2, 3, 8))
    x, sigma = torch.randn(1, 4, 2, 4, 4), torch.tensor(0.5)
    with torch.no_grad():
        empty, prompted = (
            made.velocity(x, sigma, replace(condition, text=t)) for t in condition.text.split(1)
        )
        found = made.guided_velocity(x, sigma, condition, 4.0)
    torch.testing.assert_close(found, empty + 4 * (prompted - empty))


def test_a_linear_guess_is_the_best_one():
    """Regressing velocities on (x_σ, Y) finds its coefficients; what is left has unit variance."""
    generator = torch.Generator().manual_seed(0)
    std, count = 0.6, 200_000
    y, r, n = (torch.randn(1, count, generator=generator) for _ in range(3))
    x0 = y + std * r
    for sigma in (0.05, 0.5, 0.95, 1.0):
        x_t = (1 - sigma) * x0 + sigma * n
        guess = LinearGuess(x_t, y, torch.tensor(sigma), std)
        zero = guess.velocity(torch.zeros_like(y))
        left = (n - x0 - zero)[0]
        unit = (guess.velocity(torch.ones_like(y)) - zero)[0]
        assert float((left / unit).std()) == pytest.approx(1, abs=0.02)
        for seen in (x_t[0], y[0]):
            assert abs(float((left * seen).mean())) < 0.02
        assert float(guess.inputs.std()) == pytest.approx(1, abs=0.02)


def test_an_untrained_correction_gives_the_lq_video():
    """Zero output of the network: samples lie about Y as HR latents do."""
    made = pipeline(residual_std=1e-3, steps=4)
    torch.nn.init.zeros_(made.transformer.proj_out.weight)
    x, settings = clip(), STCDiTSettings(reconstruction="whole")
    codec = SegmentCodec(made.vae, [range(6)])
    with torch.no_grad():
        expected = codec.decode(codec.encode(made.enlarge(x, 4)[None]))[0]
    found = made(x, settings=settings)
    expected = ((expected[..., :56, :88] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("base", [{}, TINY_INPUT])
def test_saved_and_loaded(tmp_path, base):
    guidance = {**GUIDED, "lq_patches": bool(base)}
    made = pipeline(guidance, base=base, residual_std=0.5)
    disturb(made.transformer)
    made.save_pretrained(tmp_path)
    read = load_pipeline(tmp_path)
    assert isinstance(read, STCDiTPipeline)
    torch.testing.assert_close(read(clip()), made(clip()), atol=1e-5, rtol=1e-4)
    assert find_method("stcdit").pipeline_class() is STCDiTPipeline


def test_a_vae_alone_upscales_nothing():
    from stcdit_parts import VAE

    with pytest.raises(UsageError, match="no transformer"):
        build_pipeline({"vae": VAE})(clip())


def test_a_video_that_was_not_watched_is_planned_in_chunks():
    windows = pipeline().plan(ClipInfo(30, 14, 22, (20,)), 12, 0)
    assert [(w.start, w.stop) for w in windows] == [(0, 9), (9, 20), (20, 30)]
