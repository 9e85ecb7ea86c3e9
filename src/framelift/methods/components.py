"""The parts of a pipeline: which classes they may have, how they are read, whether they are whole.

What a preset or a folder names is never imported unless it is listed here or belongs to framelift
or to an installed package that registers a method; no Auto class is, and no code of a folder runs.
"""

import inspect
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ModelMixin, SchedulerMixin

from framelift.config import suggest
from framelift.errors import UsageError
from framelift.weights.presets import ENTRY_POINTS
from framelift.weights.resolve import WeightsError, component_folder
from framelift.weights.schema import Component, Preset

NETWORKS = (
    *("AutoencoderKL", "AutoencoderTiny", "ControlNetModel"),
    *("UNet2DConditionModel", "UNet3DConditionModel"),
    *("AutoencoderKLWan", "WanTransformer3DModel"),
)
SCHEDULERS = (
    *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
    "FlowMatchEulerDiscreteScheduler",
)
TEXT = (
    *("CLIPTextModel", "CLIPTokenizer"),
    *("T5EncoderModel", "T5Tokenizer", "T5TokenizerFast", "UMT5EncoderModel"),
)
VISION = ("ViTModel",)
LISTED = frozenset(
    {f"diffusers.{n}" for n in (*NETWORKS, *SCHEDULERS)}
    | {f"transformers.{n}" for n in (*TEXT, *VISION)}
)


def component_class(preset: Preset, name: str) -> type:
    """Import the class of a component; UsageError unless it is one of those allowed."""
    wanted = preset.components[name].type
    module, _, kind = wanted.rpartition(".")
    root = wanted.partition(".")[0]
    if wanted in LISTED or root in _trusted():
        try:
            found = getattr(import_module(module), kind)
        except (ImportError, AttributeError, ValueError):
            found = None
        if wanted in LISTED and isinstance(found, type):
            return found
        if isinstance(found, type) and issubclass(found, (ModelMixin, SchedulerMixin)):
            return found
    raise UsageError(
        f"The component {name} of {preset.name} is a {wanted!r}, which is not known.",
        suggest(wanted, LISTED),
    )


def load_component(preset: Preset, name: str, dtype: torch.dtype, weights_dir: Path | None) -> Any:
    """Read a component from where its preset says, refusing what is damaged."""
    component = preset.components[name]
    kind: Any = component_class(preset, name)
    if component.kind == "inline":
        return _from_arguments(preset, name, kind)
    network = issubclass(kind, torch.nn.Module)
    folder = component_folder(preset, name, network=network, weights_dir=weights_dir)
    try:
        made = kind.from_pretrained(str(folder), **_options(component, kind, name, dtype))
        missing: list[str] = []
        if network:
            made, loading = made
            missing = sorted(loading["missing_keys"])
    except Exception as error:  # the libraries raise anything for a damaged file
        raise WeightsError(
            f"The component {name} of {preset.name} in {folder} cannot be loaded "
            f"({_reason(error)}).",
            "Its files may be damaged or belong to another version: fetch them again.",
        ) from error
    if missing:
        raise WeightsError(
            f"The weights of {name} of {preset.name} in {folder} lack {missing[0]} and "
            f"{len(missing) - 1} more.",
            "They belong to another network than its config.json describes.",
        )
    check_finite(made, f"{name} of {preset.name}")
    check_scheduler(made, f"{name} of {preset.name}")
    return made


def check_finite(part: Any, what: str) -> None:
    """WeightsError where a network's weights are not all finite numbers."""
    if not isinstance(part, torch.nn.Module):
        return
    for key, tensor in part.state_dict().items():
        if tensor.is_meta:
            raise WeightsError(f"The weights of {what} lack {key}.", "Fetch the file again.")
        # One pass without a mask as large as the tensor: any NaN or infinity survives the sum.
        if tensor.is_floating_point() and not tensor.sum(dtype=torch.float32).isfinite():
            raise WeightsError(
                f"The weights of {what} hold values that are no numbers ({key}, {tensor.dtype}).",
                "The file is damaged or its training diverged: fetch it again, or use float32.",
            )


def check_scheduler(part: Any, what: str) -> None:
    """UsageError where a scheduler cannot make a step, as with values that it does not know."""
    if not isinstance(part, SchedulerMixin):
        return
    scheduler: Any = part.from_config(part.config)  # pyright: ignore[reportAttributeAccessIssue]
    x = torch.zeros(1, 1, 2, 2)
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    try:
        with torch.random.fork_rng(devices=[]):
            scheduler.set_timesteps(2)
            if hasattr(scheduler, "scale_model_input"):  # those of flows have none
                scheduler.scale_model_input(x, scheduler.timesteps[0])
            scheduler.step(x.repeat(1, 2, 1, 1) if learned else x, scheduler.timesteps[0], x)
    except Exception as error:  # each scheduler has words of its own
        raise UsageError(
            f"The component {what} cannot make a step ({_reason(error)}).",
            "Correct its configuration.",
        ) from error


def from_config(kind: Any, config: dict[str, Any]) -> Any:
    """A component with random weights."""
    if hasattr(kind, "from_config"):
        return kind.from_config(config)
    return kind(kind.config_class(**config), **_unpooled(kind))


def _from_arguments(preset: Preset, name: str, kind: Any) -> Any:
    what, config = f"{name} of {preset.name}", preset.components[name].config
    if not issubclass(kind, SchedulerMixin):
        raise UsageError(f"The component {what} has no source.", "Say where its weights are.")
    known = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
    for key in config.keys() - known:
        problem = f"The component {what} has an unknown setting {key!r}."
        raise UsageError(problem, suggest(key, known))
    try:
        made = cast(Any, kind).from_config(config)
    except Exception as error:  # each scheduler has words of its own
        raise UsageError(
            f"The component {what} cannot be made ({_reason(error)}).", "Correct its configuration."
        ) from error
    check_scheduler(made, what)
    return made


def _options(component: Component, kind: type, name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Keywords of `from_pretrained`; the codec stays in float32."""
    options: dict[str, Any] = {"local_files_only": True, **component.config}
    from_transformers = component.type.startswith("transformers.")
    if from_transformers:
        options["trust_remote_code"] = False
    options = _unpooled(kind) | options
    if issubclass(kind, torch.nn.Module):
        key = "dtype" if from_transformers else "torch_dtype"
        options["output_loading_info"] = True
        options |= {"use_safetensors": True, key: torch.float32 if name.endswith("vae") else dtype}
    return options


def _unpooled(kind: type) -> dict[str, Any]:
    """No pooling layer where a class has one: only tokens are taken, and classifiers lack it."""
    known = inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


def _trusted() -> set[str]:
    """Top-level packages whose own networks and schedulers may be parts."""
    registered = {e.module.partition(".")[0] for e in entry_points(group=ENTRY_POINTS)}
    return {"framelift", *registered}


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text[:200]}"
