"""Grid index and grain: what they see, and what leaves them alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framelift.metrics.texture import grid_index

RNG = np.random.default_rng(0)


def natural(height=320, width=384):
    """Luma with the falling spectrum of photographs."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    spectrum = 1 / np.maximum(np.hypot(y, x), 1 / height)
    phase = np.random.default_rng(3).uniform(0, 2 * np.pi, spectrum.shape)
    values = np.fft.irfft2(spectrum * np.exp(1j * phase), (height, width))
    return 120 + 40 * values / values.std()


def stripes(values, amplitude, axis, period=4):
    """A wave along an axis."""
    wave = amplitude * np.cos(2 * np.pi * np.arange(values.shape[axis]) / period)
    return values + (wave[:, None] if axis == 0 else wave)


def literally(values):
    """The definition word for word: two-dimensional spectra of Hann windows, added, summed."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    power = np.zeros((256, 256))
    for y in range(0, values.shape[0] - 255, 64):
        for x in range(0, values.shape[1] - 255, 64):
            window = values[y : y + 256, x : x + 256] * np.outer(hann, hann)
            power += np.abs(np.fft.fft2(window)) ** 2
    indices = []
    for axis in (0, 1):
        line = power.sum(axis)
        beside = np.concatenate([line[55:61], line[68:74]])
        indices.append(line[63:66].mean() / beside.mean())
    return np.mean(indices)


def test_the_definition():
    values = stripes(natural(), 2, 1)
    assert grid_index(values) == pytest.approx(literally(values), rel=1e-9)


@given(amplitude=st.floats(3, 20), axis=st.integers(0, 1), shift=st.integers(0, 3))
def test_a_pattern_of_period_four_raises_it(amplitude, axis, shift):
    clean = natural(256, 272)
    before, after = grid_index(clean), grid_index(np.roll(stripes(clean, amplitude, axis), shift))
    assert after > before
    assert grid_index(stripes(clean, 2 * amplitude, axis)) > after


@pytest.mark.parametrize("period", [2, 8, 3])
def test_other_periods_do_not_raise_it(period):
    clean = natural()
    before = grid_index(clean)
    assert before == pytest.approx(1, abs=0.15)
    assert grid_index(stripes(clean, 10, 0, period)) == pytest.approx(before, rel=0.02)


@given(gain=st.floats(0.01, 50), offset=st.floats(-500, 500))
def test_neither_contrast_nor_brightness_matter(gain, offset):
    values = stripes(natural(256, 256), 1, 0)
    assert grid_index(values * gain + offset) == pytest.approx(grid_index(values), rel=1e-6)


@pytest.mark.parametrize("size", [(255, 300), (128, 128), (64, 90)])
def test_small_frames_see_the_pattern_too(size):
    clean = natural(*size)
    assert grid_index(stripes(clean, 60, 1)) > 3 > 1.6 > grid_index(clean)


def test_where_there_is_nothing_to_measure():
    assert grid_index(natural(63, 400)) is None
    assert grid_index(np.full((256, 256), 128.0)) is None


def test_every_eighth_frame_that_counts(measure, clip_of):
    frames = clip_of(10, 1, 0)
    values = measure(["grid"], {"x": frames}, frames)
    assert [v is None for v in values.values["x"]["grid"]] == [t % 8 > 0 for t in range(10)]
    assert values.truth["grid"] == values.values["x"]["grid"]


def test_grain_is_a_ratio_on_flat_places(score):
    noise = RNG.normal(0, 1, (64, 96, 1))

    def picture(gain, stripes=0):
        values = 128 + gain * noise.repeat(3, 2)
        values[:, 56:] += stripes * (-1) ** np.arange(40)[:, None]
        return values.round().astype(np.uint8)

    gt = picture(1)
    assert score("grain", gt, gt) == 1
    assert score("grain", picture(2), gt) == pytest.approx(4, rel=0.15)
    assert score("grain", picture(0), gt) == 0
    assert score("grain", picture(1, stripes=20), gt) > 10  # invented on a flat place
    striped = picture(1, stripes=20)
    assert score("grain", picture(1, stripes=40), striped) < 3  # the stripes themselves are none
    assert score("grain", gt, np.tile(striped[:, 64:], (1, 3, 1))) is None
    assert score("grain", gt, picture(0)) is None
