"""Pipelines in hub format: what `model_index.json` says, as a preset. No torch.

Ours say how they sample. A folder that another project wrote does not: where a published preset
names its pipeline class, it is sampled as that preset, which is how it was trained.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from framelift.config import from_mapping
from framelift.errors import InputError, UsageError
from framelift.files import read_json
from framelift.types import Limits
from framelift.weights.hub import COMMIT, WeightsError, fetch, find_mirror
from framelift.weights.schema import Component, Preset

INDEX = "model_index.json"
LIMITS = "_limits"
"""Key of the limits in the index; names without underscore are a pipeline's arguments."""


def read_folder(path: Path, known: Iterable[Preset], name: str = "") -> Preset:
    """A folder, as `save_pretrained` of our pipelines or of diffusers' writes it."""
    place = Component("", source=str(path.resolve()))
    return read_index(_load(path), name or str(path), place, known)


def read_repository(
    source: str, commit: str, weights_dir: Path | None, known: Iterable[Preset]
) -> Preset:
    """A repository of the hub; without a commit, at the newest, of which the notice tells."""
    if commit and not COMMIT.fullmatch(commit):
        raise UsageError(
            f"{source}@{commit} may change its content.",
            "Name a commit by its 40 hexadecimal digits, or leave it out.",
        )
    if (mirror := find_mirror(source, weights_dir, INDEX)) is not None:
        return read_folder(mirror, known, source)
    try:
        snapshot = fetch(source, commit, [INDEX])
    except WeightsError as error:
        raise WeightsError(f"There is no folder {source}. {error.problem}", error.remedy) from error
    found = commit or (snapshot.name if COMMIT.fullmatch(snapshot.name) else "")
    preset = read_index(
        _load(snapshot), source, Component("", source=source, revision=found), known
    )
    if commit:
        return preset
    unpinned = f"{source} may change on the hub; {source}@{found} loads just this again."
    return replace(preset, notice=f"{unpinned} {preset.notice}".strip())


def read_index(
    index: Mapping[str, Any], name: str, place: Component, known: Iterable[Preset]
) -> Preset:
    """The preset that the content of a model_index.json describes.

    `place` says where the components' folders lie, `known` are the presets that it may be.
    """
    kind = index.get("_class_name")
    components, sampler = {}, {}
    for key, value in index.items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
            components[key] = replace(place, type=".".join(value), subfolder=key)
        elif not key.startswith("_") and value != [None, None]:
            sampler[key] = value
    limits = index.get(LIMITS, {})
    from_mapping(Limits, limits, f"{name}, {INDEX}, {LIMITS}")
    preset = Preset(
        name=name,
        kind="local" if place.kind == "folder" else "published",
        title=f"Pipeline in {name}",
        licence="unknown",
        components=components,
        sampler=sampler,
        limits=limits,
        pipeline=kind if isinstance(kind, str) else "",
        folder=place.source if place.kind == "folder" else "",
    )
    ours = "steps" in index or LIMITS in index
    return preset if ours else _as_published(preset, known)


def _as_published(preset: Preset, known: Iterable[Preset]) -> Preset:
    """A folder of another project, sampled as the published preset that was made for it.

    Where that preset changes a component's configuration, it also decides its class.
    """
    published = next(
        (p for p in known if preset.pipeline and p.released_as == preset.pipeline), None
    )
    if published is None:
        return preset
    components = {
        name: replace(found, type=wanted.type, config=wanted.config)
        if (wanted := published.components.get(name)) and wanted.config
        else found
        for name, found in preset.components.items()
    }
    settings = ", ".join(f"{key} = {value}" for key, value in published.sampler.items())
    return replace(
        preset,
        components=components,
        method=published.method,
        licence=published.licence,
        licence_url=published.licence_url,
        scale=published.scale,
        sampler={**preset.sampler, **published.sampler},
        limits=published.limits,
        notice=f"{preset.name} holds another project's {preset.pipeline}: it is sampled as the "
        f"preset {published.name}, as it was trained ({settings}).",
    )


def _load(folder: Path) -> Mapping[str, Any]:
    try:
        index = read_json(folder / INDEX)
        if "_class_name" not in index:
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder} is not a pipeline folder: its {INDEX} cannot be read.",
            "Name a folder that save_pretrained has written, or a preset.",
        ) from error
    return index
