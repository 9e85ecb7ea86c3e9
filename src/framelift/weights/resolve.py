"""From a component's source to a checked folder on this machine. No torch."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from framelift.files import read_json
from framelift.weights.presets import BUNDLED, Component, Preset, WeightsError, check_weights

PUBLISHED = Path(__file__).parent / "published"

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


def _locate(preset: Preset, name: str, component: Component, weights_dir: Path | None) -> Path:
    if component.kind == "bundled":
        return BUNDLED / component.source.removeprefix("bundled:")
    if component.kind == "folder":
        return Path(preset.folder) / Path(component.source).expanduser()
    if component.kind == "inline":
        raise WeightsError(f"The component {name} of {preset.name} has no source.", "Add one.")
    for mirror in (component.source.replace("/", "--"), component.source):
        if weights_dir is not None and (weights_dir / mirror / component.subfolder).is_dir():
            return weights_dir / mirror
    if not component.revision:
        log.warning(
            "%s of preset %s is not pinned: %s may change on the hub.",
            name,
            preset.name,
            component.source,
        )
    return _download(component)


def _download(component: Component) -> Path:
    """Fetch one component's safetensors and text files at its commit (HF_HUB_OFFLINE: cached)."""
    from huggingface_hub import errors, snapshot_download

    # The keyword wants a commit, so that a moved branch cannot change what is loaded.
    prefix = f"{component.subfolder}/" if component.subfolder else ""
    wanted = [f"{prefix}*.{suffix}" for suffix in ("json", "txt", "model", "safetensors")]
    fetch: Callable[..., str] = snapshot_download
    try:
        found = fetch(
            component.source,
            revision=component.revision or None,
            allow_patterns=wanted,
            ignore_patterns=["*.fp16.*", "*.non_ema.*"],
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise WeightsError(
            f"The hub does not show {component.source}@{component.revision or 'main'}.",
            "It may need a licence accepted on its page and a login (hf auth login).",
        ) from error
    except Exception as error:  # whatever network and cache may raise
        raise WeightsError(
            f"{component.source} is not on this machine and could not be downloaded "
            f"({type(error).__name__}).",
            _remedy(component),
        ) from error
    return Path(found)


def _remedy(component: Component) -> str:
    if component.kind == "bundled":
        return "The installation is incomplete or damaged: install framelift again."
    if component.kind == "folder":
        return "Check the path and the sha256 in the preset."
    return (
        f"Run once with a network connection and without HF_HUB_OFFLINE, or copy the repository "
        f"to {component.source.replace('/', '--')} in a folder and name that with --weights-dir."
    )
