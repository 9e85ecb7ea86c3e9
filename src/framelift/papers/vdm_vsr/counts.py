"""Figures 3 and 5: PSNR of frame 1 against the number of observed frames."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from framelift.errors import UsageError
from framelift.papers.curves import Curve, Panel, draw_curves
from framelift.papers.reproduce import Request
from framelift.papers.reproduction import Reproduction, Table
from framelift.papers.vdm_vsr import statistics
from framelift.papers.vdm_vsr.report import notes, record
from framelift.papers.vdm_vsr.samples import ExperimentRun, Point
from framelift.papers.vdm_vsr.setup import Order, observed
from framelift.papers.vdm_vsr.statistics import Finding

MEASURED = 0  # frame 1, whatever frames are observed
WHOLE = None
NAMES: dict[Order, str] = {
    "sequential": "sequential",
    "random": "random",
    "random-first": "random, frame 1 first",
}


@dataclass(frozen=True)
class Line:
    """One curve: how frames are chosen, and the operator."""

    title: str
    order: Order
    scale: int
    sigma_h: float


def frame_orders(request: Request) -> Reproduction:
    """Figure 3: frames observed in sequence and in random order."""
    run = ExperimentRun(request)
    scale, sigma_h = run.setup.scales[0], run.setup.sigmas[0]
    lines = [Line(NAMES[order], order, scale, sigma_h) for order in run.setup.orders]
    values = _sample(run, lines)
    counts = run.setup.counts
    psnr: dict[Order, np.ndarray] = {line.order: values[line][0] for line in lines}
    findings = []
    if (sequential := psnr.pop("sequential", None)) is not None and len(counts) > 2:
        findings = [statistics.rises(counts, sequential), statistics.saturates(counts, sequential)]
        findings += [
            statistics.faster(counts, other, sequential, (NAMES[order], "sequential"))
            for order, other in psnr.items()
        ]
    return _made(run, values, {f"×{scale}": findings})


def blurs(request: Request) -> Reproduction:
    """Figure 5: blurs of different width, at each scale."""
    run = ExperimentRun(request)
    setup, findings, values = run.setup, {}, {}
    for scale in setup.scales:
        lines = [Line(f"σ_h = {s:g}", setup.orders[0], scale, s) for s in setup.sigmas]
        values |= (of_scale := _sample(run, lines))
        psnr = np.stack([of_scale[line][0] for line in lines])
        found = findings.setdefault(f"×{scale}", [])
        if len(setup.counts) > 2:
            together = psnr.mean(0)
            found += [f(setup.counts, together) for f in (statistics.rises, statistics.saturates)]
        if len(setup.counts) > 1 and len(lines) > 1:
            found.append(statistics.meet(setup.counts, psnr))
    return _made(run, values, findings)


def _sample(run: ExperimentRun, lines: Sequence[Line]) -> dict[Line, np.ndarray]:
    """PSNR of frame 1 and of the clip for each line: `[2, counts, references, seeds]`."""
    setup, frames = run.setup, run.shape[0]
    if not setup.counts or max(setup.counts) > frames or sorted(setup.counts) != [*setup.counts]:
        raise UsageError(
            f"counts is {setup.counts}.",
            f"Name rising numbers of frames, up to the prior's {frames}.",
        )

    def point(line: Line, count: int, reference: int, seed: int) -> Point:
        draw = (run.request.settings.seed, reference)
        kept = observed(line.order, count, frames, draw)
        return Point(reference, seed, line.scale, line.sigma_h, kept)

    places = {
        (line, *at): point(line, setup.counts[at[0]], at[1], at[2])
        for line in lines
        for at in np.ndindex(len(setup.counts), setup.references, setup.seeds)
    }
    samples = run(places.values())
    size = (2, len(setup.counts), setup.references, setup.seeds)
    values = {line: np.empty(size) for line in lines}
    for (line, *at), where in places.items():
        for row, frame in enumerate((MEASURED, WHOLE)):
            values[line][row, *at] = samples[where].value("psnr", frame)
    return values


def _made(
    run: ExperimentRun, values: Mapping[Line, np.ndarray], findings: Mapping[str, Sequence[Finding]]
) -> Reproduction:
    tables, panels, points = [], [], []
    for scale in dict.fromkeys(line.scale for line in values):
        of_scale = {line: psnr for line, psnr in values.items() if line.scale == scale}
        panels.append(_panel(run, of_scale, f"×{scale} super-resolution"))
        for row, what in enumerate(("frame 1", "the whole clip")):
            tables.append(_table(run, of_scale, row, f"×{scale}: PSNR (dB) of {what}"))
    for line, psnr in values.items():
        points += [
            {
                **asdict(line),
                "frames": count,
                "psnr_frame_1": asdict(statistics.mean(psnr[0, i])),
                "psnr_clip": asdict(statistics.mean(psnr[1, i])),
            }
            for i, count in enumerate(run.setup.counts)
        ]
    files = draw_curves(run.request.output / run.request.item.name.split("/")[-1], panels)
    rows = [(where, finding) for where, found in findings.items() for finding in found]
    tables += [_findings(rows)] if rows else []
    about: dict[str, Any] = {"points": points}
    about["findings"] = [{"at": where, **asdict(finding)} for where, finding in rows]
    return Reproduction(
        run.request.item,
        tables=tuple(tables),
        files=files,
        notes=(*notes(run), *_reading()),
        record=record(run) | about,
    )


def _table(run: ExperimentRun, values: Mapping[Line, np.ndarray], row: int, title: str) -> Table:
    heads = ("observed frames", *(line.title for line in values))
    rows = [
        (str(count), *(statistics.mean(psnr[row, i]).text() for psnr in values.values()))
        for i, count in enumerate(run.setup.counts)
    ]
    return Table(title, heads, tuple(rows))


def _findings(rows: Sequence[tuple[str, Finding]]) -> Table:
    heads = ("finding of the paper", "at", "verdict", "values", "statistic", "dB [95 %]")
    return Table(
        "What the paper found",
        heads,
        tuple(
            (f.claim, where, f.verdict, f.detail, f.statistic, f.interval.text())
            for where, f in rows
        ),
    )


def _panel(run: ExperimentRun, values: Mapping[Line, np.ndarray], title: str) -> Panel:
    curves = []
    for line, psnr in values.items():
        means = [statistics.mean(of_count) for of_count in psnr[0]]
        points = [(c, m.value) for c, m in zip(run.setup.counts, means, strict=True)]
        ends = [None if m.low is None or m.high is None else (m.low, m.high) for m in means]
        curves.append(Curve(points, line.title, ends))
    return Panel(curves, title, "observed frames", "PSNR of frame 1 (dB)")


def _reading() -> tuple[str, ...]:
    return (
        "Brackets and bars: 95 % intervals of a bootstrap over references, each with all of its "
        "seeds, widened for their small number.",
        "PSNR in RGB at 8 bits, of frame 1 whether it is observed or not; the mean of its dB over "
        "references and seeds.",
        "A finding holds, or does not, where the interval of its statistic lies on one side of 0.",
    )
