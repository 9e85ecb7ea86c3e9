"""Shape persistence: truth, digits that are exchanged, digits that fade, what cannot be told."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from framelift.datasets import MovingMNIST
from framelift.metrics.persistence import find_again, find_digits, shape_persistence

MNIST = Path(__file__).parents[2] / ".." / "shared" / "data" / "mnist"


def letter(text: str) -> np.ndarray:
    """A glyph of 28×28 pixels."""
    image = np.zeros((28, 28), np.uint8)
    cv2.putText(image, text, (4, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2, cv2.LINE_AA)
    return image


def clip(before: str, after: str, frames: int = 10) -> np.ndarray:
    """A glyph that moves over black and is another one in the second half."""
    made = np.zeros((frames, 64, 64), np.uint8)
    for t, frame in enumerate(made):
        frame[5 + 3 * t :, 2 + 2 * t :][:28, :28] = letter(before if t < frames // 2 else after)
    return made


def test_a_digit_that_only_moves_has_one():
    found = shape_persistence([clip("5", "5"), clip("2", "2"), clip("7", "7")])
    assert found.score == pytest.approx(1, abs=1e-4)
    assert found.unrelated < 0.75
    assert (found.digits, found.clips) == (3, 3)


def test_a_digit_that_becomes_another_has_what_unrelated_ones_have():
    changed = shape_persistence([clip("5", "2"), clip("2", "7"), clip("7", "5")])
    kept = shape_persistence([clip("5", "5"), clip("2", "2"), clip("7", "7")])
    assert changed.score < 0.75
    assert abs(changed.score - kept.unrelated) < 0.1
    assert shape_persistence([clip("5", "2"), clip("2", "7")], last=3).score > 0.99


def test_a_digit_that_is_gone_has_nothing():
    gone = clip("5", "5")
    gone[-1] = 0
    assert shape_persistence([gone, gone]).score == 0


def test_brightness_does_not_matter_but_blur_does():
    bright = clip("5", "5")
    dim, blurred = bright.copy(), bright.copy()
    dim[-1] //= 2
    blurred[-1] = cv2.GaussianBlur(blurred[-1], (0, 0), 3)
    assert shape_persistence([dim]).score > 0.99
    assert shape_persistence([blurred]).score < 0.85


def test_only_what_stands_apart_is_a_digit():
    frame = np.zeros((64, 64), np.uint8)
    frame[2:30, 2:30] = letter("5")
    frame[34:62, 34:62] = letter("2")
    assert len(find_digits(frame)) == 2
    for digit in find_digits(frame):
        assert max(digit.shape) <= 28 + 4
        assert find_again(digit, frame) == pytest.approx(1, abs=1e-4)
    speck = np.zeros((64, 64), np.uint8)
    speck[10:13, 10:13] = 255
    wall = np.zeros((64, 64), np.uint8)
    wall[10:14] = 255
    assert find_digits(speck) == find_digits(wall) == []
    nothing = shape_persistence([np.stack([speck, wall])])
    assert np.isnan(nothing.score)
    assert (nothing.digits, nothing.clips) == (0, 1)


@pytest.mark.skipif(
    not MNIST.is_dir(),
    reason="runs where MNIST lies in ../shared/data/mnist: it is not part of this repository",
)
def test_true_clips_and_shuffled_ones_lie_apart():
    clips = MovingMNIST(MNIST, "val").make(range(100))
    truth = shape_persistence(clips)
    mixed = clips.copy()
    mixed[:, -1] = np.roll(clips[:, -1], 7, axis=0)
    assert truth.score > 0.83
    assert truth.unrelated < 0.5
    assert shape_persistence(mixed).score == pytest.approx(truth.unrelated, abs=0.05)
