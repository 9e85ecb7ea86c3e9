"""Optical flow: DIS (OpenCV, no weights) and RAFT (torchvision), behind one call."""

from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.types import FlowName
from framelift.weights.torchvision import torchvision_weights

DIS_MINIMUM = 16  # OpenCV refuses frames of fewer than 12 × 8 pixels
DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
RAFT_MULTIPLE, RAFT_MINIMUM = 8, 128  # its features are 1/8 of the frame, and three times halved
RAFT_WEIGHTS = {
    "raft": ("raft_large", "C_T_SKHT_V2"),
    "raft-things": ("raft_large", "C_T_V1"),
    "raft-small": ("raft_small", "C_T_V2"),
}


class FlowEstimator(Protocol):
    """Estimates where pixels move. No gradient passes through an estimate.

    `name` is the one it was built by; `protocol` says what decides its numbers.
    """

    name: str
    protocol: dict[str, str | int]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Flow `[T, 2, H, W]` (dx, dy in pixels, float32) on the grid of `a`: a(p) ≈ b(p + flow).

        `a` and `b` are frames `[T, 3, H, W]` of any size, RGB in [0, 1]; RAFT takes
        what lies a little beyond as it is, DIS clamps it.
        The result lies on the device of `a`.
        """
        ...


def build_flow(
    name: FlowName = "dis", *, iterations: int = 12, device: torch.device | str = "cpu"
) -> FlowEstimator:
    """The estimator of a name; `iterations` and `device` are RAFT's (DIS runs on the CPU).

    Raises UsageError where an extra is missing, InputError where weights are.
    """
    if name.startswith("dis"):
        return DISFlow("fast" if name == "dis-fast" else "ultrafast" if "-" in name else "medium")
    return RAFTFlow(name, iterations=iterations, device=device)


class DISFlow:
    """Dense Inverse Search (Kroeger et al. 2016) on 8-bit grey levels, on the CPU."""

    def __init__(self, preset: str = "medium") -> None:
        self.name = "dis" if preset == "medium" else f"dis-{preset}"
        self.protocol: dict[str, str | int] = {"flow": "DIS", "flow_preset": preset}
        self._preset = preset

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return _dis(a.detach(), b.detach(), self._preset)


@torch.library.custom_op("framelift::dis_flow", mutates_args=())
def _dis(a: Tensor, b: Tensor, preset: str) -> Tensor:
    """OpenCV's DIS as an operator of torch, which fake tensors can pass."""
    estimator = cv2.DISOpticalFlow.create(DIS_PRESETS[preset])
    height, width = a.shape[-2:]
    first, second = _grey(a), _grey(b)
    flows = [estimator.calc(f, s, None) for f, s in zip(first, second, strict=True)]  # type: ignore[call-overload]
    flow = torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)[..., :height, :width]
    return flow.contiguous().to(a.device)


@_dis.register_fake
def _(a: Tensor, b: Tensor, preset: str) -> Tensor:
    return a.new_empty((len(a), 2, *a.shape[-2:]), dtype=torch.float32)


def _grey(frames: Tensor) -> list[np.ndarray]:
    levels = (
        (pad_to(frames.detach().float(), 1, DIS_MINIMUM).clamp(0, 1) * 255).round().byte().cpu()
    )
    pictures = levels.permute(0, 2, 3, 1).contiguous().numpy()
    return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]


class RAFTFlow:
    """RAFT (Teed & Deng 2020) in evaluation mode, float32. See `FlowEstimator`.

    Its weights are looked for where torchvision keeps them, in $TORCH_HOME/hub/checkpoints, and
    downloaded if they are not there. UsageError where torchvision is missing, InputError where the
    weights are.
    """

    def __init__(
        self, name: str = "raft", *, iterations: int = 12, device: torch.device | str = "cpu"
    ) -> None:
        architecture, weights = RAFT_WEIGHTS[name]
        self.name, self.iterations = name, iterations
        self.protocol: dict[str, str | int] = {
            "flow": f"torchvision {architecture}",
            "flow_weights": weights,
            "flow_iterations": iterations,
        }
        self.device = torch.device(device)
        self._network = _load(architecture, weights).to(self.device)

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        height, width = a.shape[-2:]
        first, second = (
            pad_to(frames.to(self.device, torch.float32) * 2 - 1, RAFT_MULTIPLE, RAFT_MINIMUM)
            for frames in (a, b)
        )
        flow = self._network(first, second, num_flow_updates=self.iterations)[-1]
        return flow[..., :height, :width].contiguous().to(a.device)


def _load(architecture: str, name: str) -> Any:
    file = f"{architecture}_{name}-*.pth"
    with torchvision_weights("RAFT", file, "use the flow dis"):
        from torchvision.models import get_model, get_model_weights

        state = get_model_weights(architecture)[name].get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
        network = get_model(architecture, weights=None)
        network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def pad_to(frames: Tensor, multiple: int, minimum: int) -> Tensor:
    """Repeat the bottom and right borders of `[T, C, H, W]` up to a size an estimator accepts."""
    height, width = frames.shape[-2:]
    bottom, right = (max(minimum - side, -side % multiple) for side in (height, width))
    if not bottom and not right:
        return frames
    return F.pad(frames, (0, right, 0, bottom), mode="replicate")
