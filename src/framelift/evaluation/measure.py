"""Metrics of one clip, each kept by the content of what it saw."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from framelift.errors import StoppedError
from framelift.evaluation.cache import Cache, code_digest, versions
from framelift.evaluation.cases import Case
from framelift.evaluation.frames import View
from framelift.metrics.base import Metric
from framelift.metrics.measure import measure_clip
from framelift.types import OnProgress, Progress

Values = list[float | None]
LIBRARIES = ("torch", "torchmetrics", "torchvision", "opencv-python-headless", "pyiqa")


@dataclass(frozen=True)
class Measured:
    """Values per frame that counts, by method and metric, and the ground truth's by metric."""

    values: dict[str, dict[str, Values]]
    truth: dict[str, Values]
    computed: int


class Measurer:
    """Measures clips with a set of metrics; finds again what the cache holds."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        cache: Cache,
        on_progress: OnProgress = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._metrics, self._cache = metrics, cache
        self._on_progress, self._should_stop = on_progress, should_stop

    def __call__(self, case: Case) -> Measured:
        """Measure every result of a clip; several metrics and methods in one pass."""
        seen = {name: view.digest for name, view in _references(case).items()}
        shown = {label: view.digest for label, view in case.sr.items()}

        def content(label: str, metric: Metric) -> dict[str, Any]:
            return {
                "sr": shown[label],
                "gt": seen.get("gt"),
                "lr": seen.get("lr") if "lr" in metric.needs else None,
                "measured": case.measured,
                "metric": metric.name,
                "protocol": metric.protocol,
                "code": code_digest(),
                "versions": versions(*LIBRARIES),
            }

        found = {
            (label, metric.name): self._cache.get(content(label, metric))
            for label in case.sr
            for metric in self._metrics
        }
        missing = [
            (tuple(label for label in case.sr if found[label, metric.name] is None), metric)
            for metric in self._metrics
        ]
        computed = 0
        for labels in dict.fromkeys(labels for labels, _ in missing if labels):
            together = [metric for those, metric in missing if those == labels]
            for label, metric, value in self._measure(case, labels, together):
                self._cache.put(content(label, metric), value)
                found[label, metric.name] = value
                computed += 1
        return _collect(found, case, self._metrics, computed)

    def _measure(
        self, case: Case, labels: Sequence[str], metrics: Sequence[Metric]
    ) -> Iterator[tuple[str, Metric, dict[str, Values]]]:
        measured = case.measured or tuple(range(case.frames))
        start, stop = max(0, min(measured) - 1), max(measured) + 1  # one more for its predecessor
        wanted = {"gt"}.union(*(metric.needs for metric in metrics))
        references = {
            name: view.tensors(start, stop)
            for name, view in _references(case).items()
            if name in wanted
        }
        done = measure_clip(
            metrics,
            {label: self._frames(case.sr[label], start, stop) for label in labels},
            **references,
            measured={index - start for index in measured},
        )
        for label in labels:
            for metric in metrics:
                values = done.values[label][metric.name]
                truth = done.truth.get(metric.name)
                kept = {
                    "frames": [values[i - start] for i in measured],
                    "truth": [truth[i - start] for i in measured] if truth else [],
                }
                yield label, metric, kept

    def _frames(self, view: View, start: int, stop: int) -> Iterator[Tensor]:
        for index, frame in enumerate(view.tensors(start, stop)):
            if self._should_stop():
                raise StoppedError(
                    "Stopped while measuring.", "Run the same command again to continue."
                )
            self._on_progress(Progress("survey", index + 1, stop - start))
            yield frame


def _references(case: Case) -> dict[str, View]:
    return {n: v for n, v in (("gt", case.gt), ("lr", case.lr)) if v is not None}


def _collect(
    found: Mapping[tuple[str, str], Mapping[str, Values]],
    case: Case,
    metrics: Sequence[Metric],
    computed: int,
) -> Measured:
    values = {
        label: {metric.name: list(found[label, metric.name]["frames"]) for metric in metrics}
        for label in case.sr
    }
    first = next(iter(case.sr))
    truth = {metric.name: list(found[first, metric.name]["truth"]) for metric in metrics}
    return Measured(
        values, {k: v for k, v in truth.items() if any(x is not None for x in v)}, computed
    )
