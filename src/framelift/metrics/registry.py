"""Metrics by name. Importing this loads no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from framelift.errors import UsageError
from framelift.metrics.settings import MetricSettings

if TYPE_CHECKING:
    from framelift.metrics.base import Metric
    from framelift.metrics.motion import Flows
    from framelift.metrics.perceptual import LPIPSNetwork


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is shown, and how it is made."""

    title: str
    """The field's name, with the unit or factor."""
    better: Literal["higher", "lower", "reference"]
    digits: int
    """Decimals that papers print."""
    build: Callable[["Tools"], "Metric"]


@dataclass(frozen=True)
class Tools:
    """What metrics of the same settings share."""

    settings: MetricSettings

    @cached_property
    def flows(self) -> "Flows":
        from framelift.flow import build_flow
        from framelift.metrics.motion import Flows

        s = self.settings
        return Flows(s, build_flow(s.flow, iterations=s.flow_iterations, device=s.device))

    @cached_property
    def lpips(self) -> "LPIPSNetwork":
        from framelift.metrics.perceptual import LPIPSNetwork

        return LPIPSNetwork(self.settings)


def _simple(path: str) -> Callable[[Tools], "Metric"]:
    """A metric "module:Class" that takes the settings only."""
    return lambda tools: _load(path)(tools.settings)


def _with_flow(path: str) -> Callable[[Tools], "Metric"]:
    return lambda tools: _load(path)(tools.settings, tools.flows)


def _with_lpips(path: str) -> Callable[[Tools], "Metric"]:
    return lambda tools: _load(path)(tools.settings, tools.lpips)


def _learned(name: str) -> Callable[[Tools], "Metric"]:
    return lambda tools: _load("iqa:LearnedIQA")(name, tools.settings)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"framelift.metrics.{module}"), name)


METRICS: dict[str, MetricInfo] = {
    "psnr": MetricInfo("PSNR (dB)", "higher", 2, _simple("fidelity:PSNR")),
    "ssim": MetricInfo("SSIM", "higher", 4, _simple("fidelity:SSIM")),
    "lpips": MetricInfo("LPIPS", "lower", 4, _with_lpips("perceptual:LPIPS")),
    "dists": MetricInfo("DISTS", "lower", 4, _simple("perceptual:DISTS")),
    "niqe": MetricInfo("NIQE", "lower", 3, _simple("niqe:NIQE")),
    "tlpips": MetricInfo("tLPIPS (10⁻³)", "lower", 2, _with_lpips("perceptual:TLPIPS")),
    "tof": MetricInfo("tOF (10⁻¹ px)", "lower", 3, _with_flow("motion:TOF")),
    "we": MetricInfo("WE (10⁻³)", "reference", 3, _with_flow("motion:WarpingError")),
    "grid": MetricInfo("grid index", "reference", 2, _simple("texture:GridIndex")),
    "grain": MetricInfo("grain", "reference", 2, _simple("texture:Grain")),
    "still": MetricInfo("still change (levels)", "lower", 2, _simple("motion:StillChange")),
    "musiq": MetricInfo("MUSIQ", "higher", 2, _learned("musiq")),
    "clipiqa": MetricInfo("CLIP-IQA", "higher", 4, _learned("clipiqa")),
    "clipiqa+": MetricInfo("CLIP-IQA+", "higher", 4, _learned("clipiqa+")),
    "maniqa": MetricInfo("MANIQA", "higher", 4, _learned("maniqa")),
    "liqe": MetricInfo("LIQE", "higher", 3, _learned("liqe")),
}


def metric_names() -> list[str]:
    """Names that `build_metrics` knows."""
    return list(METRICS)


def build_metrics(names: Sequence[str], settings: MetricSettings | None = None) -> "list[Metric]":
    """The metrics of these names, in order, sharing networks and flow.

    Raises UsageError for an unknown name or a missing extra, InputError for missing weights.
    """
    for name in names:
        if name not in METRICS:
            close = get_close_matches(name.lower(), METRICS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(METRICS)}."
            raise UsageError(f"There is no metric {name!r}.", hint)
    tools = Tools(settings or MetricSettings())
    return [METRICS[name].build(tools) for name in dict.fromkeys(names)]
