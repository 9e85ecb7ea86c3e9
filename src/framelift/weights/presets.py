"""Presets: which components make a pipeline, where each comes from, how it samples. No torch.

A preset is a TOML file, shipped in `weights/presets` or the user's own; a folder in hub format
(`model_index.json` beside one folder per component) is read as one.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from framelift.config import from_mapping, read_toml, suggest
from framelift.errors import Exit, FrameliftError, InputError, UsageError
from framelift.files import read_json, sha256
from framelift.types import Limits

FOLDER = Path(__file__).parent / "presets"
BUNDLED = Path(__file__).parent / "bundled"
WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
Source = Literal["inline", "bundled", "hub", "folder"]


class WeightsError(FrameliftError):
    """Weights are missing, damaged, or not those that the preset names."""

    exit_code = Exit.BAD_INPUT


@dataclass(frozen=True)
class Component:
    """One part of a pipeline.

    `source` is "bundled:<folder>", a hub id "org/name", a path that starts with "." or "/", or
    empty for a scheduler that is made from `config`.
    """

    type: str
    """Import path of the class, in diffusers, transformers or framelift."""
    source: str = ""
    subfolder: str = ""
    revision: str = ""
    """Commit of a hub repository, 40 hexadecimal digits. Empty: not pinned, loading warns."""
    sha256: str = ""
    """Hash of the safetensors file; without it a bundled network does not load."""
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Source:
        """Which kind of place `source` names."""
        if not self.source:
            return "inline"
        if self.source.startswith("bundled:"):
            return "bundled"
        return "folder" if self.source.startswith((".", "/", "~")) else "hub"


@dataclass(frozen=True)
class Preset:
    """A pipeline that can be loaded by name."""

    name: str
    kind: Literal["bundled", "published", "local"]
    """Weights inside the package, the original ones on the hub, or the user's own."""
    title: str
    licence: str
    """Terms of the weights."""
    components: dict[str, Component]
    licence_url: str = ""
    method: str = ""
    """Name of the method, see methods/registry.py."""
    description: str = ""
    training: str = ""
    """How the weights were trained."""
    scale: int = 4
    sampler: dict[str, Any] = field(default_factory=dict)
    """Arguments of the pipeline besides its components."""
    limits: dict[str, Any] = field(default_factory=dict)
    """Fields of `framelift.types.Limits` in which it differs from its method."""
    default: bool = False
    """Whether this preset is used when none is named; exactly one shipped preset is."""
    pipeline: str = ""
    """Pipeline class that a folder's model_index.json names, instead of a method."""
    folder: str = ""
    """Where relative sources start."""

    @property
    def unpinned(self) -> tuple[str, ...]:
        """Components from the hub without a commit."""
        return tuple(n for n, c in self.components.items() if c.kind == "hub" and not c.revision)


def list_presets() -> list[Preset]:
    """All shipped presets, the default first, then by name."""
    presets = [_read(path) for path in FOLDER.glob("*.toml")]
    return sorted(presets, key=lambda p: (not p.default, p.name))


def load_preset(name: str | Path | None = None) -> Preset:
    """A preset by name (None: the default), by its TOML file, or a folder in hub format.

    A method's name is also that of its bundled preset; underscores count as hyphens.
    """
    if name is None:
        return list_presets()[0]
    shipped = {path.stem: path for path in FOLDER.glob("*.toml")}
    plain = str(name).replace("_", "-")
    if plain in shipped:
        return _read(shipped[plain])
    path = Path(name).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if path.suffix == ".toml" and path.is_file():
        return _read(path)
    problem = f"There is no preset, preset file or pipeline folder {str(name)!r}."
    raise UsageError(problem, suggest(plain, shipped))


def check_bundled(preset: Preset) -> str:
    """What is wrong with a preset's bundled weights, or an empty string."""
    for name, component in preset.components.items():
        if component.kind == "bundled":
            try:
                check_weights(BUNDLED / component.source.removeprefix("bundled:"), preset, name)
            except WeightsError as error:
                return str(error)
    return ""


def check_weights(folder: Path, preset: Preset, name: str) -> None:
    """Refuse pickled, missing and changed weights of a network."""
    component = preset.components[name]
    files = [folder / f for f in WEIGHT_FILES if (folder / f).is_file()]
    if component.kind == "bundled" and not (files and component.sha256):
        raise WeightsError(
            f"The bundled weights of {name} of {preset.name} are missing or not pinned.",
            "Install framelift again; in a checkout, run scripts/bundle.py.",
        )
    if not files:
        if any(folder.glob("*.safetensors.index.json")) and not component.sha256:
            return
        raise WeightsError(
            f"The component {name} of {preset.name} has no safetensors file in {folder}.",
            "Pickled weights are not loaded; save them again with safe_serialization=True.",
        )
    if component.sha256 and sha256(files[0]) != component.sha256:
        raise WeightsError(
            f"The weights of {name} in {files[0]} are not those that {preset.name} names.",
            "The file is damaged or another version: fetch it again, or correct the sha256.",
        )


def _read(path: Path) -> Preset:
    content = read_toml(path, "preset")
    preset = from_mapping(Preset, content, str(path))
    if not isinstance(content["components"], dict):
        raise UsageError(f"{path}, components must be a table.", "Write [components.unet] etc.")
    components = {
        name: from_mapping(Component, table, f"{path}, components.{name}")
        for name, table in content["components"].items()
    }
    for name, component in components.items():
        _check(component, f"{path}, components.{name}")
    from_mapping(Limits, preset.limits, f"{path}, limits")
    return replace(preset, components=components, folder=str(path.resolve().parent))


def _check(component: Component, where: str) -> None:
    source, revision = component.source, component.revision
    if component.kind == "bundled" and not re.fullmatch(r"bundled:[a-z0-9][a-z0-9-]*", source):
        raise UsageError(f"{where} has the source {source!r}.", "Write it as bundled:<name>.")
    if component.kind == "hub" and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source):
        raise UsageError(
            f"{where} has the source {source!r}.",
            "Write a hub id as org/name, a path as ./folder or /folder.",
        )
    if revision and not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UsageError(
            f"{where} names the revision {revision!r}, which may change its content.",
            "Name a commit by its 40 hexadecimal digits.",
        )
    if Path(component.subfolder).is_absolute() or ".." in Path(component.subfolder).parts:
        raise UsageError(f"{where} leaves its folder.", "Name a folder inside the repository.")


def _read_folder(path: Path) -> Preset:
    """A folder in hub format, as `save_pretrained` of our pipelines or of diffusers' writes it."""
    try:
        index = read_json(path / "model_index.json")
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a pipeline folder: its model_index.json cannot be read.",
            "Name a folder that save_pretrained has written, or a preset.",
        ) from error
    components, sampler = {}, {}
    for key, value in index.items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
            source = str(path.resolve())
            components[key] = Component(".".join(value), source, subfolder=key)
        elif not key.startswith("_") and value != [None, None]:
            sampler[key] = value
    return Preset(
        name=str(path),
        kind="local",
        title=f"Pipeline in {path}",
        licence="unknown",
        components=components,
        sampler=sampler,
        pipeline=name if isinstance(name, str) else "",
        folder=str(path.resolve()),
    )
