"""Degrade, upscale, measure, report: every step is kept, and the same command goes on."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from framelift.datasets import open_dataset
from framelift.device import choose_device
from framelift.engine.settings import UpscaleSettings
from framelift.errors import FrameliftError, UsageError
from framelift.evaluation.cache import Cache, code_digest, versions
from framelift.evaluation.candidates import Candidate, parse_candidate, slug
from framelift.evaluation.cases import Case, dataset_cases, finished_cases
from framelift.evaluation.measure import Measured, Measurer
from framelift.evaluation.pictures import show_details, show_profile
from framelift.evaluation.prepare import FrameStore
from framelift.evaluation.protocols import find_protocol
from framelift.evaluation.report import Results, average
from framelift.evaluation.settings import EvaluateSettings, ReproduceSettings, parse_place
from framelift.metrics.base import Metric
from framelift.metrics.registry import build_metrics
from framelift.metrics.settings import MetricSettings
from framelift.types import OnProgress, Progress
from framelift.video.faults import make_folder


def evaluate(
    settings: EvaluateSettings,
    output: Path,
    *,
    candidates: Sequence[Candidate] = (),
    metrics: Sequence[str] = (),
    on_progress: OnProgress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Measure finished clips, or methods on a dataset, into the folder `output`.

    What the folder holds already is not computed again. `candidates` stand for `settings.methods`
    where a caller has parsed them, `metrics` for those of the protocol, of which some may be left
    out with a warning. `should_stop` is asked between steps and frames; a stop raises StoppedError,
    and the same call later continues.
    """
    run = _Evaluation(settings, output, candidates, metrics, on_progress, should_stop)
    results = run()
    results.save(output)
    return results


def base_settings(settings: EvaluateSettings | ReproduceSettings) -> UpscaleSettings:
    """What all methods of an evaluation are run with."""
    names = ("seed", "device", "dtype", "threads", "weights_dir")
    return UpscaleSettings(**{name: getattr(settings, name) for name in names})


def parse_methods(settings: EvaluateSettings) -> list[Candidate]:
    """The methods of an evaluation, each once; whatever is unknown raises UsageError."""
    base = base_settings(settings)
    return [parse_candidate(word, base) for word in dict.fromkeys(settings.methods)]


class _Evaluation:
    def __init__(
        self,
        settings: EvaluateSettings,
        output: Path,
        candidates: Sequence[Candidate],
        metrics: Sequence[str],
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
    ) -> None:
        self.settings, self.output = settings, output
        self.on_progress, self.should_stop = on_progress, should_stop
        self.protocol = find_protocol(settings.protocol)
        self.candidates = list(candidates) or parse_methods(settings)
        self.cases, self.store = self._find_cases()
        self.metrics = self._choose_metrics(metrics or self._usual_metrics())
        self.cache = Cache(output / "cache")
        make_folder(output)

    def __call__(self) -> Results:
        measure = Measurer(self.metrics, self.cache, self.on_progress, self.should_stop)
        measured: dict[str, Measured] = {}
        for number, (about, case) in enumerate(self._finished(), start=1):
            self.on_progress(Progress("note", note=f"{about}: measuring"))
            measured[case.name] = measure(case)
            if number <= self.settings.pictures:
                self._show(case)
        return self._report(measured)

    def _find_cases(self) -> tuple[list[Case], FrameStore | None]:
        s = self.settings
        if s.sr:
            return finished_cases(s), None
        assert s.dataset is not None
        assert s.root is not None
        dataset = open_dataset(s.dataset, s.root, s.split)
        for text in dataset.deviations:
            self._warn(text)
        ships_lr = all(clip.lr is not None for clip in dataset.clips)
        recipe = s.recipe or (None if ships_lr else "bi")
        store = FrameStore(
            self.output / "frames", recipe, s.scale, s.seed, self.on_progress, self.should_stop
        )
        return dataset_cases(dataset, s, store.scale), store

    def _finished(self) -> list[tuple[str, Case]]:
        """The cases with low-resolution clips and results, made where they are not given."""
        store, count = self.store, len(self.cases)
        cases = [(f"[{n}/{count}] {case.name}", case) for n, case in enumerate(self.cases, start=1)]
        if store is None:
            return cases
        cases = [(about, store.degrade(case, about)) for about, case in cases]
        made = {c.label: store.upscale(cases, c) for c in self.candidates}
        return [
            (about, replace(case, sr={label: views[n] for label, views in made.items()}))
            for n, (about, case) in enumerate(cases)
        ]

    def _usual_metrics(self) -> tuple[str, ...]:
        return (*self.protocol.metrics, *(("still",) if self.settings.still else ()))

    def _choose_metrics(self, usual: Sequence[str]) -> list[Metric]:
        """Those asked for; else of the usual ones those that can be computed here."""
        settings = self.protocol.on(self.settings.dataset, self.settings.options)
        if settings.device == "cpu":
            device = str(choose_device(self.settings.device))
            settings = replace(settings, device=device)
        if self.settings.metrics:
            metrics = build_metrics(self.settings.metrics, settings)
            self._check_needs(*metrics)
            return metrics
        try:
            metrics = build_metrics(usual, settings)
            self._check_needs(*metrics)
            return metrics
        except FrameliftError:
            names = [name for name in usual if self._available(name, settings)]
        if not names:
            raise UsageError("None of the protocol's metrics can be computed.", "Give --metrics.")
        return build_metrics(names, settings)

    def _available(self, name: str, settings: MetricSettings) -> bool:
        try:
            self._check_needs(*build_metrics([name], settings))
        except FrameliftError as error:
            self._warn(f"{name} is left out: {error}")
            return False
        return True

    def _check_needs(self, *metrics: Metric) -> None:
        titles = {"gt": "ground truth", "lr": "low-resolution clips"}
        made = {"lr"} if self.store else set()
        for metric, name in [(m, n) for m in metrics for n in m.needs - made]:
            if any(getattr(case, name) is None for case in self.cases):
                raise UsageError(
                    f"{metric.name} needs {titles[name]}, which is not there.",
                    "Leave it out with --metrics, or name the folder.",
                )

    def _show(self, case: Case) -> None:
        """Make a clip's pictures, unless they show the same already."""
        s = self.settings
        folder = self.output / "pictures"
        details, profile = (folder / f"{slug(case.name)}{end}.png" for end in ("", "_profile"))
        content = {
            "pictures": [str(details.name), s.crop_at, versions("opencv-python-headless")],
            "code": code_digest(),
            "lr": case.lr.digest if case.lr else None,
            "gt": case.gt.digest if case.gt else None,
            "sr": [(label, view.digest) for label, view in case.sr.items()],
        }
        if self.cache.get(content) and details.exists() and profile.exists():
            return
        at = parse_place(s.crop_at)
        row, _ = show_details(details, case, at)
        show_profile(profile, case, row)
        self.cache.put(content, "made")

    def _report(self, measured: dict[str, Measured]) -> Results:
        methods = tuple(next(iter(measured.values())).values)
        names = [metric.name for metric in self.metrics]
        values = {
            clip: {
                m: {n: average(m_values[n]) for n in names} for m, m_values in one.values.items()
            }
            for clip, one in measured.items()
        }
        truth = {
            clip: {name: average(one.truth.get(name, [])) for name in names}
            for clip, one in measured.items()
        }
        better = {metric.name: metric.better for metric in self.metrics}
        seconds = self.store.seconds if self.store else {}
        return Results(better, methods, values, truth, self._record(measured), seconds)

    def _record(self, measured: dict[str, Measured]) -> dict[str, Any]:
        """Everything beside the means that results.json holds."""
        made = self.store.made if self.store else {}
        return {
            "settings": asdict(self.settings),
            "protocol": asdict(self.protocol),
            "metrics": {m.name: {"better": m.better, "protocol": m.protocol} for m in self.metrics},
            "methods": {c.label: c.identity for c in self.candidates},
            "data": {
                case.name: {
                    "frames": case.frames,
                    "measured": case.measured,
                    "size": next(v for v in (case.gt, *case.sr.values(), case.lr) if v).size,
                    "scale": case.scale,
                }
                for case in self.cases
            },
            "frames": {
                clip: {"methods": m.values, "ground_truth": m.truth} for clip, m in measured.items()
            },
            "computed": {**made, "measured": sum(m.computed for m in measured.values())},
            "versions": versions("torch", "torchmetrics", "torchvision", "opencv-python-headless"),
            "facts": self._facts(),
        }

    def _facts(self) -> list[str]:
        """What decides the numbers, in sentences for a reader."""
        s = self.settings
        data = f"{s.dataset} {s.split or ''}".strip() if s.dataset else "finished clips"
        cut = f"centre crops of {s.crop}²" if s.crop else "whole frames"
        count = f"first {s.frames} frames" if s.frames else "all frames"
        count = f"the middle one of {count}, {s.still} times" if s.still else count
        facts = [f"Data: {data}, {len(self.cases)} clips, {cut}, {count}, {self._source()}."]
        changed = f" Changed: {', '.join(s.options)}." if s.options else ""
        facts.append(f"Protocol {self.protocol.name}: {self.protocol.title}{changed}")
        facts += [
            f"{m.name}: " + ", ".join(f"{k} {v}" for k, v in m.protocol.items())
            for m in self.metrics
        ]
        return [*facts, "Mean of the frames of a clip, then of the clips."]

    def _source(self) -> str:
        if self.store is None:
            return "results as given"
        scale = self.cases[0].scale
        recipe = self.store.recipe
        return f"×{scale} by {recipe}" if recipe else f"×{scale}, low resolution as published"

    def _warn(self, text: str) -> None:
        self.on_progress(Progress("warning", note=text))
