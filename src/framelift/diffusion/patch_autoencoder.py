"""A KL autoencoder whose layers work on patches: large pictures at a fraction of the cost.

The encoder and decoder are diffusers' own (Stable Diffusion's), between a pixel unshuffle and a
pixel shuffle: with patches of 4 pixels their first level sees a sixteenth of the positions.
"""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder, DiagonalGaussianDistribution, Encoder
from torch import Tensor, nn

from framelift.diffusion.codecs import LatentSpace


class PatchAutoencoderKL(ModelMixin, ConfigMixin):
    """Frames `[N, 3, H, W]` in [-1, 1] ↔ latents `[N, c, H/f, W/f]`, f = patch · 2^(levels − 1).

    The decoder ends with `tail_channels` channels at full size and one 3×3 convolution over them,
    which sees across the borders of patches.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        patch_size: int = 4,
        block_out_channels: tuple[int, ...] = (32, 64),
        layers_per_block: int = 1,
        latent_channels: int = 16,
        tail_channels: int = 12,
        norm_num_groups: int = 8,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        levels, area = len(block_out_channels), patch_size**2
        shape: dict[str, Any] = {
            "block_out_channels": block_out_channels,
            "layers_per_block": layers_per_block,
            "norm_num_groups": norm_num_groups,
            "mid_block_add_attention": False,
        }
        encoder: Any = Encoder(
            in_channels=3 * area,
            out_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            **shape,
        )
        encoder.conv_in = nn.Sequential(nn.PixelUnshuffle(patch_size), encoder.conv_in)
        self.encoder = encoder
        self.quant_conv = None
        decoder: Any = Decoder(
            in_channels=latent_channels,
            out_channels=tail_channels * area,
            up_block_types=("UpDecoderBlock2D",) * levels,
            **shape,
        )
        decoder.conv_out = nn.Sequential(
            decoder.conv_out,
            nn.PixelShuffle(patch_size),
            nn.LeakyReLU(0.1),
            nn.Conv2d(tail_channels, 3, 3, padding=1),
        )
        self.decoder = decoder

    @property
    def latent_space(self) -> LatentSpace:
        factor = self.config["patch_size"] * 2 ** (len(self.config["block_out_channels"]) - 1)
        return LatentSpace(self.config["latent_channels"], factor)

    def encode(self, x: Tensor, return_dict: bool = True) -> tuple[DiagonalGaussianDistribution]:
        """The distribution of latents, always in a tuple (`return_dict` is diffusers')."""
        return (DiagonalGaussianDistribution(self.encoder(x)),)

    def decode(self, z: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        """Frames, in a tuple."""
        return (self.decoder(z),)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames again, by way of latents, and the mean KL divergence of a latent value.

        `noise` `[N, c, h, w]` draws the latents; without it they are the means.
        """
        (posterior,) = self.encode(x)
        z = posterior.mean if noise is None else posterior.mean + posterior.std * noise
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar)
        return self.decode(z)[0], torch.mean(kl.float())
