"""Training batches: random crops of stored clips and their degraded versions, made by workers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from framelift.degrade import Degradation, load_recipe
from framelift.device import choose_threads
from framelift.diffusion.draw import BatchGenerator
from framelift.errors import FrameliftError, InputError, NoRoomError
from framelift.methods.base import Batch
from framelift.ops.resize import downscale
from framelift.training.settings import DataSettings, RecipeShare
from framelift.training.store import Clip

MIXTURE = 1  # sets the generator that draws recipes apart from the one that draws crops


@dataclass(frozen=True)
class Share:
    """What one process takes of a step's batch: items `rank`, `rank + processes`, and so on.

    With `rounds`, a process takes its items in several rounds. Interleaved, so that the first
    items of every share are the first items of the whole, whichever way a stage divides a batch.
    """

    rank: int = 0
    processes: int = 1
    rounds: int = 1

    def of(self, index: int) -> tuple[int, int, int]:
        """Step, first item and distance of items of the `index`-th batch of this process."""
        step, turn = divmod(index, self.rounds)
        return step, turn * self.processes + self.rank, self.processes * self.rounds


class Batches(Protocol):
    """Batches as a function of their index."""

    share: Share

    def __getitem__(self, index: int, /) -> Batch: ...


class _Place(NamedTuple):
    """Where a crop lies: the clip's number, first frame, top, left, quarter turns, mirrored."""

    clip: int
    t: int
    y: int
    x: int
    turns: int
    flip: int


class RandomCrops(Dataset[Batch]):
    """Batches as a function of (seed, index), whoever makes them; they do not end.

    The crops of a step are drawn for all processes and rounds together, and each takes its
    share, so that n processes with a batch b see what one with n·b sees.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        settings: DataSettings,
        batch: int,
        seed: int,
        frames: int = 1,
        share: Share = Share(),
    ) -> None:
        side = settings.crop + 2 * settings.margin
        self.clips = [
            c for c in clips if c.frames.shape[0] >= frames and min(c.frames.shape[1:3]) >= side
        ]
        if not self.clips:
            raise InputError(
                f"No clip has {frames} frames of at least {side}×{side} pixels.",
                "Use larger clips or a smaller crop.",
            )
        self.cumulative = np.cumsum([c.weight for c in self.clips])
        self.settings, self.batch, self.seed, self.frames = settings, batch, seed, frames
        self.side, self.share = side, share
        self.degradations, self.weights = _degradations(settings, seed)
        bi = load_recipe("bi")
        self.is_bi = [d.recipe == bi for d in self.degradations]

    def __getitem__(self, index: int) -> Batch:
        """The `index`-th batch of this process: a round of a step. See `Batch` for bytes."""
        step, first, stride = self.share.of(index)
        with _one_thread():
            rng = np.random.default_rng([self.seed, step])
            places = [self._draw(rng) for _ in range(self.batch * stride)][first::stride]
            crops = np.stack([self._cut(place) for place in places])
            levels = torch.from_numpy(crops).permute(0, 1, 4, 2, 3)
            margin = self.settings.margin
            if not self.degradations:
                hr = _inside(levels, margin)
                return Batch(hr, hr)
            items = range(first, self.batch * stride, stride)
            hr, lr = self._degrade(levels.float() / 255, step, items)
            if not any(d.recipe.scene for d in self.degradations):  # the truth is as it was
                hr = levels
            return Batch(_inside(hr, margin), _inside(lr, margin // self.settings.scale))

    def _draw(self, rng: np.random.Generator) -> _Place:
        drawn = rng.random() * self.cumulative[-1]
        number = int(self.cumulative.searchsorted(drawn, side="right"))
        frames, height, width = self.clips[number].frames.shape[:3]
        t = int(rng.integers(frames - self.frames + 1))
        y, x = (int(rng.integers(length - self.side + 1)) for length in (height, width))
        return _Place(number, t, y, x, int(rng.integers(4)), int(rng.integers(2)))

    def _cut(self, place: _Place) -> np.ndarray:
        """The crop `[T, side, side, 3]` at a place."""
        t, y, x = place.t, place.y, place.x
        times, rows, columns = (
            slice(at, at + length)
            for at, length in ((t, self.frames), (y, self.side), (x, self.side))
        )
        crop = self.clips[place.clip].frames[times, rows, columns]
        if self.settings.augment == "full":
            crop = np.rot90(crop, place.turns, axes=(1, 2))
        if self.settings.augment != "none" and place.flip:
            crop = crop[:, :, ::-1]
        return np.ascontiguousarray(crop)

    def _degrade(self, hr: Tensor, step: int, items: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Ground truth and low-resolution version of `hr` `[B, T, 3, H, W]` in [0, 1].

        The recipe and its parameters are drawn for each item, as functions of (seed, step, item).
        """
        drawn = [self._drawn(step, item) for item in items]
        plain = [place for place, n in enumerate(drawn) if self.is_bi[n]]
        truth, lr = list(hr), [torch.empty(0)] * len(hr)
        if plain:  # the same numbers, in one call
            low = (downscale(hr[plain], self.settings.scale).clamp(0, 1) * 255).round() / 255
            for place, clip in zip(plain, low, strict=True):
                lr[place] = clip
        for place in set(range(len(hr))) - set(plain):
            degradation = self.degradations[drawn[place]]
            truth[place], lr[place] = degradation.pair(hr[place], f"{step}/{items[place]}")
        return torch.stack(truth), torch.stack(lr)

    def _drawn(self, step: int, item: int) -> int:
        """Number of the recipe that an item gets."""
        if len(self.degradations) == 1:
            return 0
        rng = np.random.default_rng([self.seed, step, item, MIXTURE])
        return int(rng.choice(len(self.degradations), p=self.weights))


def step_generator(seed: int, share: Share, index: int, device: torch.device) -> BatchGenerator:
    """Noise and timesteps that belong to the `index`-th batch of a process."""
    step, first, stride = share.of(index)
    generator = BatchGenerator(device)
    generator.first, generator.stride = first, stride
    generator.manual_seed(seed * 1_000_003 * 2**33 % 2**62 + step)
    return generator


def load_batches(
    crops: Batches, first: int, last: int, workers: int, pin: bool = False
) -> Iterator[Batch]:
    """Batches `first` to `last` (exclusive) in order, made ahead by worker processes.

    They come as bytes where that loses nothing: `Batch.to` makes them numbers in [0, 1]. With `pin`
    they lie in memory that a GPU reads by itself, while it computes. What goes wrong in a worker is
    raised here as the error that it was.
    """
    loader: DataLoader[Batch | FrameliftError] = DataLoader(
        _Told(crops),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        worker_init_fn=_start_worker,
        pin_memory=pin,
        generator=torch.Generator(),  # the loader seeds workers, and would draw from the global one
    )
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise NoRoomError(
                "A process that makes training crops was killed; most often memory ran out.",
                "Lower [run] workers or batch, then run the same command again: it resumes.",
            ) from error
        if isinstance(batch, FrameliftError):
            raise batch
        yield batch


def choose_workers(wanted: int | None, device: torch.device, processes: int) -> int:
    """Worker processes for each of the training `processes` of this machine."""
    if wanted is not None:
        return wanted
    cores = choose_threads(None) // processes
    if device.type == "cpu":
        return 1 if cores > 1 else 0
    return max(0, min(16, cores - 1))


class _Told(Dataset[Batch | FrameliftError]):
    """Crops that hand back errors: the loader would bury their sentences in a traceback."""

    def __init__(self, crops: Batches) -> None:
        self.crops = crops

    def __getitem__(self, index: int) -> Batch | FrameliftError:
        try:
            return self.crops[index].packed()
        except FrameliftError as error:
            return error


def _start_worker(number: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend on the number of threads; crops must not depend on who makes them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _degradations(settings: DataSettings, seed: int) -> tuple[list[Degradation], np.ndarray]:
    """The recipes of a mixture and how often each is drawn."""
    wanted = settings.degradation
    if wanted == "none":
        return [], np.empty(0)
    shares = (RecipeShare(wanted),) if isinstance(wanted, str) else wanted
    weights = np.array([share.weight for share in shares])
    made = [Degradation(share.recipe, settings.scale, seed) for share in shares]
    return made, weights / weights.sum()


def _inside(x: Tensor, margin: int) -> Tensor:
    return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin].contiguous()
