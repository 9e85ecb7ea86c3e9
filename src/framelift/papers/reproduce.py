"""A table or figure of a paper again: published values beside ours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from framelift.datasets.catalog import find_spec
from framelift.errors import InputError, UsageError
from framelift.evaluation.candidates import BASELINES, Candidate, make_candidate
from framelift.evaluation.evaluate import base_settings, evaluate
from framelift.evaluation.report import Results
from framelift.evaluation.settings import EvaluateSettings, ReproduceSettings
from framelift.metrics.registry import METRICS
from framelift.papers.items import Data, Item
from framelift.papers.reproduction import Block, Reproduction
from framelift.types import OnProgress
from framelift.video.faults import make_folder
from framelift.weights.presets import load_preset

STAND_IN = "folder"


@dataclass(frozen=True)
class Request:
    """What an item is made from; `roots` are the datasets that were named, `output` is there."""

    item: Item
    settings: ReproduceSettings
    roots: Mapping[str, Path]
    output: Path
    on_progress: OnProgress
    should_stop: Callable[[], bool]


def reproduce(
    item: Item,
    settings: ReproduceSettings,
    output: Path,
    *,
    on_progress: OnProgress = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Reproduction:
    """Make an item and write it to the folder `output`.

    A stop raises StoppedError, and the same call later continues.
    """
    roots = settings.roots()
    for name in roots:
        find_spec(name)
    item = _only(item, settings.metrics)
    _check_options(item, settings)
    request = Request(item, settings, roots, output, on_progress, should_stop)
    make = make_table if item.kind == "table" else _function(item)
    _check_data(request)
    make_folder(output)
    made = make(request)
    made.save(output)
    return made


def _only(item: Item, metrics: Sequence[str]) -> Item:
    """The item with the metrics asked for, all if none is."""
    if not metrics:
        return item
    for name in metrics:
        if name not in item.metrics:
            raise UsageError(
                f"{item.name} has no column {name!r}.", f"It has {', '.join(item.metrics)}."
            )
    return replace(item, metrics=tuple(metrics))


def _check_options(item: Item, settings: ReproduceSettings) -> None:
    for name in ("preset", "options"):
        if getattr(settings, name) and not item.full.setup:
            raise UsageError(
                f"{item.name} takes no --{name}.",
                "framelift evaluate compares presets and settings of your choice.",
            )


def make_table(request: Request) -> Reproduction:
    """Run the rows that can be run, on the datasets that are there."""
    item, settings = request.item, request.settings
    size = item.full if settings.full else item.reduced
    candidates, notes = _candidates(request)
    blocks, record = [], {}
    for data in (*item.data, *_stand_in(request)):
        title = find_spec(data.name).title
        results = _run(request, data, candidates) if data.name in request.roots else None
        if data.name == STAND_IN:
            title = f"{request.roots[STAND_IN].name}, standing in"
            notes.append("Clips that stand in are others than the paper's: compare methods only.")
        if results is None:
            blocks.append(Block(data.name, f"{title}: not given"))
            continue
        ours = {c.label: {m: results.mean(c.label, m) for m in results.metrics} for c in candidates}
        ours |= {name: dict(truth) for name, truth in results.truth_means().items()}
        blocks.append(Block(data.name, title, ours, tuple(results.record["facts"])))
        record[data.name] = {"values": results.values, **results.record}
        missing = [m for m in item.metrics if m not in results.metrics]
        notes += [f"{METRICS[m].title} could not be computed here." for m in missing]
    if size != item.full:
        notes.append(
            f"Reduced: centre crops of {size.crop}², first {size.frames} frames of a clip; --full "
            "for the paper's protocol."
        )
    notes += [item.notes] if item.notes else []
    unique = tuple(dict.fromkeys(notes))
    return Reproduction(item, tuple(blocks), notes=unique, record={"evaluations": record})


def _run(request: Request, data: Data, candidates: list[Candidate]) -> Results:
    item, settings = request.item, request.settings
    size = item.full if settings.full else item.reduced
    evaluation = EvaluateSettings(
        dataset=data.name,
        root=request.roots[data.name],
        split=data.split,
        clips=data.clips,
        methods=tuple(c.name for c in candidates),
        recipe=data.recipe,
        crop=size.crop,
        frames=size.frames,
        protocol=item.protocol,
        seed=settings.seed,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        weights_dir=settings.weights_dir,
    )
    return evaluate(
        evaluation,
        request.output / data.name,
        candidates=candidates,
        metrics=item.metrics,
        on_progress=request.on_progress,
        should_stop=request.should_stop,
    )


def _candidates(request: Request) -> tuple[list[Candidate], list[str]]:
    """The rows that can be run, and notes on those that cannot."""
    base = base_settings(request.settings)
    found, notes = [], []
    for row in request.item.rows:
        if not row.method:
            continue
        if row.method not in BASELINES and not _exists(row.method):
            notes.append(f"{row.title}: this version has no method {row.method!r}.")
            continue
        found.append(make_candidate(row.method, base, row.settings, row.title))
    if not found:
        raise UsageError(
            f"No row of {request.item.name} can be run with this version.",
            "Upgrade framelift, or choose another item: framelift reproduce --list",
        )
    return found, notes


def _exists(method: str) -> bool:
    try:
        load_preset(method)
    except UsageError:
        return False
    return True


def _stand_in(request: Request) -> list[Data]:
    """Any clips in place of the item's, degraded in the same way."""
    names = {data.name for data in request.item.data}
    if STAND_IN not in request.roots or STAND_IN in names:
        return []
    return [Data(STAND_IN, recipe=request.item.data[0].recipe or "bi")]


def _check_data(request: Request) -> None:
    """Refuse without any of the item's data, saying what to get and how to name it."""
    names = [data.name for data in request.item.data]
    if not names or any(name in request.roots for name in (*names, STAND_IN)):
        return
    where = "\n".join(f"  {data.name}: {_describe(data)}" for data in request.item.data)
    command = f"framelift reproduce {request.item.name} --data {names[0]}=FOLDER"
    raise InputError(
        f"{request.item.name} needs data that is not here:\n{where}",
        f"Then run: {command}\nAny folder of clips can stand in: --data {STAND_IN}=FOLDER",
    )


def _describe(data: Data) -> str:
    spec = find_spec(data.name)
    layouts = spec.splits[data.split or next(iter(spec.splits))].layouts
    place = f", laid out as {' or '.join(dict.fromkeys(map(str, layouts)))}" if layouts else ""
    return f"{spec.title}, from {spec.home} ({spec.licence}){place}"


def _function(item: Item) -> Callable[[Request], Reproduction]:
    module, _, name = item.function.partition(":")
    return getattr(import_module(module), name)
