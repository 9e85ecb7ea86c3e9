"""Settings of an evaluation: command line, Python API and record in one. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from framelift.errors import UsageError


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured, how, and where results go. There are two ways in: finished videos (`sr`
    against `gt`), or a `dataset` at `root` and `methods`, which are run here.
    """

    sr: tuple[Path, ...] = ()
    """Folders of finished clips, one folder a method; name=folder gives it another name."""
    gt: Path | None = None
    """Folder of ground truth clips (videos or folders of frames), matched to --sr by name."""
    lr: Path | None = None
    """Folder of the low-resolution clips that --sr was made from, for pictures and metrics that
    look at them."""
    dataset: str | None = None
    """Layout of the data at --root: reds4, vid4, vimeo90k-t, …; folder is any folder of clips."""
    root: Path | None = None
    """Folder that holds the dataset."""
    split: str | None = None
    """Part of the dataset, where it has several."""
    clips: tuple[str, ...] = ()
    """Only these clips."""
    methods: tuple[str, ...] = ()
    """bicubic, lanczos, nearest, presets, methods, preset files or pipeline folders; settings
    follow a colon, as in image-ldm:steps=1,eta=1."""
    recipe: str | None = None
    """Degradation that makes the low-resolution clips, a name or a TOML file (default: the
    dataset's own low-resolution clips where it has them, else bi)."""
    scale: int | None = None
    """Scale between low and high resolution (default: the recipe's, or that of the data)."""
    crop: int | None = None
    """Cut a square of this side from the centre of the ground truth first."""
    frames: int | None = None
    """Only the first so many frames of every clip."""
    still: int | None = None
    """Evaluate the middle frame of every clip, so many times in a row and degraded only once,
    instead of the clip: how much a method changes what does not change (metric still)."""
    metrics: tuple[str, ...] = ()
    """Metrics to compute: psnr, ssim, lpips, dists, niqe, tlpips, tof, we, grid, grain, still,
    musiq, clipiqa, clipiqa+, maniqa, liqe (default: the protocol's)."""
    protocol: str = "framelift"
    """Conventions of a paper or code base: framelift, basicsr, basicsr-y, sateco, stablevsr, lai,
    stcdit, vdm-vsr; see docs/evaluation.md."""
    options: tuple[str, ...] = ()
    """Deviations from the protocol as name=value, for example border=4 or flow=raft."""
    seed: int = 0
    """Seed of degradations and of the methods' noise."""
    crop_at: str | None = None
    """Place y,x of the pictures' details in ground truth pixels (default: where most is)."""
    pictures: int = 100
    """Make pictures of the first so many clips."""
    device: str = "auto"
    """Where networks run: auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the methods' networks."""
    threads: int | None = None
    """CPU threads (default: one per core)."""
    weights_dir: Path | None = None
    """Folder with copies of hub repositories (org--name)."""

    def __post_init__(self) -> None:
        for name in ("scale", "crop", "frames", "threads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"--{name} is {value}.", "It must be greater than zero.")
        if self.still is not None and self.still < 2:
            raise UsageError(f"--still is {self.still}.", "It takes two frames or more.")
        parse_place(self.crop_at)
        if self.sr or self.gt:
            self._check_finished()
        elif not (self.dataset and self.root and self.methods):
            raise UsageError(
                "There is nothing to evaluate.",
                "Give --sr and --gt, or --dataset, --root and --methods.",
            )
        elif self.lr:
            raise UsageError("--lr goes with --sr.", "Datasets bring their own, or --recipe.")

    def _check_finished(self) -> None:
        if not self.sr:
            raise UsageError("--gt is given without --sr.", "Name the folder of results.")
        for name in ("dataset", "root", "split", "methods", "recipe", "still"):
            if getattr(self, name):
                raise UsageError(
                    f"--{name} does not go with --sr.",
                    "Measure finished clips (--sr, --gt) or run --methods on a --dataset.",
                )


def parse_place(text: str | None) -> tuple[int, int] | None:
    """Read "y,x"."""
    if text is None:
        return None
    try:
        y, x = (int(part) for part in text.split(","))
        if y < 0 or x < 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"--crop-at {text!r} is not a place.", "Write y,x, as 120,64.") from None
    return y, x


@dataclass(frozen=True)
class ReproduceSettings:
    """How a table or figure of a paper is made again."""

    data: tuple[str, ...] = ()
    """Where datasets lie, as name=folder. folder=path lets any clips stand in for them."""
    metrics: tuple[str, ...] = ()
    """Only these columns of the table (default: all)."""
    full: bool = False
    """The paper's protocol, instead of centre crops and a few frames of every clip."""
    preset: str | None = None
    """Preset, preset file or pipeline folder that a figure is made with (default: the item's)."""
    options: tuple[str, ...] = ()
    """Deviations from a figure's setup, or settings of its method, as name=value."""
    seed: int = 0
    """Seed of degradations and of the methods' noise."""
    device: str = "auto"
    """Where networks run: auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the methods' networks."""
    threads: int | None = None
    """CPU threads (default: one per core)."""
    weights_dir: Path | None = None
    """Folder with copies of hub repositories (org--name)."""

    def roots(self) -> dict[str, Path]:
        """`data` by name."""
        roots = {}
        for word in self.data:
            name, equals, path = word.partition("=")
            if not (name and equals and path):
                raise UsageError(f"--data {word!r} names no folder.", "Write --data vid4=folder.")
            roots[name] = Path(path).expanduser()
        return roots
