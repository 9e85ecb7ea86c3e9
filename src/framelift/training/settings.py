"""Settings of a training run; a recipe is a TOML file of them. Imports no torch."""

import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from framelift.config import from_mapping
from framelift.errors import InputError
from framelift.training.data_settings import DataSettings


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
    """Whose objective to train, for example image-ldm."""
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


RECIPES = Path(__file__).parent / "recipes"


def find_recipe(name: str | Path) -> Path:
    """A recipe file by its path, or a shipped one by its name."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = sorted(p.stem for p in RECIPES.glob("*.toml"))
    stem = str(name).removesuffix(".toml").replace("-", "_")
    if stem not in shipped:
        close = get_close_matches(stem, shipped, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(shipped)}."
        raise InputError(f"There is no recipe {str(name)!r}.", hint)
    return RECIPES / f"{stem}.toml"


def load_recipe(path: Path) -> TrainSettings:
    """Read a recipe, refusing unknown keys and wrong types by name."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"There is no recipe {path}.", f"Recipes of this package lie in {RECIPES}."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is not a readable TOML file: {error}.", "Correct it.") from error
    return from_mapping(TrainSettings, content, where=str(path))
