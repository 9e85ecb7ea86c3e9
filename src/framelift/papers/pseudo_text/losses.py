"""What the pseudo-text is worth to the frozen UNet: its held-out loss with four texts."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framelift.errors import InputError
from framelift.methods.base import Batch
from framelift.methods.pseudo_text.build import random_vit
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.train import AdapterStage, DenoisingSettings
from framelift.papers.pseudo_text.parts import Setup, clips, load, read_setup
from framelift.papers.reproduce import Request
from framelift.papers.reproduction import Reproduction, Table
from framelift.papers.vdm_vsr import statistics

TEXTS = ("zero tokens", "another clip's tokens", "tokens of a random ViT", "its own tokens")
DIGITS = 5


def denoising_losses(request: Request) -> Reproduction:
    """Equation 3.4 for held-out clips; noise and timestep are the same for all four texts.

    Intervals are of the mean over clips; differences are taken clip by clip.
    """
    setup, pipeline = read_setup(request), load(request)
    found = clips(request)
    if len(found) < 2:
        raise InputError("Another clip's tokens need two clips.", "Give a folder with more clips.")
    losses = _measure(request, setup, pipeline, found)
    means = [statistics.mean(of_text) for of_text in losses]
    gaps = [statistics.mean(of_text - losses[-1]) for of_text in losses]
    rows = tuple(
        (text, mean.text(DIGITS), gap.text(DIGITS) if text != TEXTS[-1] else "-")
        for text, mean, gap in zip(TEXTS, means, gaps, strict=True)
    )
    heads = ("text", "loss [95 %]", "more than with its own [95 %]")
    table = Table(f"{len(found)} clips, {setup.draws} draws of each", heads, rows)
    record = {
        text: {"loss": asdict(mean), "more_than_own": asdict(gap)}
        for text, mean, gap in zip(TEXTS, means, gaps, strict=True)
    }
    trained = setup.random != "none"
    notes = (
        "The random ViT has an adapter that was trained for it."
        if trained
        else "The random ViT's tokens pass the adapter that was trained for the other ViT; "
        "--options random=FOLDER names a run that was trained with it.",
        request.item.notes,
    )
    record = {"losses": record, "clips": [name for name, _, _ in found]}
    return Reproduction(request.item, tables=(table,), notes=notes, record=record)


@torch.no_grad()
def _measure(
    request: Request,
    setup: Setup,
    pipeline: PseudoTextPipeline,
    found: list[tuple[str, Tensor, Tensor]],
) -> np.ndarray:
    """Losses `[4 texts, clips, draws]`."""
    stage = AdapterStage(pipeline, DenoisingSettings())
    device = pipeline._execution_device
    other = pipeline if setup.random == "none" else load(request, setup.random)
    own = [_text(pipeline, lr.to(device)) for _, _, lr in found]
    seeing = other.vit
    blind: Any = random_vit(seeing, seed=0)
    other.register_modules(vit=blind.to(device, seeing.dtype))
    random = [_text(other, lr.to(device)) for _, _, lr in found]
    other.register_modules(vit=seeing)
    losses = np.empty((len(TEXTS), len(found), setup.draws))
    for i, (_, hr, lr) in enumerate(found):
        batch = Batch(hr[None], lr[None]).to(device)
        texts = (pipeline.empty_prompt(), own[i - 1], random[i], own[i])
        for draw in range(setup.draws):
            for row, text in enumerate(texts):
                seed = (request.settings.seed * 7919 + i) * setup.draws + draw
                generator = torch.Generator().manual_seed(seed)
                losses[row, i, draw] = float(stage.errors(batch, text, generator))
    return losses


def _text(pipeline: PseudoTextPipeline, lr: Tensor) -> Tensor:
    """The pseudo-text `[1, N, D]` of LR frames in [0, 1]."""
    settings = pipeline.settings_class()
    seen = pipeline.look(lr * 2 - 1, settings)
    return pipeline.adapter(seen[None].to(pipeline.adapter.dtype))
