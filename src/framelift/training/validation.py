"""Losses and pictures on held-out crops, by which a run is judged on its way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from framelift.images import to_rgb, write_picture
from framelift.methods.base import Batch, Objective
from framelift.ops.resize import upscale
from framelift.training.crops import Batches, step_generator

VALIDATION = 2**31  # the first batch's step: held-out crops are drawn far from the training steps
BATCHES = 8


@torch.no_grad()
def validate(
    objective: Objective,
    network: nn.Module,
    crops: Batches,
    accelerator: Accelerator,
    seed: int,
) -> dict[str, float]:
    """Mean loss terms of the averaged weights on fixed held-out crops with fixed noise.

    Every process computes its share of each batch.
    """
    values: dict[str, list[float]] = {}
    rounds = crops.share.rounds
    for index in range(VALIDATION * rounds, (VALIDATION + BATCHES) * rounds):
        batch = crops[index].to(accelerator.device)
        generator = step_generator(seed, crops.share, index, accelerator.device)
        with accelerator.autocast():
            _, terms = objective.loss(network, batch, generator)
        for name, value in terms.items():  # not every batch has every term
            values.setdefault(name, []).append(float(value))
    means = {f"held_out_{name}": sum(found) / len(found) for name, found in values.items()}
    return mean_over_processes(means)


@torch.no_grad()
def measure(objective: Any, batch: Batch) -> dict[str, float]:
    """What an objective finds by sampling; most have no `measure` and find nothing."""
    found = getattr(objective, "measure", None)
    return found(batch) if found is not None else {}


def mean_over_processes(values: dict[str, float]) -> dict[str, float]:
    """The mean of every value over all processes, which have the same names."""
    found: Sequence[dict[str, float]] = gather_object([values])
    return {name: sum(f[name] for f in found) / len(found) for name in values}


@torch.no_grad()
def sample_picture(objective: Any, batch: Batch, columns: int = 8) -> Tensor:
    """What the objective shows of held-out crops, `[3, H, W]` in [0, 1].

    Without a `show` of its own, rows: bicubic, the model, ground truth; of clips the last frame.
    `batch` lies where the networks are.
    """
    if (show := getattr(objective, "show", None)) is not None:
        return show(batch)
    clips, hr = batch.lr[:columns], batch.hr[:columns, -1]
    pipeline = objective.pipeline
    made = torch.stack([pipeline(clip, settings=pipeline.settings_class())[-1] for clip in clips])
    bicubic = upscale(clips[:, -1], pipeline.scale).clamp(0, 1)
    rows = [bicubic, made.to(hr), hr]
    return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)


def save_sample(objective: Objective, batch: Batch, path: Path) -> None:
    """Write that picture."""
    write_picture(path, to_rgb(sample_picture(objective, batch)))
