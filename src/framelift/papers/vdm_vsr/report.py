"""What a reader must know of an experiment's numbers, in sentences and in the record."""

from dataclasses import asdict
from typing import Any

from framelift.papers.reproduce import STAND_IN
from framelift.papers.vdm_vsr.samples import Bench
from framelift.papers.vdm_vsr.setup import Experiment, read_setup

SIZES = {
    "references": "references: {}",
    "seeds": "noise seeds: {}",
    "counts": "observed frames: {}",
    "scales": "scales: {}",
    "sigmas": "σ_h: {}",
}


def notes(bench: Bench) -> list[str]:
    """Data, sizes, what is reduced or changed, the item's own notes."""
    request, item = bench.request, bench.request.item
    found = [bench.data]
    if STAND_IN in request.roots:
        found.append("Clips that stand in are others than the paper's: compare methods only.")
    steps = ""
    if bench.prior.preset:
        precision = str(bench.prior.dtype).removeprefix("torch.")
        steps = f"; steps: {bench.steps}; on {bench.prior.device.type} in {precision}"
    found.append(f"Computed: {_sizes(bench.setup)}{steps}.")
    if not request.settings.full and item.reduced.setup:
        whole, sampler = read_setup(item, True, ())
        changed = f"; steps: {sampler.steps}" if sampler.steps and bench.prior.preset else ""
        found.append(f"Reduced; with --full: {_sizes(whole)}{changed}.")
    if request.settings.options:
        found.append(f"Changed by --options: {', '.join(request.settings.options)}.")
    seen = "true video" if bench.setup.observe == "truth" else "autoencoder's reconstruction"
    found.append(
        f"Observed is the {seen} with noise of deviation {bench.setup.sensor_noise:g} in [-1, 1]; "
        "a seed changes this noise and the sampler's."
    )
    return found + ([item.notes] if item.notes else [])


def record(bench: Bench) -> dict[str, Any]:
    """For results.json."""
    return {
        "setup": asdict(bench.setup),
        "method": asdict(bench.settings) | {"steps": bench.steps if bench.prior.preset else None},
        "decided_by": bench.identity,
        "clips": [reference.name for reference in bench.references],
        "computed": bench.computed,
    }


def _sizes(setup: Experiment) -> str:
    words = []
    for name, phrase in SIZES.items():
        value = getattr(setup, name)
        if value:
            parts = value if isinstance(value, tuple) else (value,)
            words.append(phrase.format(", ".join(f"{part:g}" for part in parts)))
    return "; ".join(words)
