"""New STCDiT pipelines from a recipe's configuration, with random weights."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, WanResidualBlock
from torch import nn

from framelift.errors import UsageError
from framelift.methods.base import VSRPipeline
from framelift.methods.stcdit.pipeline import STCDiTPipeline
from framelift.methods.stcdit.transformer import AnchoredWanTransformer

SHIFT = 5.0
FIRST_LOGVAR = (
    -6.0
)  # of a new VAE's posterior: with unit noise, which it would have, little is learned


def pipeline_of(pipeline: VSRPipeline | None) -> STCDiTPipeline | None:
    """What a recipe's init_from names; UsageError if it is another method's."""
    if pipeline is not None and not isinstance(pipeline, STCDiTPipeline):
        raise UsageError(
            f"STCDiT is not trained from a {type(pipeline).__name__}.",
            "Name a preset or folder of stcdit as init_from, or none.",
        )
    return pipeline


def build_pipeline(model: Mapping[str, Any]) -> STCDiTPipeline:
    """A pipeline with an untrained VAE and no transformer yet.

    `model.vae` is for `build_vae`; `model.scheduler` holds arguments of the scheduler,
    `model.pipeline` of the pipeline.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(**{"shift": SHIFT, **model.get("scheduler", {})})
    return STCDiTPipeline(build_vae(model["vae"]), scheduler, **model.get("pipeline", {}))


def build_vae(config: Mapping[str, Any]) -> AutoencoderKLWan:
    """An untrained VAE from arguments of `AutoencoderKLWan`.

    `attention` (default true) is one more: false silences the attention in its middle, which makes
    it convolutional.
    """
    config = dict(config)
    attention = config.pop("attention", True)
    channels = config.get("z_dim", 16)
    unit = {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
    vae = AutoencoderKLWan(**{**unit, **config})
    _calm(vae)
    if not attention:
        silence(vae)
    return vae


def build_base(pipeline: STCDiTPipeline, config: Mapping[str, Any]) -> WanTransformer3DModel:
    """An untrained DiT for a pipeline's latents, with the large model's input unless told.

    Its output is zero, and there is no text: one token of `text_dim` values stands for it.
    """
    channels = pipeline.latent_space.channels
    sizes = {"in_channels": 2 * channels + 4, "out_channels": channels, "text_dim": 8}
    made = WanTransformer3DModel(**{**sizes, **config})
    for parameter in made.proj_out.parameters():
        nn.init.zeros_(parameter)
    return made


def extend(base: WanTransformer3DModel, guidance: Mapping[str, Any]) -> AnchoredWanTransformer:
    """The base with LoRA, AFR, ACFM and whatever else `guidance` asks for, all without effect."""
    return AnchoredWanTransformer.from_base(base, **guidance)


@torch.no_grad()
def silence(vae: AutoencoderKLWan) -> None:
    """Let the attention in the middle of encoder and decoder add nothing.

    It sees whole frames: trained on crops for a short time it would meet other sizes in use, and
    tiles would not fit together.
    """
    for attention in attentions(vae):
        _zero(attention.proj)


def attentions(vae: AutoencoderKLWan) -> list[Any]:
    """The attention in the middle of encoder and decoder."""
    blocks: Any = (vae.encoder.mid_block, vae.decoder.mid_block)
    return [attention for block in blocks for attention in block.attentions]


@torch.no_grad()
def _calm(vae: AutoencoderKLWan) -> None:
    """Let a new VAE begin near its shortcuts, with little noise in its latents.

    What residual blocks add begins at zero, and so does what halving and doubling add where
    shortcuts carry averages past them (`is_residual`).
    """
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            _zero(module.conv2)
        elif isinstance(module, WanResample) and vae.config["is_residual"]:
            _zero(module.resample[1])  # pyright: ignore[reportIndexIssue]
    convolution: Any = vae.quant_conv
    channels = len(convolution.bias) // 2
    convolution.weight[channels:].zero_()
    convolution.bias[channels:].fill_(FIRST_LOGVAR)


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
