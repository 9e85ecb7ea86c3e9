"""A recipe at work: high-resolution frames in, low-resolution frames out."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framelift.degrade.ops import quantize
from framelift.degrade.recipe import Recipe, load_recipe
from framelift.degrade.stages import Drawn, Frames, Sizes, draw_all
from framelift.errors import InputError, UsageError


class Degradation:
    """Degrades clips by a recipe (or its name or file); `scale` None is the recipe's own.

    Parameters are a function of (seed, clip): drawn once for a clip, drifting from frame to frame
    where the recipe says so. Frames stream, so any number of them needs the same memory. The
    result carries gradients to the input; codecs pass them straight through.
    """

    def __init__(
        self, recipe: Recipe | str | Path, scale: int | None = None, seed: int = 0
    ) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        self.scale = self.recipe.scale if scale is None else scale
        self.seed = seed
        if not 1 <= self.scale <= 64:
            raise UsageError(f"The scale is {self.scale}.", "Choose 1 to 64.")

    def __call__(self, frames: Tensor, clip: str = "") -> Tensor:
        """`frames` `[T, 3, H, W]` in [0, 1] → `[T', 3, H // scale, W // scale]`, likewise.

        H and W are cut to multiples of the scale first. T' is T unless a stage masks frames.
        """
        return self.pair(frames, clip)[1]

    def pair(self, frames: Tensor, clip: str = "") -> tuple[Tensor, Tensor]:
        """The ground truth that belongs to the low-resolution frames, and those.

        They differ from `frames` by the recipe's scene stages (sharpening, camera motion) and the
        cut to multiples of the scale; the truth has all T frames.
        """
        truth: list[Tensor] = []
        low = [x for _, x in self.stream(frames, clip, truth.append)]
        if not low:
            raise InputError("The degradation keeps no frame.", "Keep one that the clip has.")
        return torch.stack(truth), torch.stack(low)

    def stream(
        self,
        frames: Iterable[Tensor],
        clip: str = "",
        truth: Callable[[Tensor], None] = lambda frame: None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (index, low-resolution frame `[3, h, w]`), lazily, for frames `[3, H, W]`.

        `truth` is called with every frame of the ground truth, ahead of its result.
        """
        scene, stages = self.draw(clip)
        items: Frames = ((i, self._cut(frame)[None]) for i, frame in enumerate(frames))
        first = next(items, None)
        if first is None:
            return
        height, width = first[1].shape[-2:]
        sizes = Sizes((height, width), (height // self.scale, width // self.scale), self.scale)
        items = _after(first, items)
        for drawn in scene:
            items = drawn.apply(items, sizes)
        items = _watched(items, truth)
        for drawn in stages:
            items = drawn.apply(items, sizes)
        for index, x in items:
            yield index, self._finished(x, sizes)[0]

    def draw(self, clip: str = "") -> tuple[list[Drawn], list[Drawn]]:
        """The parameters of a clip: of the scene stages and of the degrading ones.

        They come in the order in which they apply; stages that leave this clip alone are left out.
        """
        name = int.from_bytes(hashlib.blake2b(clip.encode(), digest_size=8).digest(), "little")
        key, recipe = (self.seed % 2**64, name), self.recipe
        after = sum(stage.places for stage in recipe.scene)
        return (
            draw_all(recipe.scene, key, 0, self.scale),
            draw_all(recipe.stages, key, after, self.scale),
        )

    def describe(self, clip: str = "") -> list[dict[str, Any]]:
        """The parameters of a clip's first frame, in the order of the stages, for records."""
        scene, stages = self.draw(clip)
        return [drawn.describe() for drawn in scene + stages]

    def _cut(self, frame: Tensor) -> Tensor:
        height, width = (side // self.scale * self.scale for side in frame.shape[-2:])
        if not (height and width):
            shape = f"{frame.shape[-1]}x{frame.shape[-2]}"
            raise InputError(
                f"Frames of {shape} pixels cannot be shrunk {self.scale} times.",
                "Use larger frames or a smaller scale.",
            )
        return frame[..., :height, :width]

    def _finished(self, x: Tensor, sizes: Sizes) -> Tensor:
        if tuple(x.shape[-2:]) != sizes.low:
            ends, wanted = (f"{w}x{h}" for h, w in (x.shape[-2:], sizes.low))
            raise UsageError(
                f"The recipe {self.recipe.name} ends at {ends} pixels instead of {wanted}.",
                'End it with a resize relative_to = "output", a stride or an observe.',
            )
        return quantize(x) if self.recipe.quantize else x.clamp(0, 1)


def _after(first: tuple[int, Tensor], rest: Frames) -> Frames:
    yield first
    yield from rest


def _watched(items: Frames, see: Callable[[Tensor], None]) -> Frames:
    for index, x in items:
        see(x[0])
        yield index, x
