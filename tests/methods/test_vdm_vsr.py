"""VDM-VSR's sampling: gradients, limits and parity, on a tiny prior."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, ModelMixin
from fake_gpu import fake_gpu
from hypothesis import given, settings
from hypothesis import strategies as st

from framelift.degrade.stages.observe import Observation
from framelift.engine.tiling import pad_to_multiple
from framelift.errors import UsageError
from framelift.methods.load import load_pipeline
from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL
from framelift.methods.vdm_vsr.pipeline import Measurement, VDMVSRPipeline
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.methods.vdm_vsr.transition import Transition
from framelift.ops.noise import PositionNoise
from framelift.ops.tiles import plan_tiles

SIZE = (4, 32, 32)


@pytest.fixture(scope="module")
def pipeline(tiny_vdm_vsr):
    return load_pipeline(tiny_vdm_vsr)


@pytest.fixture
def truth() -> torch.Tensor:
    """A smooth clip `[4, 3, 32, 32]` in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    frames = [torch.sin((x + 2 * t) / 5) * torch.cos(y / 7) for t in range(4)]
    return torch.stack(frames)[:, None].repeat(1, 3, 1, 1)


def sample(pipeline, measurements, noises=None, on_step=None, **own):
    noises = noises or [PositionNoise(i) for i in range(len(measurements))]
    return pipeline.sample(
        measurements, SIZE, settings=VDMVSRSettings(**own), noises=noises, on_step=on_step
    )


def observe(truth, scale=4, kept=None, sigma_h=0.0) -> Measurement:
    operator = Observation(scale, sigma_h)
    seen = truth if kept is None else truth[list(kept)]
    return Measurement(operator(seen), operator, kept)


@pytest.mark.parametrize("option", [{}, {"psld": 0.3}, {"norm": "squared"}, {"norm": "frames"}])
@pytest.mark.parametrize("kept", [None, (0, 2)])
def test_guidance_gradient_equals_finite_differences(pipeline, truth, option, kept):
    exact = copy.deepcopy(pipeline).to(torch.float64)
    own = VDMVSRSettings(**option)
    measurement = observe(truth.double(), kept=kept, sigma_h=0.7)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 4, 4, 4, 4, generator=generator, dtype=torch.float64)
    direction = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    direction /= direction.norm()

    def objective(z):
        epsilon, _ = exact.denoise(z, 500)
        z0 = exact.transition(500, 480, z.device).z0(z, epsilon)
        return exact.discrepancy(z0, [measurement], own)[0].sum()

    point = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(point), point)
    h = 1e-5
    slope = (objective(z + h * direction) - objective(z - h * direction)) / (2 * h)
    assert torch.isclose((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-8)
    assert abs(slope) > 1e-6


def test_zero_step_size_is_unconditional_sampling(pipeline, truth):
    one, other = observe(truth), observe(-truth, kept=(1,))
    noises = [PositionNoise(5), PositionNoise(5)]
    made = sample(pipeline, [one, other], noises, step_size=0.0, steps=6)
    assert torch.equal(made[0], made[1])

    scheduler = copy.deepcopy(pipeline.scheduler)  # diffusers' own loop with the same noise
    scheduler.set_timesteps(6)
    z = PositionNoise(5)("start", 4, (4, 4, 4)).transpose(0, 1)[None]
    with torch.no_grad():
        for i, (t, s) in enumerate(pairwise([*scheduler.timesteps, torch.tensor(-1)])):
            output = pipeline.transformer(z, t)
            epsilon, v = output.chunk(2, dim=1)
            step = Transition(scheduler.alphas_cumprod, t, s)
            z0 = step.z0(z, epsilon)
            z = step.mean(z, z0)
            if s >= 0:
                noise = PositionNoise(5)("step", 4, (4, 4, 4), i).transpose(0, 1)[None]
                z = z + step.sigma(v, z) * noise
        expected = pipeline.codec().decode(z0[0].transpose(0, 1))
    torch.testing.assert_close(made[0], expected, atol=5e-4, rtol=0)
    (alone,) = pipeline.sample(
        None, SIZE, settings=VDMVSRSettings(steps=6), noises=[PositionNoise(5)]
    )
    torch.testing.assert_close(alone, expected, atol=5e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.sampled_from([1000, 100, 50, 10]),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    predicts=st.sampled_from(["epsilon", "sample", "v_prediction"]),
)
def test_transition_equals_diffusers(steps, share, seed, predicts):
    scheduler = DDPMScheduler(
        prediction_type=predicts,
        beta_schedule="linear",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    index = min(int(share * steps), steps - 2)
    t, s = scheduler.timesteps[index], scheduler.timesteps[index + 1]
    generator = torch.Generator().manual_seed(seed)
    z, output = (torch.randn(1, c, 2, 3, 3, generator=generator) for c in (4, 8))
    predicted, v = output.chunk(2, dim=1)
    step = Transition(scheduler.alphas_cumprod, t, s)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(7))
    z0 = step.z0(z, predicted, predicts)
    ours = step.mean(z, z0) + (0.5 * step.log_variance(v, z)).exp() * noise
    whole = scheduler.alphas_cumprod[t].sqrt() * z0 + (1 - scheduler.alphas_cumprod[t]).sqrt() * v
    again = step.z0(whole, step.target(z0, v, predicts), predicts)
    torch.testing.assert_close(again, z0, atol=2e-4, rtol=1e-3)
    theirs = scheduler.step(output, t, z, generator=torch.Generator().manual_seed(7)).prev_sample
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


class NormalPrior(ModelMixin):
    """The exact noise prediction for latents that are standard normal."""

    _supports_gradient_checkpointing = True

    def __init__(self, alphas_cumprod):
        super().__init__()
        self.alphas_cumprod = torch.nn.Parameter(alphas_cumprod, requires_grad=False)
        self.gradient_checkpointing = False

    def forward(self, z, t):
        return (1 - self.alphas_cumprod[t]).sqrt() * z


def test_identity_operator_recovers_the_input(pipeline):
    """With every pixel observed, and a prior that knows where latents lie."""
    pipeline = copy.copy(pipeline)
    pipeline.transformer = NormalPrior(pipeline.scheduler.alphas_cumprod)
    z = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        truth = pipeline.codec().decode(z)  # within the decoder's reach
    measurement = Measurement(truth, lambda x: x)
    residuals = []
    made = sample(
        pipeline,
        [measurement],
        on_step=lambda step: residuals.append(step.residual),
        steps=100,
        step_size=2.0,
        step_schedule="decaying",
    )
    (free,) = sample(pipeline, [measurement], steps=100, step_size=0.0)
    assert len(residuals) == 100
    assert residuals[-1] < 0.25 * residuals[0]
    assert (made[0] - truth).square().mean() < 0.06 * (free - truth).square().mean()


def test_each_clip_of_a_batch_is_as_if_alone(pipeline, truth):
    several = [observe(truth), observe(truth, 8, (0, 3), 1.0), observe(truth.flip(3), 4, (2,))]
    noises = [PositionNoise(i) for i in range(3)]
    together = sample(pipeline, several, noises, step_size=0.2)
    for made, measurement, noise in zip(together, several, noises, strict=True):
        (alone,) = sample(pipeline, [measurement], [noise], step_size=0.2)
        torch.testing.assert_close(made, alone, atol=2e-4, rtol=0)


def test_norms_of_frames_correct_a_frame_alike_however_many_are_seen(pipeline, truth):
    z0 = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient_at_frame_0(norm, *kept):
        own = VDMVSRSettings(norm=norm)
        objective, _ = pipeline.discrepancy(z0, [observe(truth, kept=kept)], own)
        return torch.autograd.grad(objective.sum(), z0)[0][:, :, 0]

    few, many = (gradient_at_frame_0("frames", *kept) for kept in ((0,), (0, 1, 2, 3)))
    torch.testing.assert_close(few, many)
    few, many = (gradient_at_frame_0("unsquared", *kept) for kept in ((0,), (0, 1, 2, 3)))
    assert 0.3 < many.norm() / few.norm() < 0.7  # about 1/√4


def test_masked_frames_do_not_matter(pipeline):
    frames = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    other = frames.clone()
    other[1] = 1 - other[1]
    mask = torch.tensor([True, False, True, True])
    own = VDMVSRSettings(step_size=0.3)
    first, second = (pipeline(f, settings=own, mask=mask) for f in (frames, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, pipeline(frames, settings=own))
    with pytest.raises(UsageError, match="no frame"):
        pipeline(frames, settings=own, mask=torch.zeros(4, dtype=torch.bool))


@pytest.mark.parametrize(("shape", "scale"), [((4, 8, 8), 4), ((2, 4, 4), 8), ((3, 6, 5), 4)])
def test_call_fits_any_small_clip(pipeline, shape, scale):
    frames, height, width = shape
    lr = torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))
    made = pipeline(lr, settings=VDMVSRSettings(downscale=scale))
    assert made.shape == (frames, 3, height * scale, width * scale)
    assert made.dtype == torch.float32
    assert 0 <= made.min() <= made.max() <= 1


@pytest.mark.parametrize(
    ("scale", "height", "width"), [(2, 36, 36), (3, 24, 24), (1, 68, 64), (5, 7, 9), (16, 3, 2)]
)
def test_any_factor_fits_any_size(pipeline, scale, height, width):
    """Sides are filled up to whole tokens, whatever the factor, in a call and by the engine."""
    own = VDMVSRSettings(downscale=scale, step_size=0.1, steps=1)
    limits = pipeline.limits_for(own)
    token = pipeline.latent_space.factor * pipeline.transformer.config["patch_size"]
    assert limits.size_multiple * scale % token == 0
    assert all(n * scale % token for n in range(1, limits.size_multiple))  # the least there is
    assert limits.tile % limits.size_multiple == 0
    lr = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    assert pipeline(lr, settings=own).shape == (2, 3, height * scale, width * scale)
    padded = pad_to_multiple(lr, limits.size_multiple)
    for tile in plan_tiles(*padded.shape[-2:], limits.tile, 0, limits.size_multiple):
        noise = PositionNoise(block=limits.noise_block).at(
            0, tile.y, tile.x, tile.height, tile.width
        )
        assert pipeline(tile.crop(padded), settings=own, noise=noise).isfinite().all()


def test_steps_are_taken_where_the_latents_are():
    """On a GPU, the scheduler's table, the step and its noise too."""
    with fake_gpu() as device:
        scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
        network = STDiT(in_channels=12, hidden_size=16, depth=1, num_heads=2)
        vae = LinearAutoencoderKL(latent_channels=12)
        pipeline = VDMVSRPipeline(vae, scheduler, network).to(device)
        step = pipeline.transition(500, 480, device)
        found = (step.alpha_bar, step.alpha_bar_s, step.alpha, step.beta)
        assert all(value.device == device for value in found)
        for schedule in ("constant", "decaying", "rising"):
            own = VDMVSRSettings(step_size=1.0, step_schedule=schedule)
            assert pipeline.step_size(own, step).device == device


def test_checkpointing_changes_nothing(pipeline, truth):
    plain, saving = (
        sample(pipeline, [observe(truth)], step_size=0.2, checkpointing=c) for c in (False, True)
    )
    torch.testing.assert_close(plain, saving, atol=1e-6, rtol=0)


def test_any_operator_can_be_plugged_in(pipeline, truth):
    lr = truth[:, :, ::4, ::4] / 2 + 0.5

    def gamma(x: torch.Tensor) -> torch.Tensor:  # not linear
        return ((x[..., ::4, ::4] + 1) / 2).clamp(1e-3, 1) ** 1.2 * 2 - 1

    made = pipeline(lr, settings=VDMVSRSettings(psld=0.1), operator=gamma)
    assert not torch.equal(made, pipeline(lr, settings=VDMVSRSettings(psld=0.1)))


@pytest.mark.parametrize("schedule", ["constant", "decaying", "rising"])
def test_step_schedules(pipeline, schedule):
    own = VDMVSRSettings(step_size=2.0, step_schedule=schedule)
    steps = (pipeline.transition(t, t - 1, torch.device("cpu")) for t in (999, 500, 1))
    sizes = [pipeline.step_size(own, step) for step in steps]
    order = {"constant": [2.0] * 3, "decaying": sorted(sizes, reverse=True)}
    assert sizes == order.get(schedule, sorted(sizes))
    assert all(0 <= size <= 2 for size in sizes)


def test_unknown_factor_and_missing_prior_are_refused(pipeline, tiny_vdm_vsr):
    lr = torch.rand(4, 3, 8, 8)
    with pytest.raises(UsageError, match="factor of 2"):
        pipeline(lr, settings=VDMVSRSettings(downscale=2))
    bare = copy.copy(load_pipeline(tiny_vdm_vsr))
    bare.register_modules(transformer=None)
    with pytest.raises(UsageError, match="no prior"):
        bare(lr)


def test_a_demonstration_says_so_when_it_is_loaded(caplog):
    load_pipeline("vdm-vsr")
    (record,) = caplog.records
    assert "demonstration" in record.message
    assert "stablevsr" in record.message  # what to use instead


def test_observation_noise_is_the_same_in_range(truth):
    rng = np.random.default_rng(0)
    noisy = Observation(4).observe(truth, 0.01, rng)
    assert abs(float((noisy - Observation(4)(truth)).std()) - 0.01) < 0.002
