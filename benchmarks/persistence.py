"""Do digits keep their shape? Shape persistence of priors, of the truth, and of what is unrelated.

    python benchmarks/persistence.py --mnist DIR [PRESET | RUN/pipeline ...] [--clips 128]

For every prior, unconditional samples of ten frames; the digit of frame 1 is looked for in frame 10
(`framelift.metrics.persistence`). The share of the truth is what the score has gained over digits
of other clips, relative to what true clips gain. Intervals are bootstraps over clips.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import framelift  # noqa: F401 - repairs torchvision before diffusers is imported
from framelift.datasets import MovingMNIST
from framelift.device import choose_device
from framelift.methods.load import load_pipeline
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.train import grey
from framelift.metrics.persistence import Persistence, shape_persistence
from framelift.ops.noise import PositionNoise

DRAWS = 1000
Clips = Sequence[np.ndarray]


def draw(name: str, count: int, steps: int | None, batch: int, device: str) -> Clips:
    """Unconditional samples of a prior, uint8 `[T, H, W]` each."""
    pipeline: Any = load_pipeline(name, device=choose_device(device))
    size = tuple(pipeline.config[n] for n in ("frames", "height", "width"))
    block = pipeline.limits.noise_block
    clips: list[np.ndarray] = []
    for first in range(0, count, batch):
        noises = [PositionNoise(i, block=block) for i in range(first, min(first + batch, count))]
        made = pipeline.sample(None, size, settings=VDMVSRSettings(steps=steps), noises=noises)
        clips += grey(((made + 1) / 2).clamp(0, 1))
    return clips


def interval(clips: Clips, value: Callable[[Persistence], float]) -> str:
    """A value of the clips and its 95 % interval over clips that are drawn again."""
    rng = np.random.default_rng(0)
    per_clip = [shape_persistence([clip, other]) for clip, other in _pairs(clips)]
    values = np.array([[value(p), p.digits] for p in per_clip if p.digits])
    if not len(values):
        return "–"
    drawn = values[rng.integers(len(values), size=(DRAWS, len(values)))]
    means = (drawn[..., 0] * drawn[..., 1]).sum(1) / drawn[..., 1].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{np.average(values[:, 0], weights=values[:, 1]):.3f} [{low:.3f}, {high:.3f}]"


def _pairs(clips: Clips) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every clip and the one behind it; the other's own first frame is black, to count no digit."""
    found = []
    for clip, other in zip(clips, [*clips[1:], clips[0]], strict=True):
        silent = other.copy()
        silent[0] = 0
        found.append((clip, silent))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("priors", nargs="*", default=["vdm-vsr-mnist"])
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--steps", type=int, help="default: the preset's")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()
    truth = list(MovingMNIST(a.mnist, "val").make(range(a.clips)))
    best = shape_persistence(truth)
    print("| clips | frame 1 in 10 | in another clip | digits a clip | share of the truth |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("truth", *a.priors):
        clips = truth if name == "truth" else draw(name, a.clips, a.steps, a.batch, a.device)
        found = shape_persistence(clips)
        share = (found.score - found.unrelated) / (best.score - best.unrelated)
        own, other = (
            interval(clips, value) for value in (lambda p: p.score, lambda p: p.unrelated)
        )
        print(f"| {name} | {own} | {other} | {found.digits / found.clips:.2f} | {share:.2f} |")


if __name__ == "__main__":
    main()
