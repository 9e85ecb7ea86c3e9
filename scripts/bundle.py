"""Ship a trained pipeline: scripts/bundle.py RUN/pipeline PRESET

Writes the networks of a pipeline folder as float16 safetensors (a tiny codec in float32, in which
codecs always compute) to src/framelift/weights/bundled, where the preset says, and brings
the preset's sha256, sampler settings and scheduler up to date. A preset that is no more than
bundled:<name> takes the pipeline's transformer alone, for what is no method of its own.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from framelift.errors import FrameliftError, UsageError
from framelift.files import part_path, publish, read_json, sha256, write_json
from framelift.methods.load import load_pipeline
from framelift.methods.vdm_vsr.stdit import STDiT
from framelift.weights.presets import BUNDLED, FOLDER, Preset, list_presets, read_preset
from framelift.weights.resolve import WEIGHT_FILES

LIMIT = 16 * 2**20  # bytes of one file
TINY = 2**18  # values of a codec that is kept in float32, in which it computes


def bundle(source: Path, name: str) -> None:
    """Write the bundled components of preset `name` from the pipeline folder `source`."""
    preset = read_preset(FOLDER / f"{name}.toml")
    pipeline: Any = load_pipeline(source)
    toml = FOLDER / f"{preset.name}.toml"
    text = toml.read_text("utf-8")
    for part, component in preset.components.items():
        section = f"components.{part}"
        if component.kind == "bundled":
            network = getattr(pipeline, part)
            exact = part.endswith("vae") and sum(p.numel() for p in network.parameters()) < TINY
            dtype = torch.float32 if exact else torch.float16
            folder = BUNDLED / component.source.removeprefix("bundled:")
            digest = write_network(network, dtype, folder, preset)
            text = set_value(text, section, "sha256", digest)
        elif component.kind == "inline":
            for key in component.config:
                value = getattr(pipeline, part).config[key]
                text = set_value(text, f"{section}.config", key, value)
    if "timesteps" in preset.sampler:  # trained; the rest is chosen
        for key in ("timesteps", "steps"):
            text = set_value(text, "sampler", key, pipeline.config[key])
    if "residual_std" in preset.sampler:  # measured
        text = set_value(text, "sampler", "residual_std", pipeline.config["residual_std"])
    toml.write_text(text, "utf-8")


def bundle_network(source: Path, name: str) -> None:
    """Write the transformer of the pipeline folder `source` to the bundled folder `name`."""
    network = STDiT.from_pretrained(source / "transformer")
    write_network(network, torch.float16, BUNDLED / name, None)


def write_network(network: Any, dtype: torch.dtype, folder: Path, preset: Preset | None) -> str:
    """Save a network and return the hash of its weights."""
    part = part_path(folder)
    torch.nn.Module.to(network, dtype).save_pretrained(str(part), safe_serialization=True)
    try:
        config = read_json(part / "config.json")
        config.pop("_name_or_path", None)  # says where it was trained
        write_json(part / "config.json", config)
        weights = next(part / name for name in WEIGHT_FILES if (part / name).is_file())
        if not all(p.isfinite().all() for p in network.state_dict().values()):
            raise UsageError(f"{folder.name} has weights beyond {dtype}.", "Train it again.")
        if weights.stat().st_size > LIMIT:
            raise UsageError(
                f"{weights.stat().st_size / 2**20:.1f} MiB: {folder.name} is larger "
                f"than {LIMIT / 2**20:.0f} MiB.",
                "Train a smaller network.",
            )
        weights.chmod(0o644)  # safetensors writes files that only their owner may read
        digest = sha256(weights)
        refuse_to_change(folder.name, digest, preset)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return digest


def refuse_to_change(folder: str, digest: str, preset: Preset | None) -> None:
    """A component that other presets pin keeps its weights."""
    for other in list_presets():
        for component in other.components.values():
            pinned = component.source == f"bundled:{folder}" and component.sha256
            own = preset is not None and other.name == preset.name
            if pinned and pinned != digest and not own:
                raise UsageError(
                    f"{other.name} was trained on another {folder}.", "Give the new one a new name."
                )


def set_value(text: str, section: str, key: str, value: Any) -> str:
    """Replace `key` in a TOML `[section]`; JSON is valid TOML for numbers, text and lists."""
    start = re.search(rf"^\[{re.escape(section)}\]$", text, re.MULTILINE)
    if start is None:
        raise UsageError(f"The preset has no section [{section}].", "Add it.")
    end = re.compile(r"^\[", re.MULTILINE).search(text, start.end())
    stop = end.start() if end else len(text)
    line = f"{key} = {json.dumps(value)}"
    body, found = re.subn(
        rf"^{key} = .*$", lambda _: line, text[start.end() : stop], flags=re.MULTILINE
    )
    if not found:
        raise UsageError(f"[{section}] has no {key}.", "Add it, so that it can be filled in.")
    return text[: start.end()] + body + text[stop:]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        if sys.argv[2].startswith("bundled:"):
            bundle_network(Path(sys.argv[1]), sys.argv[2].removeprefix("bundled:"))
        else:
            bundle(Path(sys.argv[1]), sys.argv[2])
    except FrameliftError as error:
        sys.exit(str(error))
