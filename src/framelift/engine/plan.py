"""Everything that decides the output's bits, resolved before the first window.

What the settings leave to the machine (tile, window, precision, threads) is chosen here once and
frozen in the journal, so that a resumed run computes what an unbroken one would have computed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch

from framelift import __version__
from framelift.config import from_mapping, from_strings
from framelift.device import choose_threads
from framelift.engine import budget
from framelift.engine.job import Job
from framelift.engine.settings import UpscaleSettings
from framelift.engine.survey import Survey
from framelift.files import sha256
from framelift.methods.base import ClipInfo, VSRPipeline
from framelift.methods.registry import settings_class
from framelift.ops.windows import Window
from framelift.types import ColorFix, Limits


@dataclass(frozen=True)
class Plan:
    """A run, resolved; `identity` is its JSON form, which the journal compares."""

    windows: list[Window]
    scale: int
    tile: int
    tile_overlap: int
    threads: int
    seed: int
    color_fix: ColorFix
    method_settings: Any
    limits: Limits
    identity: dict[str, Any]


def resolve_plan(
    job: Job,
    facts: Survey,
    settings: UpscaleSettings,
    pipeline: VSRPipeline,
    previous: Mapping[str, Any] | None,
) -> Plan:
    """Resolve settings; those left open follow `previous`, an interrupted run's, if any."""
    device = pipeline.device
    method_settings = _method_settings(settings, pipeline)
    scale = pipeline.scale_of(method_settings)
    known = previous or {}
    info = ClipInfo(facts.frames, job.info.height, job.info.width, facts.cuts)
    limits = pipeline.limits_for(method_settings)
    multiple = limits.size_multiple
    threads = settings.threads or known.get("threads") or choose_threads(None)
    overlap = _first(settings.overlap, limits.overlap)
    window = (
        settings.window
        or known.get("window")
        or max(
            overlap + 1,
            budget.choose_window(
                limits.window,
                job.info.height * job.info.width * scale**2,
                device,
            ),
        )
    )
    tile = (
        settings.tile
        or known.get("tile")
        or limits.tile
        or budget.choose_tile(
            -(-info.height // multiple) * multiple,
            -(-info.width // multiple) * multiple,
            limits.bytes_per_pixel,
            multiple,
            device,
        )
    )
    color = limits.color_fix if settings.color_fix == "auto" else settings.color_fix
    tile_overlap = _first(settings.tile_overlap, limits.tile_overlap)
    identity = {
        "input": sha256(job.source) if job.source.exists() else str(job.source),
        "frames": [facts.first, facts.stop],
        "size": [job.height, job.width],
        "pipeline": type(pipeline).__name__,
        "preset": settings.preset or settings.method,
        "weights": fingerprint(pipeline),
        "method_settings": asdict(method_settings),
        "seed": settings.seed,
        "tile": tile,
        "tile_overlap": tile_overlap,
        "window": window,
        "overlap": overlap,
        "color_fix": color,
        "device": device.type,
        "dtype": str(pipeline.compute_dtype).removeprefix("torch."),
        "threads": threads,
        "encode": asdict(settings.encode),
        "input_options": [settings.deinterlace, settings.hdr, settings.rate],
        "versions": {
            "framelift": __version__,
            **{n: version(n) for n in ("torch", "diffusers", "av")},
        },
    }
    return Plan(
        pipeline.plan(info, window, overlap),
        scale,
        tile,
        tile_overlap,
        threads,
        settings.seed,
        color,
        method_settings,
        limits,
        json.loads(json.dumps(identity)),
    )


def fingerprint(pipeline: VSRPipeline) -> str:
    """SHA-256 over the configuration and every weight of a pipeline."""
    digest = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        config = getattr(component, "config", None)
        if config is not None:
            facts = config.to_dict() if hasattr(config, "to_dict") else dict(config)
            facts = {k: v for k, v in facts.items() if not k.startswith("_")}
            digest.update(f"{name} {json.dumps(facts, sort_keys=True, default=str)}".encode())
        if isinstance(component, torch.nn.Module):
            for key, tensor in component.state_dict().items():
                digest.update(f"{name}.{key} {tensor.dtype}".encode())
                content = tensor.detach().cpu().contiguous().flatten()
                digest.update(content.view(torch.uint8).numpy().data)
    own = {k: v for k, v in pipeline.config.items() if not k.startswith("_")}
    digest.update(json.dumps(own, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _method_settings(settings: UpscaleSettings, pipeline: VSRPipeline) -> Any:
    kind = settings_class(pipeline)
    content = from_strings(kind, settings.options, "--options")
    if settings.steps is not None:
        content["steps"] = settings.steps
    return from_mapping(kind, content, "--options")


def _first(value: int | None, default: int) -> int:
    return default if value is None else value
