"""PSNR and SSIM beside other methods: table I on BAIR, and Moving MNIST."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framelift.errors import UsageError
from framelift.methods.vdm_vsr.regression import regress
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.metrics.registry import METRICS
from framelift.ops.interpolate import interpolate
from framelift.papers.reproduce import Request
from framelift.papers.reproduction import Block, Reproduction, Table
from framelift.papers.vdm_vsr import statistics
from framelift.papers.vdm_vsr.prior import NO_PRIOR
from framelift.papers.vdm_vsr.report import notes, record
from framelift.papers.vdm_vsr.samples import ExperimentRun, Point
from framelift.weights.presets import BUNDLED

OURS, AUTOENCODER, BICUBIC = "VDM-VSR", "Autoencoder alone", "Bicubic"
Baseline = Callable[[Tensor, int], Tensor]
"""Observed clips `[B, T, 3, h, w]` in [-1, 1] and a factor → `[B, T, 3, H, W]`."""
Values = dict[str, np.ndarray]
"""By metric, the clips' means `[references, seeds]`."""


def bair(request: Request) -> Reproduction:
    """Table I: published values beside those of a prior that was named."""
    run = ExperimentRun(request)
    scale = run.setup.scales[0]
    found = {f"{BICUBIC} (not in the paper)": _baseline(run, scale, interpolate)}
    missing = []
    if run.prior.preset is None:
        missing = [f"{OURS}'s row needs a prior of BAIR. {NO_PRIOR}"]
    else:
        found[OURS] = _ours(run, scale)
    ours: dict[str, dict[str, float | None]] = {
        title: {metric: float(values[metric].mean()) for metric in request.item.metrics}
        for title, values in found.items()
    }
    (data,) = request.item.data
    return Reproduction(
        request.item,
        blocks=(Block(data.name, run.data.removeprefix("Data: "), ours),),
        notes=(*missing, *notes(run)),
        record=record(run) | {"intervals": _intervals(found)},
    )


def moving_mnist(request: Request) -> Reproduction:
    """Baselines, VDM-VSR and the bound of its autoencoder, at each scale."""
    run = ExperimentRun(request)
    tables, intervals = [], {}
    others = _baselines(run.setup.regression)
    for scale in run.setup.scales:
        found = {title: _baseline(run, scale, restore) for title, restore in others.items()}
        found[OURS] = _ours(run, scale)
        found[AUTOENCODER] = _autoencoder(run)
        tables.append(_table(f"Moving MNIST, ×{scale}", found))
        intervals[f"×{scale}"] = _intervals(found)
    reading = "Brackets: 95 % intervals of a bootstrap over clips."
    return Reproduction(
        request.item,
        tables=tuple(tables),
        notes=(reading, *notes(run)),
        record=record(run) | {"intervals": intervals},
    )


def _ours(run: ExperimentRun, scale: int) -> Values:
    setup, kept = run.setup, tuple(range(run.shape[0]))
    points = [
        [Point(r, s, scale, setup.sigmas[0], kept) for s in range(setup.seeds)]
        for r in range(setup.references)
    ]
    samples = run(point for row in points for point in row)
    return {
        metric: np.array([[samples[point].value(metric) for point in row] for row in points])
        for metric in ("psnr", "ssim")
    }


def _baseline(run: ExperimentRun, scale: int, restore: Baseline) -> Values:
    """A method on the observation of each reference's first seed."""
    kept = tuple(range(run.shape[0]))
    made = [
        restore(run.observe(Point(r, 0, scale, run.setup.sigmas[0], kept))[None], scale)[0]
        for r in range(len(run.references))
    ]
    return _measure(run, made)


def _baselines(regression: str) -> dict[str, Baseline]:
    """The baselines of Moving MNIST by the titles of their rows.

    `regression` names a bundled network, or the folder of a finished run's pipeline, or "none".
    """
    found: dict[str, Baseline] = {BICUBIC: interpolate}
    if regression != "none":
        network = _load_regression(regression)
        size = sum(p.numel() for p in network.parameters()) / 1e6

        @torch.no_grad()
        def restore(y: Tensor, factor: int) -> Tensor:
            return regress(network, y, factor)

        found[f"Regression, {size:.1f} M parameters"] = restore
    return found


def _load_regression(name: str) -> STDiT:
    trained = Path(name).expanduser() / "transformer"
    folder = trained if trained.is_dir() else BUNDLED / name
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"There is no regression network {name!r}.",
            "Name the pipeline folder that the recipe vdm_vsr_mnist_regression has left.",
        )
    network: Any = STDiT.from_pretrained(str(folder), local_files_only=True)
    return network.eval()


def _autoencoder(run: ExperimentRun) -> Values:
    return _measure(run, [run.reconstruct(reference) for reference in run.references])


def _measure(run: ExperimentRun, made: list[Tensor]) -> Values:
    done = [run.measure(r, x) for r, x in zip(run.references, made, strict=True)]
    return {m: np.array([[np.mean(of_clip[m])] for of_clip in done]) for m in ("psnr", "ssim")}


def _table(title: str, found: dict[str, Values]) -> Table:
    heads = ("method", *(f"{METRICS[m].title} [95 %]" for m in ("psnr", "ssim")))
    rows = [
        (name, *(statistics.mean(values[m]).text(METRICS[m].digits) for m in ("psnr", "ssim")))
        for name, values in found.items()
    ]
    return Table(title, heads, tuple(rows))


def _intervals(found: dict[str, Values]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        title: {metric: asdict(statistics.mean(v)) for metric, v in values.items()}
        for title, values in found.items()
    }
