"""What VDM-VSR is compared with: methods that restore decimated clips without a prior."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framelift.errors import UsageError
from framelift.methods.vdm_vsr.regression import regress
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.ops.interpolate import interpolate
from framelift.weights.presets import BUNDLED

Baseline = Callable[[Tensor, int], Tensor]
"""Observed clips `[B, T, 3, h, w]` in [-1, 1] and a factor → `[B, T, 3, H, W]`."""

BICUBIC = "Bicubic"


def baselines(regression: str) -> dict[str, Baseline]:
    """The baselines of Moving MNIST by the titles of their rows.

    `regression` names a bundled network, or the folder of a finished run's pipeline, or "none".
    """
    found: dict[str, Baseline] = {BICUBIC: interpolate}
    if regression != "none":
        network = _load(regression)
        size = sum(p.numel() for p in network.parameters()) / 1e6

        @torch.no_grad()
        def restore(y: Tensor, factor: int) -> Tensor:
            return regress(network, y, factor)

        found[f"Regression, {size:.1f} M parameters"] = restore
    return found


def _load(name: str) -> STDiT:
    own = Path(name).expanduser() / "transformer"
    folder = own if own.is_dir() else BUNDLED / name
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"There is no regression network {name!r}.",
            "Name the pipeline folder that the recipe vdm_vsr_mnist_regression has left.",
        )
    network: Any = STDiT.from_pretrained(str(folder), local_files_only=True)
    return network.eval()
