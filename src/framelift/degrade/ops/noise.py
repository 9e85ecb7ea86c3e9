"""Noise of sensors. The random numbers come from a NumPy Generator, so that seeds are exact."""

import numpy as np
import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def gaussian_noise(x: Tensor, sigma: float, rng: np.random.Generator, gray: bool = False) -> Tensor:
    """Add Gaussian noise of deviation `sigma` (for values in [0, 1]) to `x` `[T, 3, H, W]`.

    `gray`: the same noise in all three channels. The result is not clamped.
    """
    frames, channels, height, width = x.shape
    shape = (frames, 1 if gray else channels, height, width)
    return x + sigma * torch.from_numpy(rng.standard_normal(shape, np.float32)).to(x)


def poisson_noise(x: Tensor, scale: float, rng: np.random.Generator, gray: bool = False) -> Tensor:
    """Add `scale` times the noise of counting photons to `x` `[T, 3, H, W]` in [0, 1].

    A white pixel counts 2^⌈log₂ n⌉ photons, n being how many of the 256 levels a frame uses, as
    in Real-ESRGAN. `gray` takes the noise of the luma for all channels. The result is not clamped.
    """
    base = (x.detach().clamp(0, 1) * 255).round()
    if gray:
        luma = torch.tensor(_LUMA).to(x)[:, None, None]
        base = (base * luma).sum(1, keepdim=True).round()
    levels = base.to(torch.uint8).cpu().numpy()
    noise = np.empty(levels.shape, np.float32)
    for frame, out in zip(levels, noise, strict=True):
        photons = 2.0 ** np.ceil(np.log2(np.count_nonzero(np.bincount(frame.ravel()))))
        clean = frame / 255.0
        out[:] = rng.poisson(clean * photons) / photons - clean
    return x + scale * torch.from_numpy(noise).to(x)
