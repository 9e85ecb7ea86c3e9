"""Blur, stride, noise, JPEG and sharpening against independent formulas, and their gradients."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from framelift.degrade.ops import (
    bd,
    blur,
    gaussian_blur,
    gaussian_noise,
    quantize,
    rescale,
    stride,
)
from framelift.degrade.stages import blur as kernels
from framelift.degrade.stages.jpeg import jpeg
from framelift.degrade.stages.noise import poisson_noise
from framelift.degrade.stages.observe import Observation
from framelift.degrade.stages.unsharp import unsharp

SIGMAS = st.floats(0.2, 3.0)
SIZES = st.integers(1, 10).map(lambda n: 2 * n + 1)


def small(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


@given(SIZES, SIGMAS, SIGMAS, st.floats(-math.pi, math.pi), st.floats(0.5, 4), st.floats(0.6, 3.14))
def test_kernels_sum_to_one_and_look_the_same_upside_down(size, sx, sy, angle, beta, cutoff):
    for kernel in (
        kernels.gaussian(size, sx),
        kernels.gaussian(size, sx, sy, angle),
        kernels.generalized_gaussian(size, beta, sx, sy, angle),
        kernels.plateau(size, beta, sx, sy, angle),
        kernels.sinc(size, cutoff),
    ):
        assert kernel.shape == (size, size)
        assert kernel.isfinite().all()
        assert kernel.sum() == pytest.approx(1, abs=1e-12)
        assert torch.allclose(kernel, kernel.flip(0, 1), atol=1e-12)


def test_gaussian_by_its_density():
    """exp(−½ pᵀ Σ⁻¹ p) with the covariance matrix written out."""
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    inverse = np.linalg.inv(turn @ np.diag([2.0**2, 0.8**2]) @ turn.T)
    y, x = np.mgrid[-4:5, -4:5]
    points = np.stack([x, y], axis=-1)
    density = np.exp(-0.5 * np.einsum("...i,ij,...j->...", points, inverse, points))
    expected = density / density.sum()
    assert np.abs(kernels.gaussian(9, 2.0, 0.8, 0.7).numpy() - expected).max() < 1e-15
    # β = 1 is the Gaussian itself; a plateau at distance 1 has half the height of its centre
    assert torch.equal(
        kernels.generalized_gaussian(9, 1.0, 2.0, 0.8, 0.7), kernels.gaussian(9, 2.0, 0.8, 0.7)
    )
    flat = kernels.plateau(9, 1.7, 3.0)
    assert flat[4, 7] / flat[4, 4] == pytest.approx(0.5)


def test_sinc_keeps_what_is_below_the_cutoff():
    spectrum = np.abs(np.fft.rfft2(kernels.sinc(51, math.pi / 2).numpy(), (256, 256)))
    assert spectrum[0, :40].min() > 0.9
    assert spectrum[0, 90:].max() < 0.1


@given(st.integers(1, 9), st.integers(1, 9), SIZES)
def test_blur_reflects_borders(height, width, size):
    """Correlation over np.pad's "reflect", even where the kernel is wider than the picture."""
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    kernel = kernels.gaussian(size, 2.0, 0.7, 0.4)
    r = size // 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (r, r), (r, r)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    expected = np.einsum("tchwij,ij->tchw", windows, kernel.numpy())
    assert np.abs(blur(x, kernel).numpy() - expected).max() < 1e-12


def test_separable_blur_is_the_square_kernel():
    x = small(2, 3, 20, 17)
    assert torch.allclose(gaussian_blur(x, 1.6, 6), blur(x, kernels.gaussian(13, 1.6)), atol=1e-12)
    assert gaussian_blur(x, 0.0, 0) is x


def test_bd_is_the_published_formula():
    """BasicSR: Gaussian-filtered delta (SciPy), padded by 6 + 2·4, strided, two pixels cut off."""
    ndimage = pytest.importorskip("scipy.ndimage")
    delta = np.zeros((13, 13))
    delta[6, 6] = 1
    kernel = ndimage.gaussian_filter(delta, 1.6)
    x = small(1, 3, 32, 40)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (14, 14), (14, 14)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (13, 13), axis=(2, 3))
    strided = np.einsum("tchwij,ij->tchw", windows[:, :, ::4, ::4], kernel)
    expected = strided[:, :, 2:-2, 2:-2]
    assert bd(x).shape == expected.shape
    assert np.abs(bd(x).numpy() - expected).max() < 1e-12


def test_gradients_of_the_linear_operations():
    x = small(2, 2, 6, 5).requires_grad_()
    kernel = kernels.gaussian(5, 1.2, 0.7, 0.3)
    assert gradcheck(lambda x: blur(x, kernel), x)
    assert gradcheck(lambda x: gaussian_blur(x, 1.3, 4), x)
    assert gradcheck(lambda x: stride(x, 2), x)
    assert gradcheck(lambda x: bd(x, 2), x)
    assert gradcheck(lambda x: rescale(x, (4, 8), "bicubic"), x)


@pytest.mark.parametrize("sigma_h", [0.0, 0.8, 6.0])
@pytest.mark.parametrize("keep", [None, (True, False, True)])
def test_gradient_of_the_observation_model(sigma_h, keep):
    """Also at σ_h wider than the frame."""
    operator = Observation(2, sigma_h, keep)
    assert gradcheck(operator, small(3, 1, 6, 4).requires_grad_())


def test_observation_model():
    x = small(4, 3, 16, 24)
    assert torch.equal(Observation(4)(x), x[..., ::4, ::4])
    keep = Observation.mask(4, [1, 3])
    assert keep == (False, True, False, True)
    assert torch.equal(Observation(4, keep=keep)(x), x[1::2, :, ::4, ::4])
    blurred = Observation(4, 1.6)(x)
    assert torch.allclose(blurred, gaussian_blur(x, 1.6, 5)[..., ::4, ::4])
    noisy = Observation(4, 1.6).observe(x, 0.1, np.random.default_rng(0))
    assert (noisy - blurred).std() == pytest.approx(0.1, rel=0.1)
    assert Observation(4, decimation="bicubic")(x).shape == (4, 3, 4, 6)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 9))
def test_observation_model_is_linear(a, b, sigma_h):
    x, y = small(2, 2, 3, 8, 8)
    h = Observation(4, sigma_h)
    assert torch.allclose(h(a * x + b * y), a * h(x) + b * h(y), atol=1e-12)


def test_unsharp_is_the_published_formula():
    """Computed with OpenCV, in 8-bit levels as far as the threshold goes."""
    y, x = np.mgrid[:80, :90]
    picture = np.stack([0.5 + 0.4 * np.sin(x / (3 + c)) * np.cos(y / 5) for c in range(3)], axis=-1)
    picture[30:50, 20:60] = 0.9
    row = cv2.getGaussianKernel(51, 0)
    blurred = cv2.sepFilter2D(picture, -1, row, row)
    residual = picture - blurred
    mask = (np.abs(residual) * 255 > 10).astype(float)
    soft = cv2.sepFilter2D(mask, -1, row, row)
    expected = soft * np.clip(picture + 0.5 * residual, 0, 1) + (1 - soft) * picture
    got = unsharp(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert np.abs(got.numpy() - expected).max() < 1e-6
    assert np.abs(expected - picture).max() > 0.01
    flat = torch.full((1, 3, 30, 30), 0.4)
    assert torch.allclose(unsharp(flat), flat)


def test_gaussian_noise():
    x = torch.full((2, 3, 100, 100), 0.5)
    noise = gaussian_noise(x, 0.1, np.random.default_rng(1)) - x
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    assert abs(float(noise.mean())) < 0.003
    assert not torch.equal(noise[:, 0], noise[:, 1])
    gray = gaussian_noise(x, 0.1, np.random.default_rng(1), gray=True) - x
    assert torch.equal(gray[:, 0], gray[:, 2])
    assert not torch.equal(gray[0], gray[1])


def test_poisson_noise_grows_with_the_root_of_the_light():
    """Two levels in the frame: a white pixel counts two photons."""
    x = torch.zeros(1, 3, 200, 200)
    x[..., 100:] = 64 / 255
    noise = poisson_noise(x, 0.5, np.random.default_rng(2)) - x
    assert noise[..., :100].abs().max() == 0
    assert noise[..., 100:].std() == pytest.approx(0.5 * math.sqrt(64 / 255 / 2), rel=0.03)
    gray = poisson_noise(x, 0.5, np.random.default_rng(2), gray=True) - x
    assert torch.allclose(gray[:, 0], gray[:, 2], atol=1e-6)


def test_jpeg_is_the_codecs_and_passes_gradients():
    x = torch.rand(2, 3, 24, 32, requires_grad=True)
    y = jpeg(x, 30)
    bgr = (x[1].detach() * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    data = cv2.imencode(".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] / 255.0
    assert np.abs(y[1].detach().permute(1, 2, 0).numpy() - expected).max() < 1e-6
    errors = [(jpeg(x, q) - x).abs().mean().item() for q in (10, 50, 95)]
    assert errors[0] > errors[1] > errors[2]
    weight = torch.rand(2, 3, 24, 32)
    (y * weight).sum().backward()
    assert torch.equal(x.grad, weight)


def test_quantize():
    x = torch.tensor([-0.2, 0.1, 0.5012, 1.3], requires_grad=True)
    y = quantize(x)
    assert torch.allclose(y, torch.tensor([0.0, 26 / 255, 128 / 255, 1.0]))
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.0, 1.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("kernel", "flag"), [("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)]
)
def test_rescale_aliases_like_opencv(kernel, flag):
    x = torch.rand(1, 3, 24, 36)
    picture = x[0].permute(1, 2, 0).numpy()
    for size in ((12, 12), (48, 54), (7, 36)):
        expected = cv2.resize(picture, size[::-1], interpolation=flag)
        got = rescale(x, size, kernel)[0].permute(1, 2, 0).numpy()
        assert np.abs(got - expected).max() < 1e-4
    assert torch.allclose(rescale(x, (12, 12), "area")[0, :, 0, 0], x[0, :, :2, :3].mean((1, 2)))
