"""What a denoiser predicts, and what that says of the data: ε, x₀, v and flow.

A noisy sample is x_t = α x₀ + σ ε, with α² + σ² = 1 on the way of a diffusion (α = √ᾱ_t) and
α + σ = 1 on that of a flow. Networks return one of (diffusers' names)

* `epsilon`: ε (Ho et al. 2020),
* `sample`: x₀,
* `v_prediction`: v = α ε - σ x₀ (Salimans & Ho 2022), on the way of a diffusion,
* `flow_prediction`: u = ε - x₀ (Lipman et al. 2023; Liu et al. 2023).

`alpha` and `sigma` are 0-d, or hold a value for each row of a batch; the results have the shape,
device and precision of the samples.
"""

from typing import Any, Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "sample", "v_prediction", "flow_prediction"]


def prediction_of(scheduler: Any) -> Prediction:
    """What a network under this scheduler of diffusers predicts."""
    if "prediction_type" in scheduler.config:
        return scheduler.config["prediction_type"]
    return "epsilon" if hasattr(scheduler, "alphas_cumprod") else "flow_prediction"


def alpha_sigma(alphas_cumprod: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1-ᾱ_t), of the shape and on the device of `t` (a number: 0-d, on the table's)."""
    if isinstance(t, Tensor):
        alphas_cumprod = alphas_cumprod.to(t.device)
    cumulative = alphas_cumprod[t]
    return cumulative.sqrt(), (1 - cumulative).sqrt()


def add_noise(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = α x₀ + σ ε."""
    return like(alpha, x0) * x0 + like(sigma, x0) * noise


def target(kind: Prediction, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the network shall return for `add_noise(x0, noise, alpha, sigma)`."""
    if kind == "v_prediction":
        return like(alpha, x0) * noise - like(sigma, x0) * x0
    if kind == "flow_prediction":
        return noise - x0
    return x0 if kind == "sample" else noise


def to_x0(kind: Prediction, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x̃₀, the data that a network's output implies."""
    alpha, sigma = like(alpha, x_t), like(sigma, x_t)
    if kind == "v_prediction":
        return alpha * x_t - sigma * output
    if kind == "flow_prediction":
        return (x_t - sigma * output) / (alpha + sigma)
    return output if kind == "sample" else (x_t - sigma * output) / alpha


def to_epsilon(
    kind: Prediction, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """ε̃, the noise that a network's output implies."""
    alpha, sigma = like(alpha, x_t), like(sigma, x_t)
    if kind == "v_prediction":
        return alpha * output + sigma * x_t
    if kind == "flow_prediction":
        return (x_t + alpha * output) / (alpha + sigma)
    return (x_t - alpha * output) / sigma if kind == "sample" else output


def like(value: Tensor, x: Tensor) -> Tensor:
    """A 0-d value, or one for each row of `x`, so that it can be multiplied with `x`."""
    value = value.to(x.device, x.dtype if x.is_floating_point() else torch.float32)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value
