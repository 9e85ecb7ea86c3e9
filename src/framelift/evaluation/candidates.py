"""What is compared: a baseline, or a preset with settings, from a word of the command line."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from framelift.config import from_mapping, from_strings
from framelift.device import choose_device, choose_dtype
from framelift.engine.settings import UpscaleSettings
from framelift.errors import UsageError
from framelift.evaluation.cache import code_digest, versions
from framelift.files import sha256
from framelift.methods.registry import method_of
from framelift.weights.presets import BUNDLED, Preset, list_presets, load_preset, suggest

BASELINES = ("bicubic", "lanczos", "nearest")
ENGINE = ("seed", "tile", "tile_overlap", "window", "overlap", "color_fix", "dtype")
"""Settings of the engine that may follow a method's name; all others are the method's own."""


@dataclass(frozen=True)
class Candidate:
    """A row of the table. `upscale` is None for a baseline; `identity` decides its frames.

    `method` are the settings of the preset's method.
    """

    label: str
    name: str
    upscale: UpscaleSettings | None = None
    method: Any = None
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The label as a part of a file name."""
        return slug(self.label)


def slug(text: str) -> str:
    """A short file name without dots or separators; letters of any script stay."""
    return re.sub(r"[^\w-]+", "_", text).strip("_")[-50:] or "clip"


def parse_candidate(word: str, base: UpscaleSettings) -> Candidate:
    """Read `name` or `name:key=value,key=value`; whatever is unknown raises UsageError."""
    match = re.fullmatch(r"(?P<name>.+?)(:(?P<settings>[\w-]+=.*))?", word, re.DOTALL)
    if match is None:
        raise UsageError("A method's name is empty.", "Name a preset, as in image-ldm.")
    name, words = match["name"], (match["settings"] or "").split(",")
    if name in BASELINES or not match["settings"]:
        return make_candidate(name, base, {"": word} if match["settings"] else {}, word)
    kind = method_of(_find_preset(name)).settings_class()
    keys = [w.partition("=")[0].strip().replace("-", "_") for w in words]
    ours = [w for w, key in zip(words, keys, strict=True) if key in ENGINE]
    theirs = [w for w, key in zip(words, keys, strict=True) if key not in ENGINE]
    content = from_strings(UpscaleSettings, ours, word) | from_strings(kind, theirs, word)
    return make_candidate(name, base, content, word)


def make_candidate(
    name: str, base: UpscaleSettings, content: Mapping[str, Any], label: str
) -> Candidate:
    """A baseline, or a preset with settings of the engine (see `ENGINE`) and of its method."""
    if name in BASELINES:
        if content:
            raise UsageError(f"{name} has no settings.", f"Write just {name}.")
        identity = {
            "baseline": name,
            "code": code_digest(),
            "versions": versions("torch", "opencv-python-headless"),
        }
        return Candidate(label, name, identity=identity)
    preset = _find_preset(name)
    ours = {key: value for key, value in content.items() if key in ENGINE}
    theirs = {key: value for key, value in content.items() if key not in ENGINE}
    read = from_mapping(UpscaleSettings, ours, label)
    settings = replace(base, preset=name, **{key: getattr(read, key) for key in ours})
    method = from_mapping(method_of(preset).settings_class(), theirs, label)
    return Candidate(label, name, settings, method, _identity(preset, settings, method))


def _find_preset(name: str) -> Preset:
    try:
        return load_preset(name)
    except UsageError as error:
        if Path(name).expanduser().exists():
            raise
        known = (*BASELINES, *(preset.name for preset in list_presets()))
        raise UsageError(f"There is no method {name!r}.", suggest(name, known)) from error


def _identity(preset: Preset, settings: UpscaleSettings, method: Any) -> dict[str, Any]:
    """Everything that decides the frames: components by hash, sampler, settings, code, versions."""
    chosen = asdict(settings)
    device = choose_device(settings.device)
    return {
        **preset_identity(preset, settings.weights_dir),
        "limits": preset.limits,
        "settings": {name: chosen[name] for name in (*ENGINE, "scale", "height")}
        | {"device": device.type, "dtype": str(choose_dtype(settings.dtype, device))},
        "method_settings": asdict(method),
        "versions": versions("torch", "diffusers", "transformers"),
    }


def preset_identity(preset: Preset, weights_dir: Path | None) -> dict[str, Any]:
    """Method, sampler and components of a preset, with hashes of the weights and of the code."""
    method = method_of(preset)
    classes = (method.pipeline_class(), method.settings_class())
    return {
        "method": method.name,
        "code": code_digest(*(kind.__module__ for kind in classes)),
        "sampler": preset.sampler,
        "components": {
            name: [component.type, component.config, _weights(preset, name, weights_dir)]
            for name, component in sorted(preset.components.items())
        },
    }


def _weights(preset: Preset, name: str, weights_dir: Path | None) -> str:
    """What pins a component: its hash, its files' hash, or a commit on the hub."""
    component = preset.components[name]
    if component.kind == "inline":
        return ""
    if component.kind == "bundled":
        return sha256(BUNDLED / component.source.removeprefix("bundled:"))
    if component.kind == "folder":
        return sha256(
            Path(preset.folder) / Path(component.source).expanduser() / component.subfolder
        )
    pin = f"{component.source}/{component.subfolder}@{component.revision} {component.sha256}"
    if weights_dir is not None:
        for mirror in (component.source.replace("/", "--"), component.source):
            if (folder := weights_dir / mirror / component.subfolder).is_dir():
                return f"{pin} {sha256(folder)}"
    return pin
