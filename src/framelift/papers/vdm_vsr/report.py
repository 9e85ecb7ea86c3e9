"""What a reader must know of an experiment's numbers, in sentences and in the record."""

from dataclasses import asdict
from typing import Any

from framelift.papers.reproduce import STAND_IN
from framelift.papers.vdm_vsr.samples import ExperimentRun
from framelift.papers.vdm_vsr.setup import Experiment, read_setup

SIZES = {
    "references": "references: {}",
    "seeds": "noise seeds: {}",
    "counts": "observed frames: {}",
    "scales": "scales: {}",
    "sigmas": "σ_h: {}",
}


def notes(run: ExperimentRun) -> list[str]:
    """Data, sizes, what is reduced or changed, the item's own notes."""
    request, item = run.request, run.request.item
    found = [run.data]
    if STAND_IN in request.roots:
        found.append("Clips that stand in are others than the paper's: compare methods only.")
    steps = ""
    if run.prior.preset:
        precision = str(run.prior.dtype).removeprefix("torch.")
        steps = f"; steps: {run.steps}; on {run.prior.device.type} in {precision}"
    found.append(f"Computed: {_sizes(run.setup)}{steps}.")
    if not request.settings.full and item.reduced.setup:
        whole, sampler = read_setup(item, True, ())
        changed = f"; steps: {sampler.steps}" if sampler.steps and run.prior.preset else ""
        found.append(f"Reduced; with --full: {_sizes(whole)}{changed}.")
    if request.settings.options:
        found.append(f"Changed by --options: {', '.join(request.settings.options)}.")
    seen = "true video" if run.setup.observe == "truth" else "autoencoder's reconstruction"
    found.append(
        f"Observed is the {seen} with noise of deviation {run.setup.sensor_noise:g} in [-1, 1]; "
        "a seed changes this noise and the sampler's."
    )
    return found + ([item.notes] if item.notes else [])


def record(run: ExperimentRun) -> dict[str, Any]:
    """For results.json."""
    return {
        "setup": asdict(run.setup),
        "method": asdict(run.settings) | {"steps": run.steps if run.prior.preset else None},
        "decided_by": run.identity,
        "clips": [reference.name for reference in run.references],
        "computed": run.computed,
    }


def _sizes(setup: Experiment) -> str:
    words = []
    for name, phrase in SIZES.items():
        value = getattr(setup, name)
        if value:
            parts = value if isinstance(value, tuple) else (value,)
            words.append(phrase.format(", ".join(f"{part:g}" for part in parts)))
    return "; ".join(words)
