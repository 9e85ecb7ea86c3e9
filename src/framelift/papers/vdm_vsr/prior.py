"""The prior of an experiment: the preset that the item or the user names, loaded when needed."""

from functools import cached_property
from typing import Any

import torch

from framelift.device import choose_device, choose_dtype
from framelift.errors import UsageError
from framelift.evaluation.candidates import preset_identity
from framelift.methods.load import load_pipeline
from framelift.methods.registry import method_of
from framelift.methods.vdm_vsr.pipeline import VDMVSRPipeline
from framelift.papers.reproduce import Request
from framelift.papers.vdm_vsr.references import Shape
from framelift.weights.presets import Preset, load_preset

PAPER: Shape = (10, 64, 64)
NO_PRIOR = (
    "None is bundled: train one as docs/methods/vdm_vsr.md shows, then name it: --preset FOLDER"
)


class Prior:
    """A VDM-VSR pipeline, in float32 unless told otherwise: the guidance is a gradient.

    `preset` is None where nobody names one; then only what needs no prior can be made.
    """

    def __init__(self, request: Request) -> None:
        self._item, self._settings = request.item, request.settings
        self.preset = _find_preset(request.settings.preset or request.item.preset)
        self.device = choose_device(request.settings.device)
        name = request.settings.dtype
        self.dtype = torch.float32 if name == "auto" else choose_dtype(name, self.device)

    @cached_property
    def pipeline(self) -> VDMVSRPipeline:
        if self.preset is None:
            raise UsageError(f"{self._item.name} needs a prior of its data.", NO_PRIOR)
        pipeline: Any = load_pipeline(
            self.preset,
            device=self.device,
            dtype=self.dtype,
            weights_dir=self._settings.weights_dir,
        )
        return pipeline

    @property
    def shape(self) -> Shape:
        """Frames, height and width of the clips that it knows; without one, of the paper's."""
        if self.preset is None:
            return PAPER
        config = self.pipeline.config
        return config["frames"], config["height"], config["width"]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What it is, with hashes of its weights, and where it runs."""
        if self.preset is None:
            return {}
        what = preset_identity(self.preset, self._settings.weights_dir)
        return what | {"device": self.device.type, "dtype": str(self.dtype)}


def _find_preset(name: str) -> Preset | None:
    if not name:
        return None
    preset = load_preset(name)
    if method_of(preset).name != "vdm-vsr":
        problem = f"{name} is a preset of {method_of(preset).name}."
        raise UsageError(problem, "Name one of vdm-vsr.")
    return preset
