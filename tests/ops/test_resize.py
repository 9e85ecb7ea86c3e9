import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from framelift.ops.resize import downscale, resize, upscale


def cubic(x):
    """Keys' cubic with a = -0.5, as MATLAB's imresize has it."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def matlab_matrix(old, new):
    """`imresize`'s contributions as a matrix [new, old], float64."""
    scale = new / old
    shrink = min(scale, 1.0)
    width = 4 / shrink
    center = np.arange(1, new + 1) / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(center - width / 2)
    taps = left[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = shrink * cubic(shrink * (center[:, None] - taps))
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.concatenate([np.arange(old), np.arange(old)[::-1]])
    columns = mirrored[(taps.astype(int) - 1) % (2 * old)]
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], columns), weights)
    return matrix


def matlab(x, size):
    rows, columns = (matlab_matrix(o, n) for o, n in zip(x.shape[-2:], size, strict=True))
    return rows @ x.double().numpy() @ columns.T


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((16, 24), (4, 6)),
        ((16, 24), (64, 96)),
        ((18, 12), (9, 48)),
        ((8, 1280), (8, 320)),
        ((4, 320), (16, 1280)),
        ((1, 1), (4, 4)),
        ((4, 4), (1, 1)),
        ((1, 5), (4, 20)),
        ((2, 3), (8, 12)),
    ],
)
def test_equal_to_matlab(old, new):
    x = torch.rand(2, 3, *old)
    assert np.abs(resize(x, new).numpy() - matlab(x, new)).max() < 1e-6


@pytest.mark.parametrize(
    ("old", "new"),
    [((9, 7), (13, 5)), ((30, 20), (12, 50)), ((36, 64), (27, 48)), ((8, 480), (8, 1440))],
)
def test_almost_equal_at_odd_ratios(old, new):
    x = torch.rand(2, 3, *old)
    assert np.abs(resize(x, new).numpy() - matlab(x, new)).max() < 1e-4


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 4, 8]))
def test_whole_factors_are_equal_to_matlab(height, width, factor):
    small, large = (height, width), (height * factor, width * factor)
    x = torch.rand(3, *small)
    assert np.abs(upscale(x, factor).numpy() - matlab(x, large)).max() < 1e-6
    x = torch.rand(3, *large)
    assert np.abs(downscale(x, factor).numpy() - matlab(x, small)).max() < 1e-6


def test_sizes_without_common_divisor_differ_at_the_border_only():
    x = torch.rand(1, 3, 331, 4)
    difference = np.abs(resize(x, (150, 4)).numpy() - matlab(x, (150, 4))).max((0, 1, 3))
    assert difference[4:-4].max() < 1e-4
    assert difference.max() < 0.2


@given(*[st.integers(1, 30)] * 4, st.floats(0, 1))
def test_a_constant_stays(height, width, new_height, new_width, value):
    x = torch.full((1, 3, height, width), value)
    resized = resize(x, (new_height, new_width))
    assert resized.shape == (1, 3, new_height, new_width)
    assert (resized - value).abs().max() < 1e-6


def test_leading_dimensions_and_precision_are_kept():
    x = torch.rand(2, 5, 3, 8, 6)
    assert torch.equal(upscale(x, 2)[1, 4], upscale(x[1, 4], 2))
    half = upscale(x.bfloat16(), 2)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, upscale(x.bfloat16().float(), 2).bfloat16())


def test_gradient_flows():
    x = torch.rand(1, 3, 6, 6, requires_grad=True)
    upscale(x, 4).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.full_like(x, 16), atol=1e-4)
