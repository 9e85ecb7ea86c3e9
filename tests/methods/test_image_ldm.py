"""The per-frame upscaler: parity with diffusers, independence of frames and batches."""

import math

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionUpscalePipeline,
)

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.errors import UsageError
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.ops.noise import PositionNoise
from framelift.ops.resize import upscale


class Given:
    """Noise that was drawn beforehand, by stream."""

    def __init__(self, **streams):
        self.streams = streams

    def __call__(self, stream, frames, size, step=0):
        drawn = self.streams[stream]
        assert drawn.shape == (frames, *size)
        return drawn


@pytest.fixture(scope="module")
def bundled_like(small_unet):
    vae = BlockTransformCodec()
    vae.std.uniform_(0.05, 0.2)
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    return ImageLDMPipeline(vae, small_unet, scheduler, timesteps=[999, 600, 200], steps=3)


@pytest.mark.parametrize(("prompt", "guidance"), [("a cab", 4.0), ("", 1.0)])
def test_equals_diffusers(components, clip, prompt, guidance):
    frame = clip[:1]
    latents = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(3))
    reference = StableDiffusionUpscalePipeline(**components)
    reference.set_progress_bar_config(disable=True)
    theirs = reference(
        prompt=prompt,
        image=frame * 2 - 1,  # as a tensor, it is taken to be in [-1, 1]
        num_inference_steps=4,
        guidance_scale=guidance,
        noise_level=20,
        latents=latents,
        generator=torch.Generator().manual_seed(4),
        output_type="pt",
    ).images

    # Given the start latents, the LR noise is all that its generator draws.
    lr_noise = torch.randn(frame.shape, generator=torch.Generator().manual_seed(4))
    ours = ImageLDMPipeline(**components)(
        frame,
        settings=ImageLDMSettings(steps=4, prompt=prompt, guidance_scale=guidance, noise_level=20),
        noise=Given(start=latents, lr=lr_noise),
    )
    assert ours.shape == theirs.shape == (1, 3, 64, 96)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_default_settings_are_the_presets(components, clip):
    pipeline = ImageLDMPipeline(**components, steps=2, noise_level=30)
    implicit = pipeline(clip[:1], settings=None)
    explicit = pipeline(clip[:1], settings=ImageLDMSettings(steps=2, noise_level=30))
    assert torch.equal(implicit, explicit)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_frames_are_independent(components, clip, eta):
    pipeline = ImageLDMPipeline(**components)
    settings = ImageLDMSettings(steps=3, eta=eta)
    together = pipeline(clip, settings=settings, noise=PositionNoise(seed=5))
    for i in range(len(clip)):
        alone = pipeline(clip[i : i + 1], settings=settings, noise=PositionNoise(seed=5, frame=i))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=0)


def test_batches_change_nothing(components, bundled_like, clip):
    for pipeline in (ImageLDMPipeline(**components, steps=3), bundled_like):
        one, two = (
            pipeline(clip, settings=ImageLDMSettings(batch=batch, eta=1.0)) for batch in (1, 2)
        )
        torch.testing.assert_close(two, one, atol=1e-5, rtol=0)


def test_steps_of_the_preset_and_others(bundled_like, clip):
    seen: list = []
    bundled_like(clip[:1], settings=None, on_step=seen.append)
    assert [s.timestep for s in seen] == [999, 600, 200]
    seen.clear()
    bundled_like(clip[:1], settings=ImageLDMSettings(steps=5), on_step=seen.append)
    assert len(seen) == 5


def test_output_stays_in_range(bundled_like, clip):
    out = bundled_like(clip, settings=None)
    assert out.dtype == torch.float32
    assert out.shape == (3, 3, 64, 96)
    assert out.min() >= 0
    assert out.max() <= 1


def test_detail_scales_what_luma_gains_over_bicubic(bundled_like, clip):
    def luma(detail: float) -> torch.Tensor:
        made = bundled_like(clip, settings=ImageLDMSettings(detail=detail))
        return (made * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)

    clip = clip * 0.2 + 0.4  # far from the ends of the range, where outputs are clamped
    bicubic = upscale(clip, 4) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    plain, none, double = luma(1.0), luma(0.0), luma(2.0)
    torch.testing.assert_close(none, bicubic.sum(dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(double - plain, plain - none, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scheduler", [DDPMScheduler, EulerAncestralDiscreteScheduler])
def test_a_stochastic_scheduler_obeys_the_seed(components, clip, scheduler):
    """Whatever a user's folder names draws nothing of its own."""
    config = components["scheduler"].config
    parts = {**components, "scheduler": scheduler.from_config(config)}
    pipeline = ImageLDMPipeline(**parts, steps=3)
    first, again, other = (pipeline(clip, noise=PositionNoise(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


def test_a_noise_level_without_a_scheduler_for_it_is_refused(components, clip):
    parts = {**components, "low_res_scheduler": None}
    with pytest.raises(UsageError, match="low_res_scheduler"):
        ImageLDMPipeline(**parts)(clip)
    with pytest.raises(UsageError, match="noise_level is 800"):
        ImageLDMPipeline(**components)(clip, settings=ImageLDMSettings(noise_level=800))


def test_other_steps_than_the_presets_are_warned_of(bundled_like, components):
    assert bundled_like.warnings(ImageLDMSettings()) == []
    assert bundled_like.warnings(ImageLDMSettings(steps=3)) == []
    (warning,) = bundled_like.warnings(ImageLDMSettings(steps=50))
    assert "3 sampling steps" in warning
    assert "50" in warning
    assert ImageLDMPipeline(**components).warnings(ImageLDMSettings(steps=9)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((ImageLDMSettings, n) for n in ("detail", "eta", "guidance_scale")),
        (StableVSRSettings, "tcm_scale"),
        *((VDMVSRSettings, n) for n in ("step_size", "blur_sigma", "psld")),
    ],
)
def test_numbers_that_are_none_are_refused(kind, name, value):
    with pytest.raises(UsageError, match=name):
        kind(**{name: value})


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"eta": 1.5}, {"batch": 0}, {"noise_level": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ImageLDMSettings(**wrong)
