"""Means with intervals, and the paper's three findings as statistics. Pure functions of numbers.

Values are arrays `[..., R, S]`: R references, S noise seeds of each. Restorations of one reference
are not independent, so intervals come from a cluster bootstrap: whole references are drawn with
replacement, each with all of its seeds, and the same draw serves all points of all curves, which
makes differences paired. Of 10,000 seeded draws, an interval leaves out less than 2.5 % on each
side, by as much as few references need (Hesterberg, "What Teachers Should Know About the
Bootstrap", 2015, expanded percentile interval): plain percentiles of eight cover 89 %, not 95 %.
Below five references they remain too narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

DRAWS, SEED, LEVEL = 10_000, 0, 0.95
SMALL = 0.5
"""What counts as small: half of what would be expected if nothing saturated, or met."""
CLOSE = 0.25
"""dB within which curves have met, however close they were before."""

Verdict = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval, which a single reference does not have."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, digits: int = 2) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class Finding:
    """A claim of the paper, the statistic in dB that it was turned into, and what came out."""

    claim: str
    statistic: str
    interval: Interval
    verdict: Verdict
    detail: str


def bootstrap(values: np.ndarray) -> np.ndarray:
    """Means of `[..., R, S]` over both: `[..., 1 + DRAWS]`, the first one without resampling."""
    references = values.shape[-2]
    drawn = np.random.default_rng(SEED).multinomial(
        references, np.full(references, 1 / references), DRAWS
    )
    weights = np.concatenate([np.ones((1, references)), drawn]) / references
    return values.mean(-1) @ weights.T


def interval(draws: np.ndarray, references: int) -> Interval:
    """What `[1 + DRAWS]` values of a statistic say of it."""
    value = float(draws[0])
    if references < 2:
        return Interval(value)
    tail = _tail(references - 1)
    low, high = np.quantile(draws[1:], [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _tail(n: int) -> float:
    """Share of the draws to leave out on each side for n + 1 references."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)  # Student's
    return NormalDist().cdf(-t * math.sqrt((n + 1) / n))


def mean(values: np.ndarray) -> Interval:
    """Mean of `[R, S]` with its interval."""
    return interval(bootstrap(values), values.shape[-2])


def rises(counts: Sequence[int], psnr: np.ndarray) -> Finding:
    """PSNR `[C, R, S]` rises with the number of observed frames, `counts` `[C]`."""
    drawn = bootstrap(psnr)
    gain = interval(drawn[-1] - drawn[0], psnr.shape[-2])
    return Finding(
        "PSNR rises with the number of observed frames",
        f"PSNR with {counts[-1]} frames minus PSNR with {counts[0]}",
        gain,
        _above(gain),
        f"{drawn[0, 0]:.2f} → {drawn[-1, 0]:.2f} dB",
    )


def saturates(counts: Sequence[int], psnr: np.ndarray) -> Finding:
    """PSNR `[C, R, S]` gains little in the last third of `counts` `[C]`: less than `SMALL` of that
    third's part in a straight line. What does not rise does not saturate.
    """
    first, last = counts[0], counts[-1]
    at = max(i for i, c in enumerate(counts) if c <= first + (last - first) * 2 / 3)
    drawn = bootstrap(psnr)
    late, total = drawn[-1] - drawn[at], drawn[-1] - drawn[0]
    share = (last - counts[at]) / (last - first)
    excess = interval(late - SMALL * share * total, psnr.shape[-2])
    risen = rises(counts, psnr).verdict
    return Finding(
        "PSNR saturates",
        f"gain from {counts[at]} to {last} frames minus {SMALL * share:.2f} of the whole gain "
        f"({SMALL:g} of a straight line's)",
        excess,
        _below(excess) if risen == "holds" else risen,
        f"{late[0]:.2f} of {total[0]:.2f} dB",
    )


def faster(
    counts: Sequence[int], psnr: np.ndarray, other: np.ndarray, names: tuple[str, str]
) -> Finding:
    """PSNR `[C, R, S]` is above that of another order between the ends of `counts` `[C]`."""
    inner = slice(1, -1)
    drawn, reference = bootstrap(psnr[inner]).mean(0), bootstrap(other[inner]).mean(0)
    ahead = interval(drawn - reference, psnr.shape[-2])
    return Finding(
        f"Order {names[0]} rises faster than {names[1]}",
        f"mean difference of PSNR with {', '.join(map(str, counts[inner]))} frames",
        ahead,
        _above(ahead),
        f"{drawn[0]:.2f} against {reference[0]:.2f} dB",
    )


def meet(counts: Sequence[int], psnr: np.ndarray) -> Finding:
    """Curves `[K, C, R, S]` are closer together with the most frames than with the fewest: their
    spread, highest minus lowest mean, is less than `SMALL` of what it was, or than `CLOSE`.

    Chance alone spreads means, and the more those of a draw; the draws are therefore mirrored at
    the value, which takes as much off as drawing has added (the "basic" bootstrap).
    """
    drawn = bootstrap(psnr)
    spread = drawn.max(0) - drawn.min(0)  # [C, 1 + DRAWS]
    left = spread[-1] - np.maximum(SMALL * spread[0], CLOSE)
    excess = interval(np.concatenate([left[:1], 2 * left[0] - left[1:]]), psnr.shape[-2])
    return Finding(
        "The curves of all σ_h meet when frames suffice",
        f"spread with {counts[-1]} frames minus {SMALL:g} of that with {counts[0]}, "
        f"at least {CLOSE:g} dB",
        excess,
        _below(excess),
        f"spread {spread[0, 0]:.2f} → {spread[-1, 0]:.2f} dB",
    )


def _above(found: Interval) -> Verdict:
    """Whether a value that should be above zero is."""
    if found.low is None or found.high is None:
        return "undecided"
    return "holds" if found.low > 0 else "does not hold" if found.high < 0 else "undecided"


def _below(found: Interval) -> Verdict:
    if found.low is None or found.high is None:
        return "undecided"
    return "holds" if found.high < 0 else "does not hold" if found.low > 0 else "undecided"
