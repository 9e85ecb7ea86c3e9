"""Dense Inverse Search (Kroeger et al. 2016) by OpenCV: no weights, milliseconds a frame."""

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from framelift.flow.base import pad_to

MINIMUM = 16  # OpenCV refuses frames of fewer than 12 × 8 pixels
PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class DISFlow:
    """OpenCV's DIS on 8-bit grey levels, on the CPU. See `FlowEstimator`."""

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        self.name = "dis" if preset == "medium" else f"dis-{preset}"
        self.protocol: dict[str, str | int] = {"flow": "DIS", "flow_preset": preset}
        self._dis = cv2.DISOpticalFlow.create(PRESETS[preset])

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        height, width = a.shape[-2:]
        first, second = _grey(a), _grey(b)
        flows = [self._dis.calc(f, s, None) for f, s in zip(first, second, strict=True)]  # type: ignore[call-overload]
        flow = torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)[..., :height, :width]
        return flow.contiguous().to(a.device)


def _grey(frames: Tensor) -> list[np.ndarray]:
    levels = (pad_to(frames.detach().float(), 1, MINIMUM).clamp(0, 1) * 255).round().byte().cpu()
    pictures = levels.permute(0, 2, 3, 1).contiguous().numpy()
    return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
