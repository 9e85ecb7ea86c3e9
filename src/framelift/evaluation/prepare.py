"""From ground truth to results on the disk: degrade, save, upscale as users do, read again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from framelift.datasets import open_source
from framelift.degrade import Degradation, load_recipe
from framelift.degrade.recipe import describe
from framelift.engine.journal import journal_folder
from framelift.engine.upscale import load_for, upscale
from framelift.errors import StoppedError, UsageError
from framelift.evaluation.cache import code_digest, key_of, versions
from framelift.evaluation.candidates import Candidate, slug
from framelift.evaluation.cases import Case
from framelift.evaluation.frames import View, frame_folder, whole
from framelift.files import read_json, remove, write_json
from framelift.methods.base import VSRPipeline
from framelift.ops import resize
from framelift.types import OnProgress, Progress

Load = Callable[[], VSRPipeline]


class FrameStore:
    """Makes LR clips and results below `folder`, each in a folder of PNG files that is named by
    what decides its content; what is there already is only opened. `made` counts the rest.
    `seconds[clip][candidate]` is the wall time of a frame, without loading; None where a run was
    interrupted.
    """

    def __init__(
        self,
        folder: Path,
        recipe: str | None,
        scale: int | None,
        seed: int,
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
    ) -> None:
        self._folder, self._seed, self.recipe = folder, seed, recipe
        self._recipe = load_recipe(recipe) if recipe else None
        self._degrade = Degradation(self._recipe, scale, seed) if self._recipe else None
        self._on_progress, self._should_stop = on_progress, should_stop
        self.made = {"degraded": 0, "upscaled": 0}
        self.seconds: dict[str, dict[str, float | None]] = {}

    @property
    def scale(self) -> int | None:
        """Scale of the recipe, if there is one."""
        return self._degrade.scale if self._degrade else None

    def degrade(self, case: Case, about: str) -> Case:
        """The case with its low-resolution clip, saved in 8 bits, and the ground truth that belongs
        to it: another one where the recipe changes the scene itself.
        """
        key = key_of(self._lr_content(case))
        folder = self._folder / slug(case.name) / f"lr-{key[:12]}"
        truth = folder.with_name(f"gt-{key[:12]}")
        changes_truth = bool(case.lr is None and self._recipe and self._recipe.scene)
        if not folder.is_dir():
            self._note(f"{about}: low resolution")
            remove(truth)
            with ExitStack() as stack:
                times = case.still or 1
                put, put_truth = stack.enter_context(frame_folder(folder, times)), _ignore
                if changes_truth:
                    put_truth = stack.enter_context(frame_folder(truth, times))
                for frame in self._lr_frames(case, put_truth):
                    self._check_stop(case)
                    put(frame)
            self.made["degraded"] += 1
        if changes_truth:
            case = replace(case, gt=whole(open_source(truth)))
        return replace(case, lr=whole(open_source(folder)))

    def _lr_content(self, case: Case) -> dict[str, Any]:
        """What decides the low-resolution clip."""
        if case.lr is not None:
            return {"published": case.lr.digest}
        assert case.gt is not None
        assert self._degrade is not None
        return {
            "gt": case.gt.digest,
            "recipe": describe(self._degrade.recipe),
            "scale": self._degrade.scale,
            "seed": self._seed,
            "clip": case.name,
            "still": case.still,
            "code": code_digest(),
            "versions": versions("torch", "av"),
        }

    def _lr_frames(self, case: Case, put_truth: Callable[[Tensor], None]) -> Iterator[Tensor]:
        """Low-resolution frames; of a still clip the one."""
        stop = 1 if case.still else None
        if case.lr is not None:
            yield from case.lr.tensors(0, stop)
            return
        assert case.gt is not None
        assert self._degrade is not None
        kept = 0
        for _, frame in self._degrade.stream(case.gt.tensors(0, stop), case.name, put_truth):
            yield frame
            kept += 1
        if kept != (stop or case.gt.frames):
            raise UsageError(
                f"The recipe keeps {kept} of the {case.gt.frames} frames of {case.name}.",
                "Choose a recipe that keeps every frame.",
            )

    def upscale(self, cases: Sequence[tuple[str, Case]], candidate: Candidate) -> list[View]:
        """The results of a candidate on the low-resolution clips of cases, each with a word about
        it for the user; the pipeline is loaded once."""
        load = cache(lambda: load_for(candidate.upscale, candidate.method))
        return [self._upscale(case, candidate, about, load) for about, case in cases]

    def _upscale(self, case: Case, candidate: Candidate, about: str, load: Load) -> View:
        assert case.lr is not None
        content = {"lr": case.lr.digest, "scale": case.scale, **candidate.identity}
        folder = self._folder / slug(case.name) / f"{candidate.slug}-{key_of(content)[:12]}"
        if not folder.is_dir():
            self._check_stop(case)
            self._note(f"{about}: {candidate.label}")
            seconds = self._make(folder, case, candidate, load)
            write_json(_times(folder), {"seconds_per_frame": seconds})
            self.made["upscaled"] += 1
        self.seconds.setdefault(case.name, {})[candidate.label] = _seconds(folder)
        view = whole(open_source(folder))
        if case.gt is not None and view.size != case.gt.size:
            raise UsageError(
                f"{candidate.label} makes {case.name} {view.size[1]}×{view.size[0]} pixels, the "
                f"ground truth has {case.gt.size[1]}×{case.gt.size[0]}.",
                "Choose a method of the data's scale.",
            )
        return view

    def _make(self, folder: Path, case: Case, candidate: Candidate, load: Load) -> float | None:
        """Write the frames of a candidate; returns the seconds of one."""
        assert case.lr is not None
        if candidate.upscale is None:
            started = time.perf_counter()
            with frame_folder(folder) as put:
                for frame in case.lr.tensors():
                    self._check_stop(case)
                    put(enlarge(candidate.name, frame, case.scale))
            return (time.perf_counter() - started) / case.lr.frames
        source = Path(case.lr.source.paths[0]).parent
        settings = replace(candidate.upscale, scale=float(case.scale))
        run: dict[str, Any] = {
            "method": candidate.method,
            "pipeline": load(),
            "on_progress": self._on_progress,
            "should_stop": self._should_stop,
        }
        begun = journal_folder(folder).exists()
        try:
            result = upscale(source, folder, settings, **run)
        except UsageError:
            if not journal_folder(folder).exists():
                raise
            # An unfinished run of another machine or device, under the same key.
            result = upscale(source, folder, replace(settings, restart=True), **run)
            begun = False
        return None if begun else result.record["seconds"]["total"] / case.lr.frames

    def _check_stop(self, case: Case) -> None:
        if self._should_stop():
            raise StoppedError(
                f"Stopped at {case.name}.", "Run the same command again to continue."
            )

    def _note(self, text: str) -> None:
        self._on_progress(Progress("note", note=text))


def enlarge(baseline: str, frame: Tensor, scale: int) -> Tensor:
    """A baseline on `[3, h, w]`: MATLAB's bicubic, OpenCV's Lanczos over 8×8 pixels, or nearest."""
    if baseline == "bicubic":
        return resize.upscale(frame, scale)
    height, width = frame.shape[-2] * scale, frame.shape[-1] * scale
    how = cv2.INTER_LANCZOS4 if baseline == "lanczos" else cv2.INTER_NEAREST
    large = cv2.resize(frame.permute(1, 2, 0).numpy(), (width, height), interpolation=how)
    return torch.from_numpy(large).permute(2, 0, 1)


def _times(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seconds.json")


def _seconds(folder: Path) -> float | None:
    """What a frame of a folder took, if that is known."""
    try:
        return read_json(_times(folder))["seconds_per_frame"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ignore(frame: Tensor) -> None:
    pass
