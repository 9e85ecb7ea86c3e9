"""PSNR and SSIM beside other methods: table I on BAIR, and Moving MNIST."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from torch import Tensor

from framelift.metrics.registry import METRICS
from framelift.ops.interpolate import interpolate
from framelift.papers.reproduce import Request
from framelift.papers.reproduction import Block, Reproduction, Table
from framelift.papers.vdm_vsr import statistics
from framelift.papers.vdm_vsr.baselines import BICUBIC, baselines
from framelift.papers.vdm_vsr.prior import NO_PRIOR
from framelift.papers.vdm_vsr.report import notes, record
from framelift.papers.vdm_vsr.samples import Bench, Point

OURS, AUTOENCODER = "VDM-VSR", "Autoencoder alone"
Values = dict[str, np.ndarray]
"""By metric, the clips' means `[references, seeds]`."""


def bair(request: Request) -> Reproduction:
    """Table I: published values beside those of a prior that was named."""
    bench = Bench(request)
    scale = bench.setup.scales[0]
    found = {f"{BICUBIC} (not in the paper)": _baseline(bench, scale, interpolate)}
    missing = []
    if bench.prior.preset is None:
        missing = [f"{OURS}'s row needs a prior of BAIR. {NO_PRIOR}"]
    else:
        found[OURS] = _ours(bench, scale)
    ours: dict[str, dict[str, float | None]] = {
        title: {metric: float(values[metric].mean()) for metric in request.item.metrics}
        for title, values in found.items()
    }
    (data,) = request.item.data
    return Reproduction(
        request.item,
        blocks=(Block(data.name, bench.data.removeprefix("Data: "), ours),),
        notes=(*missing, *notes(bench)),
        record=record(bench) | {"intervals": _intervals(found)},
    )


def moving_mnist(request: Request) -> Reproduction:
    """Baselines, VDM-VSR and the bound of its autoencoder, at each scale."""
    bench = Bench(request)
    tables, intervals = [], {}
    others = baselines(bench.setup.regression)
    for scale in bench.setup.scales:
        found = {title: _baseline(bench, scale, run) for title, run in others.items()}
        found[OURS] = _ours(bench, scale)
        found[AUTOENCODER] = _autoencoder(bench)
        tables.append(_table(f"Moving MNIST, ×{scale}", found))
        intervals[f"×{scale}"] = _intervals(found)
    reading = "Brackets: 95 % intervals of a bootstrap over clips."
    return Reproduction(
        request.item,
        tables=tuple(tables),
        notes=(reading, *notes(bench)),
        record=record(bench) | {"intervals": intervals},
    )


def _ours(bench: Bench, scale: int) -> Values:
    setup, kept = bench.setup, tuple(range(bench.shape[0]))
    points = [
        [Point(r, s, scale, setup.sigmas[0], kept) for s in range(setup.seeds)]
        for r in range(setup.references)
    ]
    samples = bench(point for row in points for point in row)
    return {
        metric: np.array([[samples[point].value(metric) for point in row] for row in points])
        for metric in ("psnr", "ssim")
    }


def _baseline(bench: Bench, scale: int, run: Callable[[Tensor, int], Tensor]) -> Values:
    """A method on the observation of each reference's first seed."""
    kept = tuple(range(bench.shape[0]))
    made = [
        run(bench.observe(Point(r, 0, scale, bench.setup.sigmas[0], kept))[None], scale)[0]
        for r in range(len(bench.references))
    ]
    return _measure(bench, made)


def _autoencoder(bench: Bench) -> Values:
    return _measure(bench, [bench.reconstruct(reference) for reference in bench.references])


def _measure(bench: Bench, made: list[Tensor]) -> Values:
    done = [bench.measure(r, x) for r, x in zip(bench.references, made, strict=True)]
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
