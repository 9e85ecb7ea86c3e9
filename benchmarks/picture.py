"""Bicubic beside an upscaled video, and beside the truth where there is one, as one PNG.

    python benchmarks/picture.py LR.mp4 SR.mp4 OUT.png --frame 12 --crop X Y W H [--truth HR.mp4]

The crop is in pixels of the upscaled video.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from framelift.images import to_rgb, to_tensor, write_picture
from framelift.ops.resize import resize
from framelift.video.read import VideoReader


def frame(path: Path, index: int) -> torch.Tensor:
    rgb = next(f for f in VideoReader(path) if f.index == index).rgb()
    return to_tensor(np.ascontiguousarray(rgb))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lr", type=Path)
    parser.add_argument("sr", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--frame", type=int, default=0)
    parser.add_argument("--crop", type=int, nargs=4, metavar=("X", "Y", "W", "H"))
    parser.add_argument("--truth", type=Path)
    args = parser.parse_args()
    sr = frame(args.sr, args.frame)
    size = (sr.shape[1], sr.shape[2])
    pictures = [resize(frame(args.lr, args.frame), size), sr]
    if args.truth:
        pictures.append(frame(args.truth, args.frame))
    x, y, width, height = args.crop or (0, 0, size[1], size[0])
    cut = [p[:, y : y + height, x : x + width] for p in pictures]
    write_picture(args.output, to_rgb(torch.cat(cut, dim=-1)))


if __name__ == "__main__":
    main()
