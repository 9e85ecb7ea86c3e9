"""A small decoder for the guidance, which is decoded at every step. Not in the paper.

The guide only has to show TCM what the neighbour has invented; the result is decoded by the codec
itself. So the decoder of an `AutoencoderTiny` (the layout of TAESD) may take the codec's place. It
never sees the LR frame: beside the block transform it predicts what TCM sees, that is what the
transform adds to the bicubic enlargement, over the local gain.
"""

import math
from typing import Any, cast

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from framelift.diffusion.codecs import LatentSpace, UpscalerCodec


def build_guidance_decoder(
    latents: LatentSpace, channels: int = 64, blocks: tuple[int, ...] = (3, 3, 1)
) -> AutoencoderTiny:
    """An untrained decoder of such latents; `blocks` residual blocks at each resolution.

    `AutoencoderTiny` cannot be without an encoder: here it is a stub that nothing uses.
    """
    levels = len(blocks)
    if levels != 1 + math.log2(latents.factor):
        raise ValueError(f"{levels} resolutions do not enlarge by {latents.factor}: {blocks}")
    network: Any = AutoencoderTiny(
        latent_channels=latents.channels,
        encoder_block_out_channels=(1,) * levels,
        num_encoder_blocks=(1,) * levels,
        decoder_block_out_channels=(channels,) * levels,
        num_decoder_blocks=tuple(blocks),
    )
    torch.nn.init.constant_(network.decoder.layers[-1].bias, 0.5)  # which the network maps to zero
    return network


def decode_small(decoder: AutoencoderTiny, latents: Tensor, codec: UpscalerCodec) -> Tensor:
    """D'(z) `[T, 3, H, W]` in [-1, 1], not clamped, for the frames that `codec` is bound to."""
    latents = latents.to(decoder.dtype)
    (guidance,) = decoder.decode(cast(Any, latents), return_dict=False)
    return codec.from_guidance(guidance)
