"""From a component's source to a checked folder on this machine. No torch."""

import logging
from pathlib import Path
from typing import Any

from framelift.files import read_json, sha256
from framelift.weights.hub import WeightsError, fetch, find_mirror, how_to_get
from framelift.weights.presets import BUNDLED, expand
from framelift.weights.schema import Component, Preset

PUBLISHED = Path(__file__).parent / "published"
WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")

log = logging.getLogger(__name__)


def component_folder(
    preset: Preset, name: str, *, network: bool, weights_dir: Path | None = None
) -> Path:
    """Folder of a component; downloads it if need be and checks the weights of a `network`.

    `weights_dir` holds mirrors of hub repositories as <org>--<name> or <org>/<name>.
    """
    component = preset.components[name]
    folder = _locate(preset, name, component, weights_dir) / component.subfolder
    if not folder.is_dir():
        raise WeightsError(f"The component {name} of {preset.name} is missing.", _remedy(component))
    if network:
        check_weights(folder, preset, name)
    return folder


def published_config(preset: Preset, name: str) -> dict[str, Any]:
    """Configuration of a published network, known without its weights."""
    try:
        return read_json(PUBLISHED / preset.name / name / "config.json")
    except OSError as error:
        raise WeightsError(
            f"The architecture of {name} of {preset.name} is known only from its weights.",
            "Load the preset instead.",
        ) from error


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


def _locate(preset: Preset, name: str, component: Component, weights_dir: Path | None) -> Path:
    if component.kind == "bundled":
        return BUNDLED / component.source.removeprefix("bundled:")
    if component.kind == "folder":
        return Path(preset.folder) / expand(component.source)
    if component.kind == "inline":
        raise WeightsError(f"The component {name} of {preset.name} has no source.", "Add one.")
    mirror = find_mirror(component.source, weights_dir, component.subfolder)
    if mirror is not None:
        return mirror
    if not component.revision:
        log.warning(
            "%s of preset %s is not pinned: %s may change on the hub.",
            name,
            preset.name,
            component.source,
        )
    prefix = f"{component.subfolder}/" if component.subfolder else ""
    wanted = [f"{prefix}*.{suffix}" for suffix in ("json", "txt", "model", "safetensors")]
    return fetch(component.source, component.revision, wanted)


def _remedy(component: Component) -> str:
    if component.kind == "bundled":
        return "The installation is incomplete or damaged: install framelift again."
    if component.kind == "folder":
        return "Check the path and the sha256 in the preset."
    return how_to_get(component.source)
