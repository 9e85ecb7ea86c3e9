import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from framelift.ops.color_fix import color_fix, low_frequencies

SIZES = st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 40), st.integers(1, 40))


def published_blur(x):
    """The published form: five dilated 3×3 convolutions, each on replicated borders."""
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(row, row).expand(3, 1, 3, 3)
    for radius in (1, 2, 4, 8, 16):
        padded = F.pad(x, (radius,) * 4, mode="replicate")
        x = F.conv2d(padded, kernel, groups=3, dilation=radius)
    return x


@given(SIZES)
def test_wavelet_is_own_high_plus_reference_low(size):
    frames, reference = torch.rand(2, *size)
    wanted = frames - published_blur(frames) + published_blur(reference)
    assert torch.allclose(color_fix("wavelet", frames, reference), wanted, atol=1e-6)


@given(SIZES)
def test_identical_frames_stay(size):
    frames = torch.rand(size)
    assert torch.equal(color_fix("wavelet", frames, frames), frames)
    assert torch.equal(color_fix("none", frames, 1 - frames), frames)
    assert torch.allclose(color_fix("adain", frames, frames), frames, atol=1e-6)


@given(SIZES, st.sampled_from(["wavelet", "adain"]))
def test_a_colour_cast_is_removed(size, method):
    reference = torch.rand(size)
    cast = torch.tensor([0.2, -0.1, 0.05])[:, None, None]
    assert torch.allclose(color_fix(method, reference + cast, reference), reference, atol=1e-6)


def test_wavelet_takes_slow_and_leaves_fast_changes():
    fast = 0.1 * (-1.0) ** torch.arange(128)
    slow = torch.linspace(0, 1, 128)
    frames = (fast + slow.flip(0)).expand(1, 3, 8, 128)
    fixed = color_fix("wavelet", frames, slow.expand(1, 3, 8, 128))
    inner = slice(48, -48)
    assert torch.allclose(fixed[0, 0, 0, inner], (slow + fast)[inner], atol=1e-2)


def test_low_frequencies_of_a_point():
    """Far from borders the five levels are a triangle of 63 pixels, which sums to one."""
    point = torch.zeros(1, 1, 127)
    point[..., 63] = 1
    triangle = (32 - (torch.arange(127) - 63).abs()).clamp(min=0) / 1024
    assert torch.allclose(low_frequencies(point)[0, 0], triangle, atol=1e-7)


def test_adain_matches_statistics():
    frames, reference = torch.rand(2, 4, 3, 24, 32)
    reference = 0.3 + 0.2 * reference**2
    fixed = color_fix("adain", frames, reference)
    assert torch.allclose(fixed.mean((-2, -1)), reference.mean((-2, -1)), atol=1e-5)
    assert torch.allclose(fixed.std((-2, -1)), reference.std((-2, -1)), rtol=1e-2)


def test_adain_of_flat_frames():
    flat = torch.full((1, 3, 4, 4), 0.5)
    textured = torch.rand(1, 3, 4, 4)
    mean = textured.mean((-2, -1), keepdim=True).expand_as(flat)
    assert torch.allclose(color_fix("adain", flat, textured), mean, atol=1e-5)
    assert torch.allclose(color_fix("adain", textured, flat), flat, atol=2e-2)


@pytest.mark.parametrize("method", ["wavelet", "adain", "none"])
def test_computed_in_float32_and_not_clamped(method):
    frames = (3 * torch.rand(1, 3, 5, 6) - 1).bfloat16()
    fixed = color_fix(method, frames, frames)
    assert fixed.dtype == torch.float32
    assert torch.allclose(fixed, frames.float(), atol=1e-6)


@pytest.mark.parametrize("method", ["wavelet", "adain"])
def test_frames_of_one_pixel(method):
    frames, reference = torch.rand(2, 2, 3, 1, 1)
    assert torch.allclose(color_fix(method, frames, reference), reference, atol=1e-6)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="sizes differ"):
        color_fix("wavelet", torch.rand(1, 3, 4, 4), torch.rand(1, 3, 2, 2))
