"""Every training stage on a fake GPU: its loss with gradients, and what it shows."""

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from fake_gpu import fake_gpu
from pseudo_text_parts import pipeline as pseudo_text
from pseudo_text_parts import vae
from stcdit_parts import TINY_INPUT
from stcdit_parts import pipeline as stcdit
from support import small_vae
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import ViTConfig, ViTModel

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.methods.base import Batch, Objective, StageRequest
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.train import ImageLDMObjective, ObjectiveSettings
from framelift.methods.pseudo_text.adapter import PseudoTextAdapter
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.train import AdapterStage, DenoisingSettings, UNetStage
from framelift.methods.pseudo_text.train_vae import DecoderSettings, SFTStage, VAEStage
from framelift.methods.pseudo_text.train_vit import (
    MaskedAutoencoderObjective,
    MaskedAutoencoderSettings,
)
from framelift.methods.registry import find_method
from framelift.methods.sateco.build import build_base
from framelift.methods.sateco.build import build_pipeline as build_sateco
from framelift.methods.stablevsr.guidance_decoder import build_guidance_decoder
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.tcm import build_tcm
from framelift.methods.stablevsr.train import ObjectiveSettings as TCMSettings
from framelift.methods.stablevsr.train import StableVSRObjective
from framelift.methods.stablevsr.train_guidance_decoder import (
    GuidanceDecoderObjective,
    GuidanceDecoderSettings,
)
from framelift.methods.stcdit.train import FlowObjective, FlowSettings
from framelift.methods.stcdit.train_vae import VAEObjective, VAESettings
from framelift.methods.vdm_vsr.pipeline import VDMVSRPipeline
from framelift.methods.vdm_vsr.regression import (
    RegressionObjective,
    RegressionPipeline,
    RegressionSettings,
)
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.methods.vdm_vsr.train import PriorObjective, PriorSettings, build_pipeline
from framelift.methods.vdm_vsr.train_autoencoder import AutoencoderObjective, AutoencoderSettings

DDIM = DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
VELOCITY = DDPMScheduler(
    prediction_type="v_prediction", variance_type="learned_range", clip_sample=False
)
DDPM = DDPMScheduler(variance_type="learned_range", clip_sample=False)


PATCHED = {
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "local_norm": True,
    "patch_size": 4,
    "mid_block_add_attention": False,
}
JOINT = {"patch_size": 1, "hidden_size": 16, "depth": 2, "num_heads": 2, "temporal": "joint"}


def unet(in_channels: int, out_channels: int, **options) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        norm_num_groups=4,
        **options,
    )


def image_ldm(codec: str, **settings) -> ImageLDMObjective:
    if codec == "block":
        pipeline = ImageLDMPipeline(BlockTransformCodec(), unet(30, 24), DDIM, steps=3, eta=1.0)
    else:
        labelled = unet(7, 4, num_class_embeds=1000)
        pipeline = ImageLDMPipeline(
            small_vae(), labelled, DDIM, low_res_scheduler=DDPMScheduler(), steps=3
        )
    return ImageLDMObjective(pipeline, ObjectiveSettings(**settings))


def stablevsr(codec: str) -> StableVSRPipeline:
    network = unet(30, 24) if codec == "block" else unet(7, 4)
    vae = BlockTransformCodec() if codec == "block" else small_vae()
    return StableVSRPipeline(vae, network, build_tcm(network, stem=(4, 8, 8)), DDIM, steps=2)


def guidance_decoder() -> GuidanceDecoderObjective:
    pipeline = stablevsr("block")
    small = build_guidance_decoder(pipeline.latent_space, 8, (1, 0, 0))
    pipeline.register_modules(guidance_decoder=small)
    return GuidanceDecoderObjective(pipeline, GuidanceDecoderSettings(sampled=0.5))


def vdm_vsr(prior: bool) -> VDMVSRPipeline:
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    network = STDiT(in_channels=4, hidden_size=16, depth=2, num_heads=2) if prior else None
    return VDMVSRPipeline(vae, DDPM, network)


def joint_prior() -> PriorObjective:
    network = STDiT(in_channels=4, **JOINT)
    pipeline = VDMVSRPipeline(build_pipeline({"vae": PATCHED}).vae, VELOCITY, network)
    return PriorObjective(pipeline, PriorSettings(variance_weight=0.1, min_snr=5.0))


def regression() -> RegressionObjective:
    network = STDiT(in_channels=192, learn_sigma=False, hidden_size=16, depth=2, num_heads=2)
    return RegressionObjective(RegressionPipeline(network), RegressionSettings())


SATECO = {
    "vae": {
        "patch_size": 4,
        "block_out_channels": [4, 4],
        "latent_channels": 4,
        "tail_channels": 3,
        "norm_num_groups": 4,
    },
    "unet": {
        "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "upscaler": {"width": 12, "heads": 2, "shuffle": []},
    "latent_encoder": {"width": 8, "multipliers": [1, 1], "layers": 1, "groups": 4},
    "unet_guidance": {"heads": 2},
    "vae_guidance": {"heads": 2, "window": 4},
    "refiner": {"width": 8, "stride": 4},
    "pipeline": {"steps": 2},
}


def sateco(stage: str) -> Objective:
    whole = not stage.startswith("base")
    pipeline = build_sateco(SATECO) if whole else build_base(SATECO)
    pipeline.register_modules(scheduler=DDIM)
    request = StageRequest(stage, pipeline, {}, {"perceptual_weight": 0.0}, 3)
    return find_method("sateco").stage(stage)(request)


def masked_autoencoder() -> MaskedAutoencoderObjective:
    """The ViT takes LR crops as they are: 8×8 pixels here."""
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
    )
    settings = MaskedAutoencoderSettings(decoder_channels=16, decoder_depth=1)
    with unset_fake_temporarily():  # transformers looks at numbers while it initialises
        return MaskedAutoencoderObjective(PseudoTextPipeline(ViTModel(config)), settings)


STAGES = {
    **{
        f"sateco {stage}": lambda stage=stage: sateco(stage)
        for stage in find_method("sateco").stages
    },
    "image-ldm denoiser": lambda: image_ldm("block"),
    "image-ldm denoiser of a KL VAE with a label": lambda: image_ldm("KL"),
    "image-ldm few-step": lambda: image_ldm("block", on_policy=0.5, spectral_weight=0.5),
    "image-ldm few-step of a KL VAE": lambda: image_ldm("KL", on_policy=1.0),
    "stablevsr tcm": lambda: StableVSRObjective(stablevsr("block"), TCMSettings()),
    "stablevsr tcm of a KL VAE": lambda: StableVSRObjective(stablevsr("KL"), TCMSettings()),
    "stablevsr few-step": lambda: StableVSRObjective(
        stablevsr("block"), TCMSettings(on_policy=0.5, temporal_weight=1.0)
    ),
    "stablevsr guidance-decoder": guidance_decoder,
    "stcdit vae": lambda: VAEObjective(stcdit(), VAESettings(change_weight=0.5)),
    "stcdit base": lambda: FlowObjective(stcdit(residual_std=0.5), FlowSettings()),
    "stcdit stcdit": lambda: FlowObjective(stcdit({"gated": True}), FlowSettings()),
    "stcdit stcdit on pictures": lambda: FlowObjective(
        stcdit({"lq_patches": True}, base=TINY_INPUT), FlowSettings(picture_share=1.0)
    ),
    "vdm-vsr autoencoder": lambda: AutoencoderObjective(vdm_vsr(False), AutoencoderSettings()),
    "vdm-vsr prior": lambda: PriorObjective(vdm_vsr(True), PriorSettings(min_snr=5.0)),
    "vdm-vsr autoencoder in patches": lambda: AutoencoderObjective(
        build_pipeline({"vae": PATCHED}), AutoencoderSettings()
    ),
    "vdm-vsr joint prior": joint_prior,
    "vdm-vsr regression": regression,
    "pseudo-text vit": masked_autoencoder,
    "pseudo-text vae": lambda: VAEStage(
        PseudoTextPipeline(vae=vae(condition_channels=0)), DecoderSettings(spectral_weight=0.1)
    ),
    "pseudo-text sft": lambda: SFTStage(pseudo_text(), DecoderSettings(spectral_weight=0.1)),
    "pseudo-text unet": lambda: UNetStage(
        pseudo_text(), DenoisingSettings(), PseudoTextAdapter("linear-linear", 16, 16, 24)
    ),
    "pseudo-text adapter": lambda: AdapterStage(pseudo_text(), DenoisingSettings(grid_steps=30)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_trains_on_a_gpu(stage):
    """As the loop does it: the network is moved by the loop, the rest by the objective."""
    with fake_gpu() as device:
        objective = STAGES[stage]()
        network = objective.trained.to(device)
        objective.to(device)
        hr = torch.rand(4, 3, 3, 32, 32).to(device)
        lr = torch.rand(4, 3, 3, 8, 8).to(device)
        generator = torch.Generator().manual_seed(0)
        loss, terms = objective.loss(network, Batch(hr, lr), generator)
        assert loss.device == device
        assert loss.shape == ()
        assert all(t.device == device and not t.requires_grad for t in terms.values())
        parameters = [p for p in network.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        assert any(g is not None for g in gradients)
        assert all(g.device == device for g in gradients if g is not None)


@pytest.mark.parametrize(
    "stage", [s for s in STAGES if s.startswith(("vdm", "stcdit", "stablevsr gui", "pseudo"))]
)
def test_shows_held_out_clips_on_a_gpu(stage, monkeypatch):
    """Validation hands over a batch on the CPU."""
    monkeypatch.setattr("framelift.methods.vdm_vsr.train.SHOWN_STEPS", 2)
    with fake_gpu() as device:
        objective = STAGES[stage]()
        objective.trained.to(device)
        objective.to(device)
        shown = objective.show(Batch(torch.rand(4, 3, 3, 32, 32), torch.rand(4, 3, 3, 8, 8)))
        assert shown.ndim == 3
        assert shown.device == device


@pytest.mark.parametrize("stage", [s for s in STAGES if "prior" not in s])
def test_a_step_depends_on_its_generator_alone(stage):
    """No stage draws from the global generator: a resumed step sees what an unbroken one saw."""
    torch.manual_seed(0)
    objective = STAGES[stage]()
    batch = Batch(torch.rand(4, 3, 3, 32, 32), torch.rand(4, 3, 3, 8, 8))
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        with torch.no_grad():
            generator = torch.Generator().manual_seed(5)
            losses.append(objective.loss(objective.trained, batch, generator)[0])
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*losses)


def test_directions_are_drawn_for_each_clip():
    """Half of the clips of a batch run backwards, not half of the batches."""
    objective = StableVSRObjective(stablevsr("block"), TCMSettings())
    seen = []
    objective.denoising_loss = lambda tcm, hr, lr, generator: seen.append(hr) or hr.mean()
    clip = torch.arange(3.0).reshape(1, 3, 1, 1, 1).expand(64, 3, 3, 32, 32) / 4
    batch = Batch(clip, clip[..., ::4, ::4])
    objective.loss(objective.trained, batch, torch.Generator().manual_seed(0))
    backwards = (seen[0][:, 0, 0, 0, 0] > seen[0][:, 2, 0, 0, 0]).sum()
    assert 16 < backwards < 48
