"""Pictures that show a run's progress."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from framelift.data.crops import Batch
from framelift.ops.resize import upscale
from framelift.training.objectives import Objective


def save_sample(objective: Objective, batch: Batch, path: Path, columns: int = 8) -> None:
    """Write what the objective shows of held-out crops.

    Without a `show` of its own, rows: bicubic, the model, ground truth; of clips the last frame.
    """
    if (show := getattr(objective, "show", None)) is not None:
        write_picture(path, show(batch).cpu())
        return
    clips, hr = batch.lr[:columns], batch.hr[:columns, -1]
    made = torch.stack([objective.pipeline(clip, settings=None)[-1] for clip in clips]).cpu()
    bicubic = upscale(clips[:, -1], objective.pipeline.scale).clamp(0, 1).cpu()
    rows = [bicubic, made, hr.cpu()]
    write_picture(path, torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2))


def write_picture(path: Path, picture: Tensor) -> None:
    """Write `[3, H, W]` in [0, 1] as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    assert encoded
    path.write_bytes(data.tobytes())
