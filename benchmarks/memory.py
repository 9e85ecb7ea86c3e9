"""Peak memory of a long video against a short one; it should not depend on the length.

    python benchmarks/memory.py [--frames 100 1000] [--size 160x90]

Each video is upscaled in a process of its own, whose peak resident memory the operating system
reports. A small number of sampling steps is enough: memory does not depend on it.
"""

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from framelift.types import ColorTags, EncodeSettings, VideoInfo
from framelift.video.assemble import finish
from framelift.video.write import SegmentWriter


def make_clip(path: Path, frames: int, width: int, height: int) -> None:
    """A moving pattern, written by framelift's own writer."""
    info = VideoInfo(
        path=path, width=width, height=height, rate=Fraction(24), time_base=Fraction(1, 24),
        frames=frames, duration=None, start_pts=0, sample_aspect_ratio=Fraction(1), rotation=0,
        mirrored=False, bit_depth=8, pixel_format="yuv420p", codec="h264", container="mp4",
        color=ColorTags(), interlaced=False, alpha=False,
    )  # fmt: skip
    encode = EncodeSettings()
    segment = path.with_suffix(".mkv")
    writer = SegmentWriter(segment, width=width, height=height, info=info, encode=encode)
    y, x = np.mgrid[:height, :width]
    for index in range(frames):
        waves = [np.sin((x + index) / (7 + c)) + np.cos((y - index) / 9) for c in range(3)]
        writer.write(np.stack([128 + 50 * w for w in waves], axis=2).astype(np.uint8), index, 1)
    finish([writer.close()], path, source=None, info=info, encode=encode)


def peak_mebibytes(clip: Path, words: list[str]) -> float:
    """Upscale in a child process of a fresh child, so that each reports its own peak."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run([sys.executable, '-m', 'framelift', *sys.argv[1:]], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    words = ["upscale", str(clip), "--quiet", "--overwrite", *words]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
    )
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return int(done.stdout.split()[-1]) / unit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs=2, default=[100, 1000])
    parser.add_argument("--size", default="160x90")
    parser.add_argument("words", nargs="*", help="further settings of framelift upscale")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            clip = Path(folder) / f"{frames}.mp4"
            make_clip(clip, frames, width, height)
            peaks.append(peak_mebibytes(clip, args.words))
            print(f"{frames} frames {width}×{height}: peak {peaks[-1]:.0f} MiB", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
