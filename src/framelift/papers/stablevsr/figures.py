"""StableVSR's figures: what guides a frame, and what the number of steps does."""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from framelift.datasets import open_dataset
from framelift.degrade import Degradation
from framelift.device import choose_device
from framelift.evaluation.cases import dataset_cases
from framelift.evaluation.pictures import (
    below,
    beside,
    labelled,
    most_detail,
    zoom,
)
from framelift.evaluation.settings import EvaluateSettings
from framelift.images import to_rgb, write_picture
from framelift.methods.load import load_pipeline
from framelift.methods.stablevsr.guidance import SampledFrame
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.sweep import Visit
from framelift.metrics.registry import METRICS
from framelift.ops.noise import PositionNoise
from framelift.papers.curves import Curve, Panel, draw_curves
from framelift.papers.reproduce import Request, make_table
from framelift.papers.reproduction import Reproduction

SIDE, ZOOM = 96, 2  # of the details: HR pixels, enlargement
COLUMNS = 4  # curves in a row


@dataclass(frozen=True)
class SamplingStep:
    """The watched frame after one of its steps; pictures `[3, H, W]` in [-1, 1]."""

    t: int
    noisy: Tensor
    estimate: Tensor
    guidance: Tensor | None
    result: Tensor


class WatchedClip:
    """The first clip of an item's data, and the preset's pipeline."""

    def __init__(self, request: Request) -> None:
        settings, item = request.settings, request.item
        size = item.full if settings.full else item.reduced
        name, root = next(iter(request.roots.items()))
        wanted = EvaluateSettings(
            dataset=name, root=root, methods=("bicubic",), crop=size.crop, frames=size.frames
        )
        degradation = Degradation("bi", 4, settings.seed)
        case = dataset_cases(open_dataset(name, root), wanted, degradation.scale)[0]
        assert case.gt is not None
        self.gt = torch.stack(list(case.gt.tensors()))
        self.lr = degradation(self.gt, case.name)
        self.middle = len(self.lr) // 2
        device = choose_device(settings.device)
        self.pipeline: Any = load_pipeline(
            "stablevsr", device=device, weights_dir=settings.weights_dir
        )
        self.noise = PositionNoise(settings.seed)
        side = min(SIDE, *self.gt.shape[-2:])
        y, x = most_detail(to_rgb(self.gt[self.middle], deep=False), side)
        self._place = (slice(y, y + side), slice(x, x + side))

    def watch(self, settings: StableVSRSettings) -> list[SamplingStep]:
        """Sample the clip and look at its middle frame after every step."""
        steps: list[SamplingStep] = []

        def decode(latents: Tensor | None, state: SampledFrame) -> Tensor:
            assert latents is not None
            return state.codec.decode(latents)[0].cpu()

        def look(visit: Visit, state: SampledFrame, guidance: Tensor | None) -> None:
            if visit.frame != self.middle:
                return
            steps.append(
                SamplingStep(
                    int(state.trajectory.sampler.timesteps[visit.step]),
                    decode(state.noisy, state),
                    decode(state.estimate, state),
                    None if guidance is None else guidance[0].cpu(),
                    decode(state.trajectory.x_t, state),
                )
            )

        self.pipeline(self.lr, settings=settings, noise=self.noise, on_visit=look)
        return steps

    def detail(self, text: str, picture: Tensor, gain: float = 1.0) -> np.ndarray:
        """A labelled detail of `[3, H, W]` in [-1, 1]; `gain` is for differences."""
        rows, columns = self._place
        cut = (picture[:, rows, columns] * gain + 1) / 2
        return labelled(text, zoom(to_rgb(cut.clamp(0, 1), deep=False), ZOOM))


def guidance_states(request: Request) -> Reproduction:
    """Figure 3: x_t, x̃₀, x̃₀ - x₀ and what x̃₀ has over its blur, step by step."""
    clip = WatchedClip(request)
    steps = clip.watch(StableVSRSettings(steps=4))
    final = steps[-1].estimate
    rows = []
    for step in steps:
        blurred = cv2.GaussianBlur(step.estimate.permute(1, 2, 0).numpy(), (0, 0), 2)
        fine = step.estimate - torch.from_numpy(blurred).permute(2, 0, 1)
        rows.append(
            beside(
                [
                    clip.detail(f"x_t, t={step.t}", step.noisy),
                    clip.detail("estimate of x_0", step.estimate),
                    clip.detail("its error, x4", step.estimate - final, 4),
                    clip.detail("its detail, x2", fine, 2),
                ]
            )
        )
    return _picture(request, below(rows))


def warp_spaces(request: Request) -> Reproduction:
    """Figure 4: motion compensation of x̃₀'s latents, then decoded, or of the decoded picture."""
    clip = WatchedClip(request)
    panels = []
    for title, settings in (
        ("latents warped", StableVSRSettings(warp_space="latent")),
        ("picture warped", StableVSRSettings(warp_space="rgb")),
    ):
        panels.append(clip.detail(title, _guidance(clip, settings)))
    panels.append(clip.detail("ground truth", clip.gt[clip.middle] * 2 - 1))
    return _picture(request, beside(panels))


def guidance_ablation(request: Request) -> Reproduction:
    """Figure 7: the guidance with one of its operations removed, and the frame it leads to."""
    clip = WatchedClip(request)
    columns = []
    for title, settings in (
        ("no guidance on x_0", StableVSRSettings(guidance="xt")),
        ("no MC", StableVSRSettings(motion_compensation=False)),
        ("latents warped", StableVSRSettings(warp_space="latent")),
        ("proposed", StableVSRSettings()),
    ):
        last = clip.watch(settings)[-1]
        guide = _guidance(clip, settings)
        columns.append(below([clip.detail(title, guide), clip.detail("result", last.result)]))
    truth = clip.detail("ground truth", clip.gt[clip.middle] * 2 - 1)
    blank = np.full_like(truth, 255)
    return _picture(request, beside([*columns, below([truth, blank])]))


def steps_curve(request: Request) -> Reproduction:
    """Figure 6: every metric against the number of sampling steps, as a table and as curves."""
    made = make_table(request)
    steps = [int(row.settings["steps"]) for row in request.item.rows]
    block = next(b for b in made.blocks if b.ours)
    panels = []
    for metric in request.item.metrics:
        values = [block.ours.get(row.title, {}).get(metric) for row in request.item.rows]
        known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
        if known:
            panels.append(Panel([Curve(known)], METRICS[metric].title, "steps", log_x=True))
    files = draw_curves(request.output / request.item.name.split("/")[-1], panels, COLUMNS)
    return replace(made, files=files)


def _guidance(clip: WatchedClip, settings: StableVSRSettings) -> Tensor:
    """The guidance of the last step that had one."""
    return [step.guidance for step in clip.watch(settings) if step.guidance is not None][-1]


def _picture(request: Request, rgb: np.ndarray) -> Reproduction:
    path = request.output / f"{request.item.name.split('/')[-1]}.png"
    write_picture(path, rgb)
    notes = (request.item.notes,) if request.item.notes else ()
    return Reproduction(request.item, files=(path,), notes=notes)
