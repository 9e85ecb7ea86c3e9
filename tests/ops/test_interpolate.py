"""Interpolation of samples that lie where a stride took them."""

import torch

from framelift.ops.interpolate import interpolate


def test_bicubic_passes_through_the_samples_of_the_stride():
    x = torch.rand(1, 2, 3, 8, 12)
    made = interpolate(x, 4)
    assert made.shape == (1, 2, 3, 32, 48)
    torch.testing.assert_close(made[..., ::4, ::4], x)
    ramp = torch.arange(8.0).expand(1, 1, 1, 8, 8)
    inner = interpolate(ramp, 4)[..., 4:-12]  # Keys' kernel is exact on lines
    torch.testing.assert_close(inner, (torch.arange(4.0, 20) / 4).expand_as(inner))
