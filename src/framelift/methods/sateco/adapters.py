"""SFA and TFA at the end of every decoder block of diffusers' own UNet and VAE.

The networks stay diffusers' classes with their own files; the modules are a network of their own,
`SATeCoAdapters`, and act while `guided` holds. "End of a block" is before its upsampler: there
the maps have exactly the sizes and channels of E_z's and of the VAE encoder's.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers import AutoencoderKL, ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from framelift.methods.sateco.conditioning import FeatureGuidance, Guidance, Norm

Table2 = dict[str, tuple[Guidance, Guidance]]
TABLE_2: Table2 = {
    "A": ("zero-convolution", "zero-convolution"),
    "B": ("sfa", "zero-convolution"),
    "C": ("sfa-tfa", "zero-convolution"),
    "D": ("sfa-tfa", "sfa-tfa"),
}
"""What stands in (UNet, VAE) of the models of Table 2."""


class SATeCoAdapters(ModelMixin, ConfigMixin):
    """One `FeatureGuidance` for each decoder block, in the decoder's order.

    The defaults are those of Stable Diffusion's UNet decoder; its VAE decoder has (512, 512, 256,
    128) channels. `guidance_channels` are the same unless given.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (1280, 1280, 640, 320),
        guidance_channels: tuple[int, ...] | None = None,
        kind: Guidance = "sfa-tfa",
        norm: Norm = "instance",
        norm_groups: int = 32,
        residual: bool = False,
        window: int = 8,
        heads: int = 8,
        kernel: int = 1,
        chunk: int = 8,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            FeatureGuidance(c, g, kind, norm, norm_groups, residual, window, heads, kernel, chunk)
            for c, g in zip(channels, guidance_channels or channels, strict=True)
        )

    @contextmanager
    def guided(
        self, decoder_blocks: nn.ModuleList, guidance: Sequence[Tensor], frames: int
    ) -> Iterator[None]:
        """Let the decoder's blocks, which run inside this context, end with these modules.

        `decoder_blocks` are `unet.up_blocks` or `vae.decoder.up_blocks`; `guidance` has a map
        `[B·frames, C_i, h_i, w_i]` for each, smallest first. The decoder must see whole clips:
        no sliced or tiled decoding.
        """
        if not len(self.blocks) == len(decoder_blocks) == len(guidance):
            raise ValueError(
                f"{len(self.blocks)} modules, {len(decoder_blocks)} decoder blocks and "
                f"{len(guidance)} maps of guidance do not belong together"
            )
        with ExitStack() as stack:
            for module, block, g in zip(self.blocks, decoder_blocks, guidance, strict=True):
                stack.callback(_at_end(block, module, g, frames).remove)
            yield

    @classmethod
    def for_unet(cls, unet: UNet2DConditionModel, **config: Any) -> "SATeCoAdapters":
        """New modules of the sizes of this UNet's decoder."""
        return cls(channels=tuple(reversed(unet.config["block_out_channels"])), **config)

    @classmethod
    def for_vae(cls, vae: AutoencoderKL, **config: Any) -> "SATeCoAdapters":
        """New modules of the sizes of this VAE's decoder."""
        return cls(channels=tuple(reversed(vae.config["block_out_channels"])), **config)


def _at_end(block: Any, module: nn.Module, g: Tensor, frames: int) -> Any:
    """Hook `module` in where the block's features leave its layers; returns the hook's handle."""
    if getattr(block, "upsamplers", None):
        return block.upsamplers[0].register_forward_pre_hook(
            lambda _, args: (module(args[0], g, frames), *args[1:])
        )
    return block.register_forward_hook(lambda _, args, output: module(output, g, frames))


def encode_with_features(
    vae: AutoencoderKL, x_u: Tensor
) -> tuple[DiagonalGaussianDistribution, list[Tensor]]:
    """The latent distribution of X_u `[N, 3, H, W]` in [-1, 1], and the VAE decoder's guidance.

    The features are those at the end of each encoder block, before it halves them, smallest
    first: their sizes and channels are the decoder's.
    """
    features: list[Any] = []
    with ExitStack() as stack:
        blocks: Any = vae.encoder.down_blocks
        for block in blocks:
            if block.downsamplers:
                hook = block.downsamplers[0].register_forward_pre_hook(
                    lambda _, args: features.append(args[0])
                )
            else:
                hook = block.register_forward_hook(lambda _, args, output: features.append(output))
            stack.callback(hook.remove)
        moments = vae.encoder(x_u)  # not vae.encode, which may cut batches and pictures
        if vae.quant_conv is not None:
            moments = vae.quant_conv(moments)
    return DiagonalGaussianDistribution(moments), features[::-1]
