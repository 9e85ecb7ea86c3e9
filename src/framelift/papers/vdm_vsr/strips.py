"""Figures 2, 4, 6 and 7: frames of a clip side by side."""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from framelift.errors import UsageError
from framelift.evaluation.pictures import below, beside, labelled, zoom
from framelift.images import write_picture
from framelift.ops.interpolate import interpolate
from framelift.papers.reproduce import Request
from framelift.papers.reproduction import Reproduction, Table
from framelift.papers.vdm_vsr.report import notes, record
from framelift.papers.vdm_vsr.samples import ExperimentRun, Point, Sample, rgb
from framelift.papers.vdm_vsr.setup import observed

ZOOM, MARK, OBSERVED = 2, 4, (30, 150, 60)


def more_frames(request: Request) -> Reproduction:
    """Figure 2: a sequence, its decimated version, and what is made of more and more frames."""
    run = ExperimentRun(request)
    setup, frames = run.setup, run.shape[0]
    scale, sigma_h = setup.scales[0], setup.sigmas[0]
    pictures, rows = [], []
    for number, reference in enumerate(run.references):
        draw = (request.settings.seed, number)
        points = [
            Point(number, 0, scale, sigma_h, observed(setup.orders[0], count, frames, draw))
            for count in setup.counts
        ]
        samples = run(points, keep=True)
        pictures.append(_strip(f"{reference.name}: reference", reference.frames))
        pictures.append(_strip(f"x{scale}", _low(run.observe(points[-1]), scale)))
        for count, point in zip(setup.counts, points, strict=True):
            sample = samples[point]
            title = f"{count} observed, PSNR of frame 1: {sample.value('psnr', 0):.2f} dB"
            pictures.append(_strip(title, _frames(sample), point.kept))
            numbers = (sample.value("psnr", 0), sample.value("psnr"))
            rows.append((str(count), reference.name, *(f"{n:.2f}" for n in numbers)))
    heads = ("observed frames", "clip", "PSNR of frame 1 (dB)", "PSNR of the clip (dB)")
    return _made(run, below(pictures), Table("PSNR of the pictures", heads, tuple(rows)))


def observations(request: Request) -> Reproduction:
    """Figure 4: a sequence, and what an aliased and a blurred decimation leave of it."""
    run = ExperimentRun(request)
    (scale,), pictures = run.setup.scales, []
    for number, reference in enumerate(run.references):
        pictures.append(_strip(f"{reference.name}: reference", reference.frames))
        for sigma_h in run.setup.sigmas:
            y = run.observe(Point(number, 0, scale, sigma_h, ()))
            pictures.append(_strip(f"x{scale}, sigma_h = {sigma_h:g}", _low(y, scale)))
    return _made(run, below(pictures))


def methods(request: Request) -> Reproduction:
    """Figure 6: bicubic, ours and the truth in one frame of several clips."""
    run = ExperimentRun(request)
    shown = _shown(run)
    rows = []
    for number, point, sample in _restored(run):
        reference, y = run.references[number], run.observe(point)
        panels = {
            "bicubic": rgb(interpolate(y, point.scale)),
            "VDM-VSR": _frames(sample),
            "truth": reference.frames,
        }
        rows.append(
            beside([labelled(t, zoom(p[i], ZOOM)) for i in shown for t, p in panels.items()])
        )
    return _made(run, below(rows))


def clips(request: Request) -> Reproduction:
    """Figure 7: some frames of clips, observed, restored and true."""
    run = ExperimentRun(request)
    shown = _shown(run)
    pictures = []
    for number, point, sample in _restored(run):
        reference = run.references[number]
        low = _low(run.observe(point), point.scale)
        title = f"VDM-VSR, {sample.value('psnr'):.2f} dB"
        for text, frames in ((f"x{point.scale}", low), (title, _frames(sample))):
            pictures.append(_strip(text, [frames[i] for i in shown]))
        pictures.append(_strip(f"{reference.name}: truth", reference.frames[list(shown)]))
    return _made(run, below(pictures))


def _restored(run: ExperimentRun) -> Iterable[tuple[int, Point, Sample]]:
    """Every reference, all of it observed, restored once."""
    (scale,), (sigma_h,) = run.setup.scales, run.setup.sigmas
    kept = tuple(range(run.shape[0]))
    points = [Point(n, 0, scale, sigma_h, kept) for n in range(len(run.references))]
    samples = run(points, keep=True)
    return [(point.reference, point, samples[point]) for point in points]


def _shown(run: ExperimentRun) -> list[int]:
    """Indices of the frames to show; those that the prior's clips do not have are left out."""
    found = [n - 1 for n in run.setup.shown if n <= run.shape[0]]
    if not found:
        raise UsageError(
            f"Clips of {run.shape[0]} frames have none of shown={run.setup.shown}.",
            "Name frames from 1, as in --options shown=1,2",
        )
    return found


def _frames(sample: Sample) -> np.ndarray:
    assert sample.frames is not None
    return sample.frames


def _low(y: Tensor, scale: int) -> list[np.ndarray]:
    """Observed frames, each sample as a square of the size that it stands for."""
    return [zoom(frame, scale) for frame in rgb(y)]


def _strip(
    title: str, frames: Sequence[np.ndarray] | np.ndarray, kept: Sequence[int] = ()
) -> np.ndarray:
    panels = []
    for index, frame in enumerate(frames):
        large = zoom(frame, ZOOM)
        mark = np.full((MARK, large.shape[1], 3), OBSERVED if index in kept else 255, np.uint8)
        panels.append(np.concatenate([large, mark]))
    return labelled(title, beside(panels))


def _made(run: ExperimentRun, picture: np.ndarray, *tables: Table) -> Reproduction:
    request = run.request
    path = request.output / f"{request.item.name.split('/')[-1]}.png"
    write_picture(path, picture)
    return Reproduction(
        request.item,
        tables=tables,
        files=(path,),
        notes=tuple(notes(run)),
        record=record(run),
    )
