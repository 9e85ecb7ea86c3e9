"""The Temporal Conditioning Module (Section 4.1): a ControlNet over the image upscaler's UNet.

It sees what the UNet sees and, through a stem that brings it to the latents' size, the Temporal
Texture Guidance; what it makes of them is added to the UNet's skip connections and middle. Its last
convolutions are zero at first, so that an untrained module changes nothing.
"""

import math
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn


def build_tcm(
    unet: UNet2DConditionModel,
    factor: int = 4,
    channels: int = 3,
    stem: tuple[int, ...] = (64, 128, 256),
    warm_stem: bool = False,
) -> ControlNetModel:
    """A copy of the UNet's encoder and middle behind a stem for guidance of `channels` channels.

    Every stage of the stem but the first halves the guidance, `factor` times the latents' size.
    `warm_stem` starts the stem's convolutions, the last as well, so that the guidance arrives as
    strong as it came: beside the image's own features it is otherwise too faint for a short
    training to notice. The module still adds nothing at first.
    """
    if len(stem) != 1 + math.log2(factor):
        raise ValueError(f"a stem of {len(stem)} stages does not reduce by {factor}: {stem}")
    tcm: Any = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=stem, conditioning_channels=channels
    )
    if warm_stem:
        for layer in tcm.controlnet_cond_embedding.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return tcm


def without_noise_level(network: Any) -> None:
    """Remove the noise-level label from a UNet or TCM: the released StableVSR passes none."""
    if network.config["num_class_embeds"] is None:
        return
    network.class_embedding = None
    network.register_to_config(num_class_embeds=None)


def zero_convolutions(tcm: ControlNetModel) -> list[nn.Parameter]:
    """The parameters that are zero in an untrained module."""
    blocks = [*tcm.controlnet_down_blocks, tcm.controlnet_mid_block]
    return [p for block in blocks for p in block.parameters()]


def is_identity(tcm: ControlNetModel) -> bool:
    """Whether the module adds nothing to any UNet."""
    return all(not torch.any(p) for p in zero_convolutions(tcm))
