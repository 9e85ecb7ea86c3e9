"""Settings of a training run; a recipe is a TOML file of them. Imports no torch."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from framelift.data.settings import DataSettings
from framelift.errors import InputError, UsageError


@dataclass(frozen=True)
class OptimSettings:
    """The optimizer: AdamW with warm-up, clipping and an exponential moving average."""

    lr: float = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moment decays."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    warmup: int = 100
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What follows the warm-up; cosine ends at zero with the last step."""
    clip: float = 1.0
    """Gradient norm above which gradients are scaled down."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, which is what is saved; it warms up as
    (1 + step) / (10 + step)."""


@dataclass(frozen=True)
class RunSettings:
    """How long to train and what to write on the way."""

    steps: int = 1000
    """Optimizer steps in all, resumed ones included."""
    batch: int = 16
    """Crops per step and process."""
    seed: int = 0
    """Seed of crops, noise and initial weights."""
    precision: Literal["auto", "no", "bf16"] = "auto"
    """Mixed precision: auto is bf16 where the hardware has it."""
    log_every: int = 50
    """Steps between two lines of the log."""
    validate_every: int = 500
    """Steps between two validation losses and sample pictures on the held-out clips."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; only the newest is kept."""
    tensorboard: bool = False
    """Write TensorBoard events beside the JSONL log."""


@dataclass(frozen=True)
class TrainSettings:
    """A training run of one stage of one method."""

    method: str
    """Whose objective to train, for example image_ldm."""
    stage: str
    """The method's training stage, for example denoiser."""
    init_from: str = ""
    """Start from the weights of this pipeline folder or preset instead of random ones."""
    data: DataSettings = field(default_factory=DataSettings)
    """Clips, crops and degradation."""
    optim: OptimSettings = field(default_factory=OptimSettings)
    """Optimizer."""
    run: RunSettings = field(default_factory=RunSettings)
    """Length, batch, logs."""
    model: dict[str, Any] = field(default_factory=dict)
    """Configuration of new components, by component name."""
    objective: dict[str, Any] = field(default_factory=dict)
    """The method's own training settings."""


T = TypeVar("T")


def load_recipe(path: Path) -> TrainSettings:
    """Read a recipe, refusing unknown keys and wrong types by name."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"There is no recipe {path}.", "Recipes of this package lie in framelift/training/recipes."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is not a readable TOML file: {error}.", "Correct it.") from error
    return from_mapping(TrainSettings, content, where=str(path))


def from_mapping(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    """Build a (nested) settings dataclass from parsed TOML."""
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in content:
        if key not in names:
            close = get_close_matches(key, names, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(names)}."
            raise UsageError(f"{where} has an unknown setting {key!r}.", hint)
    try:
        return kind(**{k: _convert(hints[k], v, f"{where}, {k}") for k, v in content.items()})
    except TypeError as error:
        raise UsageError(f"{where} is incomplete: {error}.", "Add what is missing.") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} must be a table.", "Write it as [section].")
        return from_mapping(hint, value, where)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in args:
            raise UsageError(f"{where} is {value!r}.", f"Choose one of {', '.join(map(str, args))}.")
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise UsageError(f"{where} has {len(value)} entries.", f"It takes {len(kinds)}.")
        return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{where} is {value!r}.", f"It must be of type {hint.__name__}.")
    return value
