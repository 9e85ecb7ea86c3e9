"""Presets: which components make a pipeline, where each comes from, how it samples. No torch.

A preset is a TOML file, shipped in `weights/presets`, in the folder `presets` of an installed
package that registers a method, or the user's own. A folder or a repository of the hub in hub
format (`model_index.json` beside one folder per component) is read as one, see `index`.
"""

import re
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from framelift.config import from_mapping, read_toml
from framelift.config import suggest as suggest
from framelift.errors import UsageError
from framelift.types import Limits
from framelift.weights.hub import COMMIT, HUB_ID
from framelift.weights.index import read_folder, read_repository
from framelift.weights.schema import Component, Preset

FOLDER = Path(__file__).parent / "presets"
BUNDLED = Path(__file__).parent / "bundled"
ENTRY_POINTS = "framelift.methods"
"""Group of entry points by which installed packages register methods."""


def list_presets() -> list[Preset]:
    """All presets with a name and weights: the default first, then by name."""
    presets = [read_preset(path) for path in _files().values()]
    presets = [preset for preset in presets if not preset.awaits_weights]
    return sorted(presets, key=lambda p: (not p.default, p.name))


def load_preset(name: str | Path | None = None, weights_dir: Path | None = None) -> Preset:
    """A preset by name (None: the default), by its TOML file, or a pipeline in hub format.

    A method's name is also that of its bundled preset; underscores count as hyphens. A pipeline in
    hub format is a folder, or a repository org/name or org/name@commit; `weights_dir` may hold its
    mirror.
    """
    if name is None:
        return list_presets()[0]
    word, known = str(name), _files()
    if (plain := word.replace("_", "-")) in known:
        return _with_weights(read_preset(known[plain]))
    path = expand(word)
    if path.is_dir():
        return read_folder(path, list_presets())
    if path.suffix == ".toml" and path.is_file():
        return read_preset(path)
    repository, _, commit = word.partition("@")
    if HUB_ID.fullmatch(repository) and path.suffix != ".toml":
        return read_repository(repository, commit, weights_dir, list_presets())
    problem = f"There is no preset, preset file or pipeline folder {word!r}."
    raise UsageError(problem, suggest(plain, known))


def _with_weights(preset: Preset) -> Preset:
    if preset.awaits_weights:
        raise UsageError(
            f"No trained weights are shipped for {preset.name} yet.",
            "Train its stages (see docs/methods) and pass the pipeline's folder with --preset.",
        )
    return preset


def read_preset(path: Path) -> Preset:
    """Read a preset's TOML file, refusing what cannot be."""
    content = read_toml(path, "preset")
    preset = from_mapping(Preset, content, str(path))
    components = {
        name: from_mapping(Component, table, f"{path}, components.{name}")
        for name, table in content["components"].items()
    }
    for name, component in components.items():
        _check(component, f"{path}, components.{name}")
    from_mapping(Limits, preset.limits, f"{path}, limits")
    if path.parent != FOLDER:
        preset = replace(preset, default=False)
    return replace(preset, components=components, folder=str(path.resolve().parent))


def expand(path: str) -> Path:
    """A path with ~ replaced; UsageError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        problem = f"{path} names no home folder: {error}"
        raise UsageError(problem, "Write the whole path.") from error


def _files() -> dict[str, Path]:
    """Preset files by name; shipped ones come before those of installed packages."""
    folders = [FOLDER]
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            spec = find_spec(entry.module)
        except (ImportError, ValueError):  # the registry warns
            continue
        folders += [Path(p, "presets") for p in (spec and spec.submodule_search_locations) or ()]
    found: dict[str, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.toml"))):
        found.setdefault(path.stem, path)
    return found


def _check(component: Component, where: str) -> None:
    source, revision = component.source, component.revision
    if component.kind == "bundled" and not re.fullmatch(r"bundled:[a-z0-9][a-z0-9-]*", source):
        raise UsageError(f"{where} has the source {source!r}.", "Write it as bundled:<name>.")
    if component.kind == "hub" and not HUB_ID.fullmatch(source):
        raise UsageError(
            f"{where} has the source {source!r}.",
            "Write a hub id as org/name, a path as ./folder or /folder.",
        )
    if revision and not COMMIT.fullmatch(revision):
        raise UsageError(
            f"{where} names the revision {revision!r}, which may change its content.",
            "Name a commit by its 40 hexadecimal digits.",
        )
    if Path(component.subfolder).is_absolute() or ".." in Path(component.subfolder).parts:
        raise UsageError(f"{where} leaves its folder.", "Name a folder inside the repository.")
