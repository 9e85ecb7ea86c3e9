"""Building pipelines from presets and from folders in hub format."""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from diffusers import SchedulerMixin

from framelift.config import check_types, from_mapping, suggest
from framelift.device import choose_device, use_channels_last
from framelift.errors import UsageError
from framelift.methods.base import VSRPipeline
from framelift.methods.components import component_class, from_config, load_component
from framelift.methods.registry import method_of
from framelift.weights.presets import load_preset
from framelift.weights.resolve import published_config
from framelift.weights.schema import Preset

log = logging.getLogger(__name__)


def load_pipeline(
    preset: str | Path | Preset | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    weights_dir: Path | None = None,
) -> VSRPipeline:
    """Load a preset (None: the default), a preset file, or a pipeline in hub format.

    A pipeline in hub format is a folder, or a repository of the hub, org/name or org/name@commit.
    `dtype` is the precision of the networks but the codec (`vae`), which stays float32.
    `weights_dir` holds mirrors of hub repositories, as <org>--<name> or <org>/<name>.
    """
    device = choose_device(device)
    chosen = preset if isinstance(preset, Preset) else load_preset(preset, weights_dir)
    build = method_of(chosen).pipeline_class()
    accepted = set(inspect.signature(build.__init__).parameters) - {"self"}
    parts = {
        name: load_component(chosen, name, dtype, weights_dir)
        for name in chosen.components
        if name in accepted or not chosen.pipeline
    }
    sampler = chosen.sampler
    if chosen.pipeline:  # another project's index may say more than we need
        sampler = {k: v for k, v in sampler.items() if k in accepted}
    for word in sorted((parts.keys() | sampler.keys()) - accepted):
        raise UsageError(f"{chosen.name} has an unknown part {word!r}.", suggest(word, accepted))
    pipeline = _build(chosen, build, parts, sampler)
    pipeline.limits = replace(pipeline.limits, **chosen.limits)
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            use_channels_last(part)
    if chosen.notice:
        log.warning(chosen.notice)
    return pipeline.to(device)


def outline(preset: str | Preset) -> dict[str, torch.nn.Module]:
    """The networks of a published preset on the meta device: architecture without weights."""
    chosen = preset if isinstance(preset, Preset) else load_preset(preset)
    networks = {}
    for name in chosen.components:
        kind = component_class(chosen, name)
        if issubclass(kind, torch.nn.Module):
            with torch.device("meta"):
                networks[name] = from_config(kind, published_config(chosen, name))
    return networks


def _build(
    preset: Preset,
    build: type[VSRPipeline],
    parts: Mapping[str, Any],
    sampler: Mapping[str, Any],
) -> VSRPipeline:
    """The pipeline of checked parts and arguments; what does not fit together is a UsageError."""
    hints, where = get_type_hints(build.__init__), f"{preset.name}, sampler"
    for name, part in parts.items():
        wanted = tuple(k for k in (get_args(hints[name]) or (hints[name],)) if isinstance(k, type))
        is_scheduler = isinstance(part, SchedulerMixin)
        if is_scheduler and any(issubclass(k, SchedulerMixin) for k in wanted):
            continue
        if (is_scheduler or isinstance(part, torch.nn.Module)) and not isinstance(part, wanted):
            raise UsageError(
                f"The component {name} of {preset.name} is a {type(part).__name__}.",
                f"{build.__name__} takes a {' or a '.join(_names(wanted))}.",
            )
    arguments = check_types(hints, sampler, where)
    named = {f.name for f in fields(build.settings_class)}
    # What the settings have too may hold only what they may hold.
    shared = {k: v for k, v in arguments.items() if k in named and not isinstance(v, dict | list)}
    from_mapping(build.settings_class, shared, where)
    try:
        return build(**parts, **arguments)
    except TypeError as error:
        raise UsageError(
            f"{preset.name} is incomplete: {error}.", "Add what is missing."
        ) from error
    except ValueError as error:
        raise UsageError(f"{preset.name}: {error}.", "Correct the preset.") from error


def _names(kinds: tuple[type, ...]) -> list[str]:
    return [kind.__name__ for kind in kinds if kind is not type(None)]


def _is_convolutional(network: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.Conv2d) for module in network.modules())
