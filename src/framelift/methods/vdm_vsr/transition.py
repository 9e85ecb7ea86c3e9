"""The reverse step q(Z_s | Z_t, Z_0) with a learned variance, of a full or respaced process.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020), eq. 7; Nichol & Dhariwal, "Improved
Denoising Diffusion Probabilistic Models" (2021), eq. 15. Equal to diffusers' `DDPMScheduler` with
`variance_type="learned_range"`, but with the noise left to the caller.
"""

from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "sample", "v_prediction"]
"""What a network returns, in diffusers' words."""


class Transition:
    """From step `t` to an earlier `s` (-1 is Z_0), each an integer tensor `[B]` or 0-d.

    Every method takes and returns tensors whose first axis is B.
    """

    def __init__(self, alphas_cumprod: Tensor, t: Tensor, s: Tensor) -> None:
        cumulative = alphas_cumprod.to(t.device)
        self.alpha_bar = cumulative[t]
        self.alpha_bar_s = torch.where(s >= 0, cumulative[s.clamp(min=0)], 1.0)
        self.alpha = self.alpha_bar / self.alpha_bar_s
        self.beta = 1 - self.alpha

    def z0(self, z_t: Tensor, output: Tensor, predicts: Prediction = "epsilon") -> Tensor:
        """Ẑ_0 = (Z_t + (1 - ᾱ_t) ŝ) / √ᾱ_t with the score ŝ = -ε̂ / √(1 - ᾱ_t) (line 4).

        The network's `output` may also be Ẑ_0 itself or the velocity √ᾱ_t ε - √(1 - ᾱ_t) Z_0.
        """
        alpha_bar = _like(self.alpha_bar, z_t)
        if predicts == "sample":
            return output
        if predicts == "v_prediction":
            return alpha_bar.sqrt() * z_t - (1 - alpha_bar).sqrt() * output
        score = -output / (1 - alpha_bar).sqrt()
        return (z_t + (1 - alpha_bar) * score) / alpha_bar.sqrt()

    def target(self, z0: Tensor, epsilon: Tensor, predicts: Prediction) -> Tensor:
        """What a network shall return for Z_t = √ᾱ_t Z_0 + √(1 - ᾱ_t) ε: `z0`'s inverse."""
        if predicts == "v_prediction":
            alpha_bar = _like(self.alpha_bar, z0)
            return alpha_bar.sqrt() * epsilon - (1 - alpha_bar).sqrt() * z0
        return z0 if predicts == "sample" else epsilon

    def mean(self, z_t: Tensor, z0: Tensor) -> Tensor:
        """[√α_t (1 - ᾱ_s) Z_t + √ᾱ_s β_t Ẑ_0] / (1 - ᾱ_t) (line 6, its root and bar set right)."""
        alpha, beta = _like(self.alpha, z_t), _like(self.beta, z_t)
        alpha_bar, alpha_bar_s = _like(self.alpha_bar, z_t), _like(self.alpha_bar_s, z_t)
        weighted = alpha.sqrt() * (1 - alpha_bar_s) * z_t + alpha_bar_s.sqrt() * beta * z0
        return weighted / (1 - alpha_bar)

    def log_variance(self, v: Tensor | None, like: Tensor) -> Tensor:
        """log σ_t² = f log β_t + (1 - f) log β̃_t with f = (v + 1)/2; log β̃_t without v."""
        least = self.beta * (1 - self.alpha_bar_s) / (1 - self.alpha_bar)
        low, high = (_like(b, like).clamp_min(1e-20).log() for b in (least, self.beta))
        if v is None:
            return low.expand_as(like)
        share = (v + 1) / 2
        return share * high + (1 - share) * low

    def sigma(self, v: Tensor | None, like: Tensor) -> Tensor:
        """σ_t to sample with; v is held in [-1, 1].

        The steps of a respaced process are wider than those that trained v, and where v outside
        means a little more noise in training, it would mean noise without bounds here.
        """
        return (0.5 * self.log_variance(None if v is None else v.clamp(-1, 1), like)).exp()


def normal_kl(mean: Tensor, log_variance: Tensor, other: Tensor, other_log: Tensor) -> Tensor:
    """KL divergence of two diagonal Gaussians, element by element, in nats."""
    ratio = torch.exp(log_variance - other_log)
    return 0.5 * (other_log - log_variance + ratio - 1 + (mean - other) ** 2 * (-other_log).exp())


def _like(value: Tensor, tensor: Tensor) -> Tensor:
    return value.to(tensor.dtype).reshape(-1, *[1] * (tensor.ndim - 1))
