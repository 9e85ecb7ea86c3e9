"""The pseudo-text adapter's parts at tiny size, real classes with random weights."""

import copy

from diffusers import DDIMScheduler, DDPMScheduler, UNet3DConditionModel
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import ViTConfig, ViTModel

from framelift.methods.pseudo_text.adapter import PseudoTextAdapter
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.sft_vae import SFTAutoencoderKL

VAE = {
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.08333,
}
IMAGE = {
    "in_channels": 7,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
    "num_class_embeds": 1000,
    "use_linear_projection": True,
    "only_cross_attention": (True, False),
}
SCHEDULER = DDIMScheduler(
    beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False
)
LOW_RES = DDPMScheduler()


def vit() -> ViTModel:
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    with unset_fake_temporarily():  # transformers looks at numbers while it initialises
        return ViTModel(config).eval()


def vae(**options) -> SFTAutoencoderKL:
    return SFTAutoencoderKL(**{**VAE, "condition_channels": 8, **options}).eval()


def ali() -> UNet3DConditionModel:
    return UNet3DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=24,
        attention_head_dim=8,
    ).eval()


def pipeline(unet=None, kind: str = "linear-linear", **options) -> PseudoTextPipeline:
    unet = unet or InflatedUNet(**IMAGE).eval()
    adapter = PseudoTextAdapter(kind, 16, 20, 24, heads=2)
    with unset_fake_temporarily():  # add_noise moves a scheduler's table in its place
        low_res = copy.deepcopy(LOW_RES)
    parts = {"low_res_scheduler": low_res, "plain_vae": vae(condition_channels=0)}
    options = {"steps": 2, "finish": "wavelet", **options}
    return PseudoTextPipeline(vit(), adapter, unet, vae(), SCHEDULER, **parts, **options)
