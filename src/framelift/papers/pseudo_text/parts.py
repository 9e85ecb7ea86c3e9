"""What the items that are no plain tables share: the preset, the clips, the numbers of a setup."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framelift.config import from_mapping, from_strings
from framelift.datasets import open_dataset
from framelift.degrade import Degradation
from framelift.device import choose_device
from framelift.errors import InputError, UsageError
from framelift.evaluation.cases import dataset_cases
from framelift.evaluation.settings import EvaluateSettings
from framelift.methods.load import load_pipeline
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.papers.reproduce import Request


@dataclass(frozen=True)
class Setup:
    """How much is computed."""

    draws: int = 1
    """Noises and timesteps for every clip."""
    repeats: int = 1
    """Runs that are timed."""
    random: str = "none"
    """The pipeline folder of a run that was trained with a random ViT (`random_vit = true`); none:
    a random ViT before the preset's own adapter, which has never seen such tokens."""

    def __post_init__(self) -> None:
        for name in ("draws", "repeats"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}.", "It must be at least 1.")


def read_setup(request: Request) -> Setup:
    """The item's numbers, reduced unless all is wanted, with `--options`."""
    item, settings = request.item, request.settings
    content = {**item.full.setup, **({} if settings.full else item.reduced.setup)}
    for word in settings.options:
        if word.partition("=")[0].strip() not in item.full.setup:
            known = ", ".join(item.full.setup)
            raise UsageError(f"{item.name} has no option {word!r}.", f"It has {known}.")
    given = from_strings(Setup, settings.options, "--options")
    given = {name: "none" if value is None else value for name, value in given.items()}
    return from_mapping(Setup, {**content, **given}, item.name)


def load(request: Request, name: str | None = None) -> PseudoTextPipeline:
    """The pipeline of a preset or folder, by default the one that the user or the item names."""
    settings = request.settings
    name = name or settings.preset or request.item.preset
    device = choose_device(settings.device)
    found: Any = load_pipeline(name, device=device, weights_dir=settings.weights_dir)
    if not isinstance(found, PseudoTextPipeline):
        raise UsageError(f"{name} is a {type(found).__name__}.", "Name one of pseudo-text.")
    return found


def clips(request: Request) -> list[tuple[str, Tensor, Tensor]]:
    """Name, HR frames `[T, 3, H, W]` and LR frames in [0, 1] of every clip, of equal size.

    InputError for clips that are too short or too small for the item.
    """
    settings, item = request.settings, request.item
    size = item.full if settings.full else item.reduced
    name, root = next(iter(request.roots.items()))
    wanted = EvaluateSettings(
        dataset=name, root=root, methods=("bicubic",), crop=size.crop, frames=size.frames
    )
    degradation = Degradation("bi", 4, settings.seed)
    found = []
    for case in dataset_cases(open_dataset(name, root), wanted, degradation.scale):
        assert case.gt is not None
        hr = torch.stack(list(case.gt.tensors()))
        found.append((case.name, hr, degradation(hr, case.name)))
    if len({hr.shape for _, hr, _ in found}) > 1:
        raise InputError(
            f"{item.name} compares clips of {size.frames} frames of {size.crop}², "
            "and not all that were given are so long and large.",
            "Give a folder without the others.",
        )
    return found
