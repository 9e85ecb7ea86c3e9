"""A linear autoencoder of pixel blocks, learned in closed form.

The optimum of a linear VAE is spanned by the principal components of its data (Tipping & Bishop,
"Probabilistic Principal Component Analysis", 1999; Lucas et al., "Don't Blame the ELBO!", 2019).
Here they are taken themselves: orthonormal, so that noise of latents is noise of pixels, and that
a mean of latents is decoded to the mean of their pictures. Posterior sampling leans on both.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn


class LinearAutoencoderKL(ModelMixin, ConfigMixin):
    """Frames `[B, 3, H, W]` ↔ latents `[B, c, H/factor, W/factor]`; the interface of AutoencoderKL.

    H and W are multiples of `factor`, c is at most 3·factor². Latents have no noise of their own.
    Before `fit` the basis is random.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        factor: int = 8,
        latent_channels: int = 32,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        values = 3 * factor**2
        basis = torch.linalg.qr(torch.randn(values, latent_channels)).Q
        self.basis = nn.Parameter(basis.T.contiguous(), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(values), requires_grad=False)
        self.gradient_checkpointing = False  # there is nothing to recompute

    @torch.no_grad()
    def fit(self, frames: Iterable[Tensor]) -> None:
        """Take mean and principal components of the blocks of `frames`, each `[B, 3, H, W]`."""
        values = self.mean.shape[0]
        count = 0
        total = torch.zeros(values, dtype=torch.float64)
        products = torch.zeros(values, values, dtype=torch.float64)
        for batch in frames:
            blocks = F.pixel_unshuffle(batch.double().cpu(), self.config["factor"])
            blocks = blocks.transpose(0, 1).flatten(1)
            count += blocks.shape[1]
            total += blocks.sum(1)
            products += blocks @ blocks.T
        mean = total / count
        variances, components = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        largest = variances.argsort(descending=True)[: len(self.basis)]
        basis = components[:, largest].T
        peaks = basis.gather(1, basis.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.basis.copy_(basis * peaks.sign())  # a component's sign is any library's choice

    @apply_forward_hook
    def encode(
        self, x: Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """The distribution of the latents of frames in [-1, 1]."""
        blocks = F.pixel_unshuffle(x, self.config["factor"]) - self.mean[:, None, None]
        z = torch.einsum("cv,bvhw->bchw", self.basis, blocks)
        moments = torch.cat([z, torch.zeros_like(z)], dim=1)
        posterior = DiagonalGaussianDistribution(moments, deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Frames, not clamped."""
        blocks = torch.einsum("cv,bchw->bvhw", self.basis, z) + self.mean[:, None, None]
        frames = F.pixel_shuffle(blocks, self.config["factor"])
        return DecoderOutput(sample=cast(Any, frames)) if return_dict else (frames,)
