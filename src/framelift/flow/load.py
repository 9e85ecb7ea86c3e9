"""Optical flow estimators by name."""

import torch

from framelift.flow.base import FlowEstimator
from framelift.flow.settings import FlowName


def build_flow(
    name: FlowName = "dis", *, iterations: int = 12, device: torch.device | str = "cpu"
) -> FlowEstimator:
    """The estimator of a name; `iterations` and `device` are RAFT's (DIS runs on the CPU).

    Raises UsageError where an extra is missing, InputError where weights are.
    """
    if name.startswith("dis"):
        from framelift.flow.dis import DISFlow

        return DISFlow("fast" if name == "dis-fast" else "ultrafast" if "-" in name else "medium")
    from framelift.flow.raft import RAFTFlow

    return RAFTFlow(name, iterations=iterations, device=device)
