"""The reverse step q(Z_s | Z_t, Z_0) with a learned variance, of a full or respaced process.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020), eq. 7; Nichol & Dhariwal, "Improved
Denoising Diffusion Probabilistic Models" (2021), eq. 15. Equal to diffusers' `DDPMScheduler` with
`variance_type="learned_range"`, but with the noise left to the caller.
"""

import torch
from torch import Tensor

from framelift.diffusion.parameterisation import Prediction, like, target, to_x0


class Transition:
    """From step `t` to an earlier `s` (-1 is Z_0), each an integer tensor `[B]` or 0-d.

    Every method takes and returns tensors whose first axis is B, on any device.
    """

    def __init__(self, alphas_cumprod: Tensor, t: Tensor, s: Tensor) -> None:
        cumulative = alphas_cumprod.to(t.device)
        self.alpha_bar = cumulative[t]
        self.alpha_bar_s = torch.where(s >= 0, cumulative[s.clamp(min=0)], 1.0)
        self.alpha = self.alpha_bar / self.alpha_bar_s
        self.beta = 1 - self.alpha

    def z0(self, z_t: Tensor, output: Tensor, predicts: Prediction = "epsilon") -> Tensor:
        """Ẑ_0 = (Z_t + (1 - ᾱ_t) ŝ) / √ᾱ_t with the score ŝ = -ε̂ / √(1 - ᾱ_t) (line 4).

        That is x₀ of a prediction of ε; the network's `output` may also be another.
        """
        return to_x0(predicts, output, z_t, self.alpha_bar.sqrt(), (1 - self.alpha_bar).sqrt())

    def target(self, z0: Tensor, epsilon: Tensor, predicts: Prediction) -> Tensor:
        """What a network shall return for Z_t = √ᾱ_t Z_0 + √(1 - ᾱ_t) ε: `z0`'s inverse."""
        return target(predicts, z0, epsilon, self.alpha_bar.sqrt(), (1 - self.alpha_bar).sqrt())

    def mean(self, z_t: Tensor, z0: Tensor) -> Tensor:
        """[√α_t (1 - ᾱ_s) Z_t + √ᾱ_s β_t Ẑ_0] / (1 - ᾱ_t) (line 6, its root and bar set right)."""
        alpha, beta = like(self.alpha, z_t), like(self.beta, z_t)
        alpha_bar, alpha_bar_s = like(self.alpha_bar, z_t), like(self.alpha_bar_s, z_t)
        weighted = alpha.sqrt() * (1 - alpha_bar_s) * z_t + alpha_bar_s.sqrt() * beta * z0
        return weighted / (1 - alpha_bar)

    def log_variance(self, v: Tensor | None, x: Tensor) -> Tensor:
        """log σ_t² = f log β_t + (1 - f) log β̃_t with f = (v + 1)/2; log β̃_t without v."""
        least = self.beta * (1 - self.alpha_bar_s) / (1 - self.alpha_bar)
        low, high = (like(b, x).clamp_min(1e-20).log() for b in (least, self.beta))
        if v is None:
            return low.expand_as(x)
        share = (v + 1) / 2
        return share * high + (1 - share) * low

    def sigma(self, v: Tensor | None, x: Tensor) -> Tensor:
        """σ_t to sample with; v is held in [-1, 1].

        The steps of a respaced process are wider than those that trained v, and where v outside
        means a little more noise in training, it would mean noise without bounds here.
        """
        return (0.5 * self.log_variance(None if v is None else v.clamp(-1, 1), x)).exp()


def normal_kl(mean: Tensor, log_variance: Tensor, other: Tensor, other_log: Tensor) -> Tensor:
    """KL divergence of two diagonal Gaussians, element by element, in nats."""
    ratio = torch.exp(log_variance - other_log)
    return 0.5 * (other_log - log_variance + ratio - 1 + (mean - other) ** 2 * (-other_log).exp())
