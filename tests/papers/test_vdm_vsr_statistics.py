"""The paper's findings as statistics, on numbers for which the answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framelift.papers.vdm_vsr import statistics
from framelift.papers.vdm_vsr.setup import observed

COUNTS = tuple(range(1, 11))
SATURATING = 20 - 6 * np.exp(-np.arange(10) / 1.5)


def noisy(curve, references=8, seeds=3, clip=2.0, noise=0.2, seed=0):
    """PSNR `[..., R, S]` around a curve `[...]`; clips differ much, seeds of a clip little."""
    rng = np.random.default_rng(seed)
    curve = np.asarray(curve)
    level = clip * rng.standard_normal((references, 1))
    return (
        curve[..., None, None]
        + level
        + noise * rng.standard_normal((*curve.shape, references, seeds))
    )


@pytest.mark.parametrize(
    ("curve", "rising", "saturating"),
    [
        (SATURATING, "holds", "holds"),
        (np.linspace(14, 20, 10), "holds", "does not hold"),
        (np.linspace(20, 14, 10), "does not hold", "does not hold"),
        (np.full(10, 15.0), "undecided", "undecided"),
    ],
)
def test_rising_and_saturating(curve, rising, saturating):
    values = noisy(curve)
    assert statistics.rises(COUNTS, values).verdict == rising
    assert statistics.saturates(COUNTS, values).verdict == saturating
    gain = statistics.rises(COUNTS, values).interval
    assert gain.value == pytest.approx(values[-1].mean() - values[0].mean())


def test_saturation_looks_at_the_last_third():
    counts = (1, 2, 3, 5, 7, 10)
    finding = statistics.saturates(counts, noisy(np.minimum(counts, 7), noise=0.01))
    assert "from 7 to 10" in finding.statistic
    assert finding.verdict == "holds"
    late = np.maximum(counts, 7).astype(float)  # all of the gain comes late
    assert statistics.saturates(counts, noisy(late, noise=0.01)).verdict == "does not hold"


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(1.0, "holds"), (-1.0, "does not hold"), (0.0, "undecided")]
)
def test_which_order_is_faster(ahead, verdict):
    shift = np.array([5, *[ahead] * 8, 5])  # the ends do not count
    both = noisy(np.stack([SATURATING, SATURATING + shift]), noise=0.5)
    found = statistics.faster(COUNTS, both[1], both[0], ("random", "sequential"))
    assert found.verdict == verdict
    assert found.interval.value == pytest.approx((both[1] - both[0])[1:-1].mean())


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (4.0, 0.5, "holds"),
        (4.0, 4.0, "does not hold"),
        (1.0, 4.0, "does not hold"),
        (0.0, 0.0, "holds"),  # they were never apart
    ],
)
def test_whether_curves_meet(first, last, verdict):
    spread = np.linspace(first, last, 10) * np.linspace(-0.5, 0.5, 6)[:, None]
    found = statistics.meet(COUNTS, noisy(SATURATING + spread, noise=0.1))
    assert found.verdict == verdict
    assert found.interval.value == pytest.approx(last - max(first / 2, 0.25), abs=0.2)


def test_intervals_are_those_of_references_not_of_seeds():
    few = noisy(np.zeros(()), references=8, seeds=2, clip=1, noise=0)
    many = np.repeat(few, 50, axis=-1)  # repetitions tell nothing new
    assert statistics.mean(many).low == pytest.approx(statistics.mean(few).low)
    width = statistics.mean(few).high - statistics.mean(few).low
    student = 2 * 2.365 * few[:, 0].std(ddof=1) / 8**0.5
    assert width == pytest.approx(student, rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 2000)
    means = [statistics.mean(noisy(np.zeros(()), references=6, seed=n)) for n in range(400)]
    covered = np.mean([m.low < 0 < m.high for m in means])
    assert 0.91 < covered < 0.98


def test_a_single_reference_decides_nothing():
    values = noisy(SATURATING, references=1)
    assert statistics.mean(values[0]).low is None
    assert statistics.mean(values[0]).text() == f"{values[0].mean():.2f}"
    for finding in (statistics.rises(COUNTS, values), statistics.saturates(COUNTS, values)):
        assert finding.verdict == "undecided"


def test_pairing_removes_what_clips_differ_in():
    both = noisy(np.stack([SATURATING, SATURATING + 0.3]), clip=10, noise=0.05)
    found = statistics.faster(COUNTS, both[1], both[0], ("random", "sequential"))
    assert found.verdict == "holds"
    assert found.interval.high - found.interval.low < 0.1
    again = statistics.faster(COUNTS, both[1], both[0], ("random", "sequential"))
    assert again == found  # seeded


@given(
    frames=st.integers(1, 12),
    seed=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    order=st.sampled_from(["sequential", "random", "random-first"]),
)
def test_observed_frames_only_grow(frames, seed, order):
    before = ()
    for count in range(1, frames + 1):
        now = observed(order, count, frames, seed)
        assert len(now) == count
        assert list(now) == sorted(now)
        assert set(before) < set(now) <= set(range(frames))
        assert 0 in now or order == "random"
        before = now
