"""Everything that decides the output's bits, resolved before the first window.

What the settings leave to the machine (tile, window, precision, threads) is chosen here once and
frozen in the journal, so that a resumed run computes what an unbroken one would have computed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from framelift import __version__
from framelift.device import choose_threads, free_memory
from framelift.engine.job import Job
from framelift.engine.settings import UpscaleSettings
from framelift.engine.survey import Survey
from framelift.errors import NoRoomError
from framelift.files import free_bytes, sha256
from framelift.methods.base import ClipInfo, VSRPipeline, Watcher
from framelift.ops.windows import Window
from framelift.types import ColorFix, EncodeSettings, Limits
from framelift.video.sequence import find_images

TILE_SHARE = 0.5  # of free memory that a tile's activations may take
WINDOW_SHARE = 0.2  # of free memory that the frames of the windows in flight may take
FRAMES_IN_FLIGHT = 4  # float32 copies of an output frame: computed, written, two temporaries
LOSSY_BYTES_PER_PIXEL, LOSSLESS_BYTES_PER_PIXEL = 0.05, 1.5


@dataclass(frozen=True)
class Plan:
    """A run, resolved: all that computing a window needs beside its frames and the pipeline.

    `first` is the number of the clip's first frame in its video, `identity` the plan's JSON form,
    which the journal compares.
    """

    windows: list[Window]
    first: int
    frames: int
    scale: int
    tile: int
    tile_overlap: int
    threads: int
    seed: int
    color_fix: ColorFix
    method: Any
    limits: Limits
    identity: dict[str, Any]

    def shared_after(self, index: int) -> int:
        """Frames that window `index` shares with the next one."""
        return self.windows[index + 1].overlap if index + 1 < len(self.windows) else 0


def resolve_plan(
    job: Job,
    facts: Survey,
    settings: UpscaleSettings,
    pipeline: VSRPipeline,
    method: Any,
    watcher: Watcher | None = None,
    previous: Mapping[str, Any] | None = None,
    memory_share: float = 1.0,
) -> Plan:
    """Resolve settings; those left open follow `previous`, an interrupted run's, if any.

    `method` are the settings of the pipeline's method, `watcher` what has seen the survey;
    `memory_share` is the part of the free memory that may be used.
    """
    known = previous or {}
    scale, limits = pipeline.scale_of(method), pipeline.limits_for(method)
    height, width = job.info.height, job.info.width
    free = free_memory(pipeline.device) * memory_share
    threads = settings.threads or known.get("threads") or choose_threads(None)
    overlap = limits.overlap if settings.overlap is None else settings.overlap
    window = settings.window or known.get("window")
    if not window:
        fits = choose_window(limits.window, height * width * scale**2, free)
        window = max(overlap + 1, fits)
    tile = settings.tile or known.get("tile") or limits.tile
    tile = tile or choose_tile(height, width, limits, free)
    shared = limits.tile_overlap if settings.tile_overlap is None else settings.tile_overlap
    color = limits.color_fix if settings.color_fix == "auto" else settings.color_fix
    info = ClipInfo(facts.frames, height, width, facts.cuts, facts.first, watcher)
    identity = {
        "input": input_digest(job.source),
        "frames": [facts.first, facts.stop],
        "size": [job.height, job.width],
        "pipeline": type(pipeline).__name__,
        "weights": fingerprint(pipeline),
        "method_settings": asdict(method),
        "seed": settings.seed,
        "tile": tile,
        "tile_overlap": shared,
        "window": window,
        "overlap": overlap,
        "color_fix": color,
        "device": pipeline.device.type,
        "dtype": str(pipeline.compute_dtype).removeprefix("torch."),
        "threads": threads,
        "encode": asdict(job.encode),
        "input_options": [settings.deinterlace, settings.hdr, settings.rate],
        "versions": {
            "framelift": __version__,
            **{n: version(n) for n in ("torch", "diffusers", "av")},
        },
    }
    return Plan(
        windows=pipeline.plan(info, window, overlap),
        first=facts.first,
        frames=facts.frames,
        scale=scale,
        tile=tile,
        tile_overlap=shared,
        threads=threads,
        seed=settings.seed,
        color_fix=color,
        method=method,
        limits=limits,
        identity=json.loads(json.dumps(identity)),
    )


def input_digest(source: Path) -> str:
    """SHA-256 of a video's bytes, or of the names and bytes of a sequence's images."""
    images = find_images(source)
    if images is None:
        return sha256(source)
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name!r} {sha256(image)}\n".encode())
    return digest.hexdigest()


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


def choose_tile(height: int, width: int, limits: Limits, free: float) -> int:
    """Largest tile side (LR pixels) whose activations fit into `free` bytes, or the whole frame."""
    multiple = limits.size_multiple
    height, width = (-(-side // multiple) * multiple for side in (height, width))
    pixels = free * TILE_SHARE / limits.bytes_per_pixel
    if height * width <= pixels:
        return max(height, width)
    side = int(pixels**0.5) // multiple * multiple
    if side < 2 * multiple:
        raise NoRoomError(
            "Too little memory is free for even the smallest tile.",
            "Close other programs, or choose a smaller preset.",
        )
    return side


def choose_window(wanted: int, output_pixels: int, free: float) -> int:
    """`wanted` frames, or fewer if their float32 output would not fit into `free` bytes."""
    frame = output_pixels * 3 * 4 * FRAMES_IN_FLIGHT
    return max(1, min(wanted, int(free * WINDOW_SHARE / frame)))


def check_disk(folder: Path, frames: int, pixels: int, encode: EncodeSettings) -> None:
    """Refuse a run whose output, held twice while it is joined, will not fit on the disk."""
    lossless = encode.lossless or encode.codec in ("ffv1", "prores")
    each = pixels * (LOSSLESS_BYTES_PER_PIXEL if lossless else LOSSY_BYTES_PER_PIXEL)
    need, free = int(2 * frames * each), free_bytes(folder)
    if need > free:
        raise NoRoomError(
            f"The output needs about {need / 1e9:.1f} GB; {folder} has {free / 1e9:.1f} GB free.",
            "Free some space, or write to another disk with --output.",
        )
