"""Throughput of metrics: each alone, all together, and several methods at once.

    TORCH_HOME=../shared/weights python benchmarks/metrics.py ../shared/data/val

Results are bicubic ×4 of the first frames of one clip. Time is that of one CPU core (this process,
all libraries on one thread), so that other work on the machine counts little. Together must cost
less than the sum, and three methods less than three times one: what metrics share (rounded frames,
luma, features, flow, the ground truth's side of everything) is computed once.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from torch import Tensor

from framelift.metrics.base import Metric
from framelift.metrics.measure import measure_clip
from framelift.metrics.registry import METRICS, build_metrics
from framelift.metrics.settings import MetricSettings
from framelift.ops.resize import downscale, upscale

NAMES = ["psnr", "ssim", "lpips", "dists", "niqe", "tlpips", "tof", "we"]


def load(path: Path) -> Tensor:
    rgb = cv2.imread(str(path))[..., ::-1].copy()
    height, width = (side // 4 * 4 for side in rgb.shape[:2])
    return torch.from_numpy(rgb[:height, :width]).permute(2, 0, 1).float() / 255


def seconds(metrics: Sequence[Metric], results: dict[str, list[Tensor]], gt: list[Tensor]) -> float:
    """CPU time per frame, over the frames after the first (which has no predecessor)."""
    measure_clip(metrics, {k: v[:1] for k, v in results.items()}, gt[:1])  # loads and warms up
    started = time.process_time()
    measure_clip(metrics, {k: v[:1] for k, v in results.items()}, gt[:1])
    first = time.process_time() - started
    started = time.process_time()
    measure_clip(metrics, results, gt)
    return (time.process_time() - started - first) / (len(gt) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder of frame folders")
    parser.add_argument("--clip", default="blackswan")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--metrics", nargs="*", default=NAMES)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    gt = [load(p) for p in sorted((args.root / args.clip).glob("*.jpg"))[: args.frames]]
    sr = [upscale(downscale(f, 4), 4).clamp(0, 1) for f in gt]
    metrics = build_metrics(args.metrics, MetricSettings())
    size = f"{gt[0].shape[2]}×{gt[0].shape[1]}"
    print(
        f"{args.clip}, {size}, {args.frames} frames, one core of {cpu()}, torch {torch.__version__}"
    )
    print(f"\n| metric | s per frame | frames per s |\n{'| --- ' * 3}|")
    total = 0.0
    for name in args.metrics:
        alone = seconds(build_metrics([name], MetricSettings()), {"x": sr}, gt)
        total += alone
        show(METRICS[name].title, alone)
    show("sum of all, each alone", total)
    show("all together", together := seconds(metrics, {"x": sr}, gt))
    three = {name: [f * gain for f in sr] for name, gain in (("a", 1.0), ("b", 0.9), ("c", 0.8))}
    show("all together, three methods", thrice := seconds(metrics, three, gt))
    print(f"\ntogether / sum of each alone: {together / total:.2f}")
    print(f"three methods / three times one: {thrice / together / 3:.2f}")


def show(title: str, spent: float) -> None:
    print(f"| {title} | {spent:.3f} | {1 / spent:.2f} |", flush=True)


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "a CPU")


if __name__ == "__main__":
    main()
