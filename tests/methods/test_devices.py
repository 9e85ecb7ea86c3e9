"""Every pipeline on a fake GPU, in half precision, and offloaded."""

import copy

import pytest
import torch
from accelerate import hooks
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from fake_gpu import fake_gpu
from pseudo_text_parts import ali
from pseudo_text_parts import pipeline as pseudo_text
from stcdit_parts import pipeline as stcdit
from torch._subclasses.fake_tensor import unset_fake_temporarily

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.pseudo_text.settings import PseudoTextSettings
from framelift.methods.stablevsr.guidance_decoder import build_guidance_decoder
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.tcm import build_tcm
from framelift.methods.stcdit.settings import STCDiTSettings
from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL
from framelift.methods.vdm_vsr.pipeline import VDMVSRPipeline
from framelift.methods.vdm_vsr.regression import RegressionPipeline
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.ops.noise import PositionNoise

STEM = (8, 8, 16)
FRAMES = (3, 3, 16, 24)
SOLVER = DPMSolverMultistepScheduler(
    prediction_type="v_prediction", solver_order=2, algorithm_type="sde-dpmsolver++"
)
DDPM = DDPMScheduler(variance_type="learned_range", clip_sample=False)
PRIOR = {"hidden_size": 16, "depth": 2, "num_heads": 2}


def anew(network):
    """The same architecture with fresh weights (fake ones inside the mode)."""
    return type(network).from_config(network.config).eval()


def published(components: dict) -> dict:
    parts = {n: anew(components[n]) for n in ("vae", "unet")}
    encoder = type(components["text_encoder"])(components["text_encoder"].config)
    # add_noise moves a scheduler's table in its place
    with unset_fake_temporarily():
        parts["low_res_scheduler"] = copy.deepcopy(components["low_res_scheduler"])
    return {**components, **parts, "text_encoder": encoder}


PIPELINES = {
    "published image-ldm": lambda parts, unet: ImageLDMPipeline(**published(parts), steps=2),
    "bundled image-ldm": lambda parts, unet: ImageLDMPipeline(
        BlockTransformCodec(), anew(unet), SOLVER, timesteps=[999, 400], steps=2, detail=1.2
    ),
    "published stablevsr": lambda parts, unet: StableVSRPipeline(
        **(made := published(parts)), controlnet=build_tcm(made["unet"], stem=STEM), steps=2
    ),
    "bundled stablevsr": lambda parts, unet: StableVSRPipeline(
        codec := BlockTransformCodec(),
        made := anew(unet),
        build_tcm(made, stem=STEM),
        SOLVER,
        guidance_decoder=build_guidance_decoder(codec.latent_space, 8, (1, 0, 0)),
        steps=3,
    ),
    "vdm-vsr": lambda parts, unet: VDMVSRPipeline(
        LinearAutoencoderKL(latent_channels=12), DDPM, STDiT(in_channels=12, **PRIOR), steps=3
    ),
    "stcdit": lambda parts, unet: stcdit({"gated": True}, residual_std=0.5),
    "pseudo-text": lambda parts, unet: pseudo_text(),
    "pseudo-text ali": lambda parts, unet: pseudo_text(ali()),
    "regression": lambda parts, unet: RegressionPipeline(
        STDiT(in_channels=192, learn_sigma=False, **PRIOR)
    ),
}
SETTINGS = {
    "published image-ldm": [
        ImageLDMSettings(prompt="a cab", guidance_scale=2.0, eta=0.5, batch=2),
        ImageLDMSettings(),
    ],
    "bundled image-ldm": [ImageLDMSettings(), ImageLDMSettings(steps=3, detail=0.5)],
    "published stablevsr": [
        StableVSRSettings(prompt="a cab", guidance_scale=2.0),
        StableVSRSettings(sampling="autoregressive", warp="half-pixel", eta=1.0),
    ],
    "bundled stablevsr": [
        StableVSRSettings(),
        StableVSRSettings(guidance_decoder="small", flow_frames="enlarged"),
        StableVSRSettings(guidance="xt", warp_space="latent", sampling="unidirectional"),
    ],
    "vdm-vsr": [
        VDMVSRSettings(step_size=0.1, psld=0.1, step_schedule="decaying"),
        VDMVSRSettings(step_size=0.1, blur_sigma=1.0, norm="frames", checkpointing=True),
    ],
    "stcdit": [STCDiTSettings(), STCDiTSettings(reconstruction="uniform", segment_frames=2)],
    "pseudo-text": [
        PseudoTextSettings(unet_window=2, eta=1.0, postprocess="wavelet+adain"),
        PseudoTextSettings(condition=False, init="encoder", vae="3d"),
        PseudoTextSettings(vit_input="interpolate", diffusion=False),
    ],
    "pseudo-text ali": [PseudoTextSettings(vit_input="interpolate", init="encoder-raw")],
    "regression": [None],
}
CASES = [(name, settings) for name, all_ in SETTINGS.items() for settings in all_]


@pytest.fixture
def build(components, small_unet):
    return lambda name: PIPELINES[name](components, small_unet)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_runs_on_a_gpu(build, name, settings):
    with fake_gpu() as device:
        pipeline = build(name).to(device)
        frames = torch.rand(FRAMES)  # as the engine gives them: on the CPU
        made = pipeline(frames, settings=settings)
    assert made.device == device
    assert made.shape == (3, 3, 64, 96)
    assert made.dtype == torch.float32


@pytest.mark.parametrize("name", ["published image-ldm", "bundled stablevsr", "vdm-vsr"])
def test_runs_on_a_gpu_in_half_precision(build, name):
    with fake_gpu() as device:
        pipeline = build(name)
        network = getattr(pipeline, "unet", None) or pipeline.transformer
        for part in (network, getattr(pipeline, "controlnet", None)):
            if part is not None:
                part.to(torch.bfloat16)
        made = pipeline.to(device)(torch.rand(FRAMES), settings=SETTINGS[name][0])
    assert made.device == device
    assert made.dtype == torch.float32


def test_an_unconditional_prior_samples_on_a_gpu():
    with fake_gpu() as device:
        network = STDiT(in_channels=12, **PRIOR)
        pipeline = VDMVSRPipeline(LinearAutoencoderKL(latent_channels=12), DDPM, network).to(device)
        made = pipeline.sample(
            None, (4, 32, 32), settings=VDMVSRSettings(steps=3), noises=[PositionNoise()] * 2
        )
    assert made.device == device
    assert made.shape == (2, 4, 3, 32, 32)


def test_the_fake_gpu_can_tell(build):
    """A pipeline with one component left behind fails."""
    with fake_gpu() as device:
        pipeline = build("published image-ldm").to(device)
        pipeline.vae.to("cpu")
        with pytest.raises(RuntimeError, match=r"device"):
            pipeline(torch.rand(FRAMES))


def untied(pipeline):
    """The same pipeline with copies of what hooks would change."""
    parts = {n: copy.deepcopy(c) for n, c in pipeline.components.items()}
    own = {k: v for k, v in pipeline.config.items() if k not in parts and not k.startswith("_")}
    return type(pipeline)(**parts, **own)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("way", ["model", "sequential"])
def test_offloaded_equals_whole(build, name, way, monkeypatch):
    """accelerate's hooks with the CPU as the device that computes."""
    torch.manual_seed(0)
    pipeline = build(name)
    for network in pipeline.components.values():
        if isinstance(network, torch.nn.Module):
            for parameter in network.parameters():
                if not parameter.any():  # open what is zero at first
                    torch.nn.init.normal_(parameter, std=0.05)
    frames = torch.rand(FRAMES, generator=torch.Generator().manual_seed(0))
    settings = SETTINGS[name][0]
    expected = pipeline(frames, settings=settings)
    offloaded = untied(pipeline)
    if way == "model":
        offloaded.enable_model_cpu_offload(device="cpu")
    else:
        place = hooks.set_module_tensor_to_device

        def set_parameter(module, name, *args, **named):
            """With the CPU as the device that computes, accelerate leaves plain tensors behind."""
            place(module, name, *args, **named)
            if (value := module._parameters.get(name)) is not None:
                module._parameters[name] = torch.nn.Parameter(value.data, value.requires_grad)

        monkeypatch.setattr(hooks, "set_module_tensor_to_device", set_parameter)
        offloaded.enable_sequential_cpu_offload(device="cpu")
        network = getattr(offloaded, "unet", None) or offloaded.transformer
        assert any(p.is_meta for p in network.parameters())
    torch.testing.assert_close(offloaded(frames, settings=settings), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PIPELINES)
def test_offloading_names_every_network(build, name):
    """`model_cpu_offload_seq` holds each component with weights, or it would stay on the CPU."""
    pipeline = build(name)
    order = pipeline.model_cpu_offload_seq.split("->")
    networks = {n for n, c in pipeline.components.items() if isinstance(c, torch.nn.Module)}
    assert networks <= set(order)
