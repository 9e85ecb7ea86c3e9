"""StableVSR: order of sampling, guidance, identity of an untrained TCM, sizes, settings."""

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.errors import UsageError
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.load import outline
from framelift.methods.stablevsr.guidance import FrameState
from framelift.methods.stablevsr.motion import Motion
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.sweep import Visit, visits
from framelift.methods.stablevsr.tcm import build_tcm, is_identity, zero_convolutions

SAMPLINGS = ("single", "autoregressive", "unidirectional", "bidirectional")
V = {"prediction_type": "v_prediction", "algorithm_type": "dpmsolver++", "solver_order": 1}


def trained(unet, channels: int = 3, stem: tuple[int, ...] = (8, 8, 16)) -> ControlNetModel:
    """A module that is no longer the identity."""
    torch.manual_seed(5)
    tcm = build_tcm(unet, channels=channels, stem=stem, factor=2 ** (len(stem) - 1), warm_stem=True)
    for parameter in zero_convolutions(tcm):
        torch.nn.init.normal_(parameter, std=0.05)
    return tcm.eval()


@pytest.fixture(scope="module")
def bundled(small_unet) -> StableVSRPipeline:
    codec = BlockTransformCodec()
    codec.std.fill_(0.05)
    scheduler = DPMSolverMultistepScheduler(**V)
    return StableVSRPipeline(codec, small_unet, trained(small_unet), scheduler, steps=3)


@pytest.fixture(scope="module")
def image_upscaler(bundled) -> ImageLDMPipeline:
    return ImageLDMPipeline(bundled.vae, bundled.unet, bundled.scheduler, steps=3)


@given(st.sampled_from(SAMPLINGS), st.integers(1, 9), st.integers(1, 7))
def test_every_frame_takes_every_step_once_and_in_order(sampling, frames, steps):
    seen = list(visits(sampling, frames, steps))
    assert sorted((v.step, v.frame) for v in seen) == [
        (i, n) for i in range(steps) for n in range(frames)
    ]
    for n in range(frames):
        assert [v.step for v in seen if v.frame == n] == list(range(steps))


@given(st.sampled_from(SAMPLINGS[1:]), st.integers(2, 9), st.integers(1, 7))
def test_a_guide_was_visited_just_before_and_stands_next_to_the_frame(sampling, frames, steps):
    taken = dict.fromkeys(range(frames), 0)
    for visit in visits(sampling, frames, steps):
        if visit.neighbour is not None:
            assert abs(visit.frame - visit.neighbour) == 1
            whole = sampling == "autoregressive"
            assert taken[visit.neighbour] == (steps if whole else visit.step + 1)
        taken[visit.frame] += 1


@pytest.mark.parametrize("steps", [3, 4])
def test_sweeps_turn_round_after_every_step(steps):
    seen = list(visits("bidirectional", 3, steps))
    forward = [(0, None), (1, 0), (2, 1)]
    backward = [(2, None), (1, 2), (0, 1)]
    expected = [
        Visit(i, frame, neighbour)
        for i in range(steps)
        for frame, neighbour in (backward if i % 2 else forward)
    ]
    assert seen == expected


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_untrained_module_changes_nothing(bundled, image_upscaler, clip, sampling):
    fresh = build_tcm(bundled.unet, stem=(8, 8, 16))
    assert is_identity(fresh)
    pipeline = StableVSRPipeline(bundled.vae, bundled.unet, fresh, bundled.scheduler, steps=3)
    made = pipeline(clip, settings=StableVSRSettings(sampling=sampling))
    assert torch.equal(made, image_upscaler(clip))


def test_single_is_the_image_upscaler_frame_by_frame(bundled, image_upscaler, clip):
    made = bundled(clip, settings=StableVSRSettings(sampling="single"))
    assert torch.equal(made, image_upscaler(clip, settings=ImageLDMSettings()))


def test_the_first_frame_of_a_sweep_is_not_guided(bundled, image_upscaler, clip):
    alone = image_upscaler(clip, settings=ImageLDMSettings(steps=1))
    made = bundled(clip, settings=StableVSRSettings(steps=1))
    assert torch.equal(made[0], alone[0])
    assert not torch.allclose(made[1], alone[1], atol=1e-4)
    forward = bundled(clip, settings=StableVSRSettings(sampling="unidirectional"))
    assert torch.equal(forward[0], image_upscaler(clip)[0])
    both = bundled(clip)
    assert not torch.allclose(both[0], forward[0], atol=1e-4)


def test_every_setting_of_the_ablations_matters(bundled, clip):
    moving = torch.stack([clip[0].roll(2 * n, -1) for n in range(3)])
    made = {
        name: bundled(moving, settings=StableVSRSettings(**changed))
        for name, changed in {
            "proposed": {},
            "x_t": {"guidance": "xt"},
            "no MC": {"motion_compensation": False},
            "latent": {"warp_space": "latent"},
            "half-pixel": {"warp": "half-pixel"},
            "off": {"tcm_scale": 0.0},
            "single": {"sampling": "single"},
            "autoregressive": {"sampling": "autoregressive"},
        }.items()
    }
    assert torch.equal(made.pop("off"), made["single"])
    names = list(made)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not torch.allclose(made[a], made[b], atol=1e-5), (a, b)


def test_guidance_of_a_still_clip_is_the_neighbours_picture(bundled, clip):
    """No motion: MC is the identity, and eq. 8 is D(x̃₀)."""
    lr = clip[:1] * 2 - 1
    codec = bundled.codec(lr)
    latents = torch.randn(1, *bundled.latent_size(lr))
    neighbour, current = FrameState(codec=codec, estimate=latents), FrameState(codec=codec)
    guide = bundled.texture_guidance([lr, lr], StableVSRSettings())
    guidance = guide(current, neighbour, torch.zeros(1, 2, 16, 24))
    picture = codec.decode(latents)
    assert torch.equal(guidance, picture)


def test_motion_compensation_moves_the_neighbour_onto_the_frame(bundled):
    """A picture that moved two LR pixels to the right is brought back by eight HR pixels."""
    picture = torch.rand(1, 3, 64, 96)
    flow = torch.zeros(1, 2, 16, 24)
    flow[:, 0] = 2
    moved = bundled.texture_guidance([], StableVSRSettings()).compensate(picture, flow)
    assert torch.allclose(moved[..., :-8], picture[..., 8:], atol=1e-5)


def test_flow_is_estimated_once_for_each_direction_of_a_pair(bundled, clip):
    calls = []

    def estimator(a, b):
        calls.append((a, b))
        return torch.zeros(len(a), 2, *a.shape[-2:])

    motion = Motion((clip * 2 - 1).split(1), estimator, 4)
    for _ in range(2):
        for frame, neighbour in ((1, 0), (2, 1), (0, 1), (1, 2)):
            motion.flow(frame, neighbour)
    assert len(calls) == 4
    assert torch.allclose(calls[0][0], clip[1:2])
    assert torch.allclose(calls[0][1], clip[:1])


def test_a_module_for_latents_gets_the_warped_latents(small_unet, clip):
    """Table 4, "no latent to RGB conversion", as a module of its own."""
    codec = BlockTransformCodec()
    tcm = trained(small_unet, channels=codec.latent_space.channels, stem=(16,))
    scheduler = DPMSolverMultistepScheduler(**V)
    pipeline = StableVSRPipeline(codec, small_unet, tcm, scheduler, steps=2)
    made = pipeline(clip, settings=StableVSRSettings(warp_space="latent"))
    assert made.shape == (3, 3, 64, 96)


def test_same_seed_same_clip_and_frames_in_range(bundled, clip):
    made = bundled(clip)
    assert torch.equal(made, bundled(clip))
    assert made.shape == (3, 3, 64, 96)
    assert made.min() >= 0
    assert made.max() <= 1


def test_published_components_with_label_text_and_guidance(components, clip):
    tcm = trained(components["unet"])
    pipeline = StableVSRPipeline(**components, controlnet=tcm, steps=2)
    plain = pipeline(clip)
    guided = pipeline(clip, settings=StableVSRSettings(guidance_scale=2.0, prompt="a cat"))
    assert not torch.allclose(plain, guided, atol=1e-4)
    with pytest.raises(UsageError, match="small guidance decoder"):
        pipeline(clip, settings=StableVSRSettings(guidance_decoder="small"))


def test_bypassing_the_label_equals_networks_without_one(components, clip):
    labelled = components["unet"]
    unet = type(labelled).from_config(dict(labelled.config) | {"num_class_embeds": None})
    unet.load_state_dict(labelled.state_dict(), strict=False)
    tcm = trained(unet)
    parts = {**components, "unet": unet}
    plain = StableVSRPipeline(**parts, controlnet=tcm, steps=2)(clip)
    copy = type(labelled).from_config(labelled.config)
    copy.load_state_dict(labelled.state_dict())
    parts = {**components, "unet": copy}
    bypassed = StableVSRPipeline(**parts, controlnet=tcm, steps=2, bypass_noise_level=True)
    assert torch.equal(bypassed(clip), plain)


def test_eta_one_is_ancestral_and_repeatable(components, clip):
    scheduler = DDIMScheduler.from_config(components["scheduler"].config, set_alpha_to_one=True)
    parts = {**components, "scheduler": scheduler}
    tcm = trained(components["unet"])
    ddpm = StableVSRPipeline(**parts, controlnet=tcm, steps=3, eta=1.0)
    ddim = StableVSRPipeline(**parts, controlnet=tcm, steps=3)
    assert torch.equal(ddpm(clip), ddpm(clip))
    assert not torch.allclose(ddpm(clip), ddim(clip), atol=1e-4)
    assert torch.equal(ddpm(clip, settings=StableVSRSettings(eta=0.0)), ddim(clip))


def test_published_sizes():
    """Table 3: 473 M, 207 M and 32 M; without the noise-level label the UNet has 472.4 M."""
    networks = outline("stablevsr-published")

    def millions(network: torch.nn.Module) -> float:
        return sum(p.numel() for p in network.parameters()) / 1e6

    assert millions(networks["unet"]) == pytest.approx(472.4, abs=0.05)
    assert millions(networks["controlnet"]) == pytest.approx(207.7, abs=0.05)
    assert millions(networks["vae"].decoder) == pytest.approx(32.97, abs=0.005)
    with torch.device("meta"):
        tcm = build_tcm(outline("sd-x4-upscaler")["unet"])
    assert millions(tcm) == pytest.approx(208.7, abs=0.05)


def test_a_stem_must_reduce_by_the_codecs_factor(small_unet):
    with pytest.raises(ValueError, match="reduce by 4"):
        build_tcm(small_unet, stem=(8, 16))
