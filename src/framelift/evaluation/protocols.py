"""How papers and code bases measure, by name. Frame → mean of the clip → mean of the set in all.

What a paper leaves unsaid follows the default protocol; `source` says which is which. No torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from framelift.config import from_mapping, from_strings
from framelift.errors import UsageError
from framelift.metrics.settings import MetricSettings
from framelift.weights.presets import suggest

COMMON = ("psnr", "ssim", "lpips", "dists", "niqe", "we")
LUMA_SETS = ("vid4", "vimeo90k-t", "spmcs", "udm10")
"""Datasets whose numbers the field gives in Y; those of REDS are in RGB."""


@dataclass(frozen=True)
class Protocol:
    """A convention: `settings` differ from the defaults of MetricSettings, those of
    `by_dataset[name]` from them on one dataset."""

    name: str
    title: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: tuple[str, ...] = COMMON

    def on(self, dataset: str | None, options: Sequence[str] = ()) -> MetricSettings:
        """Settings on a dataset, with deviations given as name=value words."""
        content = {**self.settings, **self.by_dataset.get(dataset or "", {})}
        content |= from_strings(MetricSettings, options, "--options")
        return from_mapping(MetricSettings, content, f"Protocol {self.name}")


IN_LUMA = {name: {"color": "y"} for name in LUMA_SETS}

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "framelift",
            "The default: RGB, no border, 8 bits, DIS flow of the ground truth.",
            "Our choice: needs no large weights, and states everything else.",
        ),
        Protocol(
            "basicsr",
            "BasicSR on REDS4: RGB, border 0, 8 bits.",
            "BasicSR options/test/BasicVSR/test_BasicVSR_REDS.yml and metrics/psnr_ssim.py.",
            metrics=("psnr", "ssim"),
        ),
        Protocol(
            "basicsr-y",
            "BasicSR on Vid4, UDM10 and Vimeo-90K: Y of BT.601, border 0, 8 bits.",
            "BasicSR options/test/BasicVSR/test_BasicVSR_Vimeo90K_BIx4.yml and "
            "metrics/psnr_ssim.py.",
            {"color": "y"},
            metrics=("psnr", "ssim"),
        ),
        Protocol(
            "sateco",
            "SATeCo: RGB on REDS4, Y on Vid4, LPIPS on VGG.",
            "The paper, §4.1, names VGG for LPIPS. RGB and Y are inferred: its bicubic rows (26.14 "
            "on REDS4, 23.78 on Vid4) are the known ones of those conventions. NIQE and warping "
            "error as by default.",
            {"lpips": "vgg"},
            IN_LUMA,
            ("psnr", "ssim", "lpips", "dists", "niqe", "clipiqa"),
        ),
        Protocol(
            "stablevsr",
            "StableVSR: RGB, torchmetrics' SSIM, LPIPS on AlexNet, RAFT, its own warp.",
            "claudiom4sir/StableVSR eval.py: saved frames, torchmetrics PSNR and SSIM on floats, "
            "LPIPS alex, pyiqa NIQE, RAFT-large for tOF, tLPIPS × 10³, tOF × 10; warp_error in its "
            "util/flow_utils.py: the previous frame, by flow of the ground truth, visible pixels, "
            "its warp that is off by half a pixel.",
            {
                "ssim_border": "reflect",
                "niqe_luma": "yiq",
                "flow": "raft",
                "we_warps": "previous",
                "we_half_pixel": True,
            },
            metrics=(*COMMON, "tlpips", "tof"),
        ),
        Protocol(
            "lai",
            "Lai et al. 2018: warping error outside occlusions, next frame onto the current.",
            "phoenix104104/fast_blind_video_consistency evaluate_WarpError.py and utils.py. Their "
            "flow is FlowNet2's of the input video; here RAFT's of the ground truth.",
            {"flow": "raft", "we_flow": "gt", "we_mask": True, "we_warps": "next"},
            metrics=("we",),
        ),
        Protocol(
            "stcdit",
            "STCDiT: RGB, pyiqa's conventions, no-reference scores.",
            "Inferred from IQA-PyTorch's defaults (PSNR in RGB, NIQE on luma of 0 to 255); the "
            "paper does not say whether its SSIM is in RGB or, as pyiqa's default, in Y.",
            {"niqe_luma": "yiq"},
            metrics=("psnr", "ssim", "lpips", "niqe", "musiq", "clipiqa", "liqe"),
        ),
        Protocol(
            "vdm-vsr",
            "VDM-VSR: PSNR and SSIM in RGB on frames of 64 × 64.",
            "The paper, §IV and table I, names the metrics only. Colour, border and rounding are "
            "ours.",
            metrics=("psnr", "ssim"),
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """A protocol by name; underscores count as hyphens."""
    plain = name.replace("_", "-")
    if plain not in PROTOCOLS:
        raise UsageError(f"There is no protocol {name!r}.", suggest(plain, PROTOCOLS))
    return PROTOCOLS[plain]
