"""The facts behind the block transform codec, measured on a folder of clips.

    python benchmarks/codec.py ../shared/data/val

Two frames of every clip, ×4 bicubic LR rounded to 8 bits, RGB PSNR. Prints how much of the picture
is lost when chroma keeps only part of its coefficients, and how the size of the residual over
bicubic follows the local contrast of the LR frame.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from quality import eight_bits, load_frame, psnr

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.ops.resize import downscale, upscale


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    args = parser.parse_args()
    frames = [
        load_frame(path)
        for clip in sorted(p for p in args.root.iterdir() if p.is_dir())
        for path in sorted(clip.glob("*.jpg"))[:16:8]
    ]
    lrs = [eight_bits(downscale(x, 4)) for x in frames]
    bicubic = [psnr(upscale(lr, 4).clamp(0, 1), x) for x, lr in zip(frames, lrs, strict=True)]
    print(f"bicubic: {sum(bicubic) / len(bicubic):.2f} dB")
    for chroma in (1, 2, 3, 4):
        codec = BlockTransformCodec(chroma=chroma)
        values = []
        for x, lr in zip(frames, lrs, strict=True):
            hr, small = x * 2 - 1, lr * 2 - 1
            back = codec.bind(small).decode(codec.bind(small).encode(hr))
            values.append(psnr((back.double() + 1) / 2, x.double()))
        channels = codec.latent_space.channels
        print(f"chroma {chroma}×{chroma}, {channels} channels: {sum(values) / len(values):.1f} dB")

    codec = BlockTransformCodec()
    contrast, size, share = [], [], []
    for x, lr in zip(frames, lrs, strict=True):
        hr, small = x * 2 - 1, lr * 2 - 1
        exponent, floor = codec.config["gain_exponent"], codec.config["gain_floor"]
        bound = codec.bind(small)
        gain = bound.gain
        contrast.append((gain ** (2 / exponent) - floor**2).clamp(min=0).sqrt().flatten() / 2)
        luma = (bound.encode(hr) * gain)[:, :16] / 2  # the codec is not fitted: std is 1
        size.append(luma.square().mean(dim=1).flatten())
        share.append((luma.square().mean(dim=1) / gain[:, 0] ** 2).flatten())
    sigma, energy, scaled = torch.cat(contrast) * 255, torch.cat(size), torch.cat(share)
    print("local contrast of the LR (8-bit levels), share of blocks, luma residual rms, rms / gain")
    edges = [0, 0.5, 1, 2, 4, 8, 16, 32, 128]
    for low, high in pairwise(edges):
        inside = (sigma >= low) & (sigma < high)
        rms, even = energy[inside].mean().sqrt() * 255, scaled[inside].mean().sqrt()
        print(f"{low:>5} to {high:<5}{inside.float().mean():>8.3f}{rms:>9.2f}{even:>9.2f}")


if __name__ == "__main__":
    main()
