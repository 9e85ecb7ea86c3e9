"""Settings of a training run; a recipe is a TOML file of them. Imports no torch."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from framelift.config import from_mapping, read_toml
from framelift.errors import InputError, UsageError


@dataclass(frozen=True)
class SourceSettings:
    """Files below the data root, or a dataset by name."""

    glob: str = ""
    """Video files, folders of frames or still pictures: a pattern relative to the root, for example
    "*.mp4"."""
    dataset: str = ""
    """A dataset in its published layout instead (see `framelift data list`); its clips are read as
    they are needed."""
    folder: str = ""
    """Folder of the dataset, relative to the root."""
    split: str = ""
    """Split to train on (default: the dataset's first)."""
    holdout_split: str = ""
    """Split whose clips are kept for validation."""
    stride: int = 1
    """Take every n-th frame."""
    shrink: int = 1
    """Shrink by this factor first: removes compression and sensor noise from the targets."""
    motion: int = 0
    """Make clips of so many frames from still pictures, by a camera that pans, turns and zooms."""
    weight: float = 1.0
    """How often crops come from these files, relative to √(frames × megapixels); clips of a dataset
    are all taken equally often."""

    def __post_init__(self) -> None:
        if bool(self.glob) == bool(self.dataset):
            raise UsageError(
                "A source of training data is a glob or a dataset.", "Set one of the two."
            )


@dataclass(frozen=True)
class RecipeShare:
    """One of several degradations."""

    recipe: str
    """Degradation recipe, by name or TOML file."""
    weight: float = 1.0
    """How often it is drawn, relative to the others."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise UsageError(
                f"The weight of the degradation {self.recipe!r} is {self.weight:g}.",
                "Choose a number above 0.",
            )


@dataclass(frozen=True)
class DataSettings:
    """What a crop is and where it comes from."""

    sources: tuple[SourceSettings, ...] = ()
    """Where clips come from."""
    holdout: tuple[str, ...] = ()
    """Names (without suffix) of clips kept for validation."""
    frames: int = 1
    """Consecutive frames per crop (of those that a source's stride leaves)."""
    crop: int = 128
    """Side of the square high-resolution crop in pixels."""
    margin: int = 16
    """High-resolution pixels around the crop that the degradation may look at."""
    scale: int = 4
    """Scale between the high-resolution crop and its low-resolution version."""
    degradation: "tuple[RecipeShare, ...] | str" = "bi"
    """Degradation recipe, by name (bi, bd, realworld, ...) or TOML file: bi is MATLAB's antialiased
    bicubic, saved in 8 bits; none makes no LR frames, for objectives that look at HR alone. Or
    several, of which one is drawn for each clip of a batch:
    [{ recipe = "bi", weight = 1 }, { recipe = "mild", weight = 1 }]."""
    augment: Literal["full", "flip", "none"] = "full"
    """Mirror crops left to right (flip), and turn them by quarters as well (full)."""

    pool: int = 0
    """Batches that are kept on the device, from which every step draws its crops again; 0: every
    step has new ones. For accelerators that outrun the processor."""
    pool_every: int = 4
    """Steps between two new batches in the pool."""
    pool_crop: int | None = None
    """Side of the kept crops, in which a step's lie anywhere on the LR grid (default: crop)."""
    pool_frames: int | None = None
    """Frames of the kept crops, in which a step's lie anywhere (default: frames)."""

    def __post_init__(self) -> None:
        if not self.degradation:
            raise UsageError("[data] degradation is empty.", "Name a recipe, or none.")
        least = {"pool": 0, "pool_every": 1, "pool_crop": self.crop, "pool_frames": self.frames}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise UsageError(f"[data] {name} is {given}.", f"Choose {value} or more.")


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
    """Crops per process and round; a step takes batch × processes × accumulate of them."""
    accumulate: int = 1
    """Rounds whose gradients are averaged before the weights change: a larger batch in the memory
    of a small one."""
    workers: int | None = None
    """Processes beside each training process that cut and degrade crops, 0 for none (default: as
    many as cores allow, at most 16, where networks run on an accelerator; one where they run on
    the CPU). The crops do not depend on it."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about
    a third more time."""
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

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "accumulate": 1}
        least |= dict.fromkeys(("log_every", "validate_every", "checkpoint_every"), 1)
        for name, value in {**least, "workers": 0}.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise UsageError(f"[run] {name} is {given}.", f"Choose {value} or more.")


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
    return from_mapping(TrainSettings, read_toml(path, "recipe"), where=str(path))
