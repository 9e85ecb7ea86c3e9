"""Pictures that show a run's progress."""

from pathlib import Path

import torch

from framelift.images import to_rgb, write_picture
from framelift.methods.base import Batch, Objective
from framelift.ops.resize import upscale


def save_sample(objective: Objective, batch: Batch, path: Path, columns: int = 8) -> None:
    """Write what the objective shows of held-out crops.

    Without a `show` of its own, rows: bicubic, the model, ground truth; of clips the last frame.
    """
    if (show := getattr(objective, "show", None)) is not None:
        write_picture(path, to_rgb(show(batch)))
        return
    clips, hr = batch.lr[:columns], batch.hr[:columns, -1]
    pipeline = objective.pipeline
    made = torch.stack([pipeline(x, settings=pipeline.settings_class())[-1] for x in clips]).cpu()
    bicubic = upscale(clips[:, -1], pipeline.scale).clamp(0, 1).cpu()
    rows = [bicubic, made, hr.cpu()]
    picture = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    write_picture(path, to_rgb(picture))
