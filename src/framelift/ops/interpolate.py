"""Bicubic interpolation between samples that a plain stride has taken."""

import torch
from torch import Tensor


def interpolate(y: Tensor, factor: int) -> Tensor:
    """Bicubic interpolation (Keys, a = -0.5) of samples that lie at the pixels 0, factor, ….

    Decimation by stride takes just these. Interpolation that places samples in the middle of
    their blocks, as usual for pictures, would be off by (factor - 1) / 2 pixels. Borders repeat.
    """
    rows, columns = (_weights(n, factor).to(y) for n in y.shape[-2:])
    return rows @ y @ columns.mT


def _weights(samples: int, factor: int) -> Tensor:
    """`[samples · factor, samples]`: what each sample contributes to each pixel."""
    at = torch.arange(samples * factor, dtype=torch.float64) / factor
    weights = torch.zeros(len(at), samples, dtype=torch.float64)
    for offset in range(-1, 3):
        neighbour = at.floor() + offset
        index = neighbour.clamp(0, samples - 1).long()[:, None]
        weights.scatter_add_(1, index, _cubic((at - neighbour).abs())[:, None])
    return weights


def _cubic(x: Tensor) -> Tensor:
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, far) * (x < 2)
