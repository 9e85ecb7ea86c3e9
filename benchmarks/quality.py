"""Quality of an upscaler on clips that it was not trained on, beside bicubic.

    TORCH_HOME=../shared/weights python benchmarks/quality.py ../shared/data/val --preset image-ldm

Protocol: first 16 frames of every clip, cropped to multiples of 4; LR by MATLAB bicubic ×4, rounded
to 8 bits; outputs rounded to 8 bits; RGB, no border removed; per frame → mean of the clip → mean of
the clips. LPIPS is AlexNet's. Grain is the energy of a frame minus its Gaussian blur (σ = 1.5), in
8×8 blocks whose ground-truth luma deviates by less than 2/255, as a ratio to the ground truth's, in
luma (Y) and chroma (Cb, Cr) of BT.601; its mean is that of all flat blocks of all clips.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.ops.noise import PositionNoise
from framelift.ops.resize import downscale, upscale

YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def load_frame(path: Path) -> Tensor:
    rgb = cv2.imread(str(path))[..., ::-1].copy()
    height, width = (side // 4 * 4 for side in rgb.shape[:2])
    return torch.from_numpy(rgb[:height, :width]).permute(2, 0, 1)[None].float() / 255


def eight_bits(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round() / 255


def psnr(x: Tensor, gt: Tensor) -> float:
    return float(-10 * torch.log10((x - gt).square().mean()))


def high_pass(x: Tensor) -> Tensor:
    """Y, Cb, Cr of `[1, 3, H, W]` minus their blur."""
    ycc = torch.einsum("ij,tjhw->tihw", YCC, x)
    blurred = cv2.GaussianBlur(ycc[0].permute(1, 2, 0).numpy(), (0, 0), 1.5)
    return ycc - torch.from_numpy(blurred).permute(2, 0, 1)[None]


def grain(x: Tensor, gt: Tensor) -> tuple[np.ndarray, np.ndarray, int]:
    """High-pass energy (luma, chroma) of `x` and of `gt` over the flat blocks, and their number."""
    luma = torch.einsum("j,tjhw->thw", YCC[0], gt)
    blocks = F.unfold(luma[:, None], 8, stride=8)[0]
    flat = (blocks.std(dim=0) < 2 / 255).reshape(luma.shape[1] // 8, luma.shape[2] // 8)
    mask = flat.repeat_interleave(8, 0).repeat_interleave(8, 1)
    height, width = mask.shape

    def energy(picture: Tensor) -> np.ndarray:
        e = high_pass(picture).square()[0, :, :height, :width][:, mask].double().sum(dim=1)
        return np.array([float(e[0]), float(e[1] + e[2])])

    return energy(x), energy(gt), int(flat.sum())


def measure(
    name: str, make: Callable[[Tensor, int], Tensor], clips: list[Path], frames: int, lpips
) -> dict:
    per_clip: dict[str, dict] = {}
    pooled = np.zeros((2, 2))
    for clip in clips:
        rows, energies, blocks, seconds = [], np.zeros((2, 2)), 0, 0.0
        for index, path in enumerate(sorted(clip.glob("*.jpg"))[:frames]):
            gt = load_frame(path)
            lr = eight_bits(downscale(gt, 4))
            started = time.perf_counter()
            x = eight_bits(make(lr, index))
            seconds += time.perf_counter() - started
            with torch.inference_mode():
                rows.append((psnr(x, gt), float(lpips(x * 2 - 1, gt * 2 - 1))))
            ours, truth, flat = grain(x, gt)
            energies, blocks = energies + np.array([ours, truth]), blocks + flat
        pooled += energies
        per_clip[clip.name] = row(*np.mean(rows, axis=0), energies, blocks, seconds / len(rows))
        show(name, clip.name, per_clip[clip.name])
    means = {k: np.mean([c[k] for c in per_clip.values()]) for k in ("psnr", "lpips", "seconds")}
    blocks = sum(c["blocks"] for c in per_clip.values())
    mean = row(means["psnr"], means["lpips"], pooled, blocks, means["seconds"])
    show(name, "mean", mean)
    return {"mean": mean, "clips": per_clip}


def row(psnr: float, lpips: float, energies: np.ndarray, blocks: int, seconds: float) -> dict:
    ratio = energies[0] / energies[1] if blocks else [float("nan")] * 2
    return {
        "psnr": float(psnr), "lpips": float(lpips), "luma": float(ratio[0]),
        "chroma": float(ratio[1]), "blocks": blocks, "seconds": float(seconds),
    }  # fmt: skip


def show(name: str, clip: str, values: dict) -> None:
    text = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
    print(f"{name:<12} {clip:<16}{text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--preset", action="append", default=[])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--clips", nargs="*")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--color-fix", default="none")
    parser.add_argument("--options", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--save", type=Path, help="folder for the first frame of every clip")
    args = parser.parse_args()

    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    from framelift.config import from_strings
    from framelift.device import choose_dtype
    from framelift.methods.load import load_pipeline
    from framelift.ops.color_fix import color_fix

    lpips = LearnedPerceptualImagePatchSimilarity(net_type="alex").net.eval()
    clips = [
        c
        for c in sorted(args.root.iterdir())
        if c.is_dir() and (not args.clips or c.name in args.clips)
    ]
    device = torch.device("cpu")
    results = {
        "bicubic": measure("bicubic", lambda lr, i: upscale(lr, 4), clips, args.frames, lpips)
    }
    for preset in args.preset or ["image-ldm"]:
        pipeline = load_pipeline(preset, device=device, dtype=choose_dtype(args.dtype, device))
        kind = pipeline.settings_class
        settings = kind(**from_strings(kind, args.options, "--options"))

        def make(lr: Tensor, index: int, pipeline=pipeline, settings=settings) -> Tensor:
            height, width = lr.shape[-2:]
            m = pipeline.limits.size_multiple
            padded = F.pad(lr, (0, -width % m, 0, -height % m), mode="reflect")
            out = pipeline(padded, settings=settings, noise=PositionNoise(0, frame=index))
            out = out[..., : height * 4, : width * 4]
            return color_fix(args.color_fix, out, upscale(lr, 4))

        results[preset] = measure(Path(preset).name, make, clips, args.frames, lpips)
        base, ours = results["bicubic"]["mean"], results[preset]["mean"]
        print(
            f"{preset}: LPIPS {ours['lpips'] / base['lpips']:.3f} of bicubic's, "
            f"PSNR {ours['psnr'] - base['psnr']:+.2f} dB, "
            f"grain luma {ours['luma']:.2f}, chroma {ours['chroma']:.2f}"
        )
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            for clip in clips:
                gt = load_frame(min(clip.glob("*.jpg")))
                lr = eight_bits(downscale(gt, 4))
                row = torch.cat([upscale(lr, 4).clamp(0, 1), make(lr, 0), gt], dim=-1)[0]
                cv2.imwrite(
                    str(args.save / f"{clip.name}.png"),
                    (row.permute(1, 2, 0).numpy()[..., ::-1] * 255).round(),
                )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
