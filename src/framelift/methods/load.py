"""Building pipelines from presets and from folders in hub format."""

import inspect
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from framelift.errors import UsageError
from framelift.methods.base import VSRPipeline
from framelift.methods.registry import method_of
from framelift.weights.presets import Component, Preset, WeightsError, load_preset, suggest
from framelift.weights.resolve import component_folder, published_config

LIBRARIES = ("diffusers", "transformers", "framelift")


def load_pipeline(
    preset: str | Path | Preset | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    weights_dir: Path | None = None,
) -> VSRPipeline:
    """Load a preset (None: the default), a preset file, or a folder in hub format.

    `dtype` is the precision of the networks but the codec (`vae`), which stays float32.
    `weights_dir` holds mirrors of hub repositories, as <org>--<name> or <org>/<name>.
    """
    chosen = preset if isinstance(preset, Preset) else load_preset(preset)
    build = method_of(chosen).pipeline_class()
    accepted = set(inspect.signature(build.__init__).parameters) - {"self"}
    parts = {
        name: _load_component(chosen, name, dtype, weights_dir)
        for name in chosen.components
        if name in accepted or chosen.kind != "local"
    }
    arguments = {**parts, **chosen.sampler}
    if chosen.pipeline:  # another project's index may say more than we need
        arguments = {k: v for k, v in arguments.items() if k in accepted}
    if unknown := arguments.keys() - accepted:
        word = min(unknown)
        raise UsageError(f"{chosen.name} has an unknown part {word!r}.", suggest(word, accepted))
    try:
        pipeline = build(**arguments)
    except TypeError as error:
        problem = f"{chosen.name} is incomplete: {error}."
        raise UsageError(problem, "Add what is missing.") from error
    pipeline.limits = replace(pipeline.limits, **chosen.limits)
    for part in parts.values():
        if isinstance(part, torch.nn.Module) and _is_convolutional(part):
            # On AMX the UNet takes half the time.
            part.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return pipeline.to(device)


def _is_convolutional(network: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.Conv2d) for module in network.modules())


def outline(preset: str | Preset) -> dict[str, torch.nn.Module]:
    """The networks of a published preset on the meta device: architecture without weights."""
    chosen = preset if isinstance(preset, Preset) else load_preset(preset)
    networks = {}
    for name, component in chosen.components.items():
        kind = _component_class(chosen, name, component)
        if issubclass(kind, torch.nn.Module):
            with torch.device("meta"):
                networks[name] = _from_config(kind, published_config(chosen, name))
    return networks


def _load_component(preset: Preset, name: str, dtype: torch.dtype, weights_dir: Path | None) -> Any:
    component = preset.components[name]
    kind: Any = _component_class(preset, name, component)
    if component.kind == "inline":
        return _from_config(kind, component.config)
    network = issubclass(kind, torch.nn.Module)
    folder = component_folder(preset, name, network=network, weights_dir=weights_dir)
    options: dict[str, Any] = {"local_files_only": True}
    if network:
        wanted = torch.float32 if name == "vae" else dtype
        key = "dtype" if component.type.startswith("transformers.") else "torch_dtype"
        options |= {"use_safetensors": True, key: wanted}
    try:
        return kind.from_pretrained(str(folder), **options)
    except Exception as error:  # the libraries raise anything for a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise WeightsError(
            f"The component {name} of {preset.name} in {folder} cannot be loaded "
            f"({type(error).__name__}: {reason[:200]}).",
            "Its files may be damaged or belong to another version: fetch them again.",
        ) from error


def _component_class(preset: Preset, name: str, component: Component) -> type:
    """Import a component's class; only from libraries that are installed on purpose."""
    module, _, kind = component.type.rpartition(".")
    if module.split(".")[0] in LIBRARIES:
        try:
            found = getattr(import_module(module), kind)
        except (ImportError, AttributeError):
            found = None
        if isinstance(found, type) and hasattr(found, "from_pretrained"):
            return found
    raise UsageError(
        f"The component {name} of {preset.name} is a {component.type!r}, which is not known.",
        f"Components come from {', '.join(LIBRARIES)}.",
    )


def _from_config(kind: Any, config: dict[str, Any]) -> Any:
    if hasattr(kind, "from_config"):
        return kind.from_config(config)
    return kind(kind.config_class(**config))
