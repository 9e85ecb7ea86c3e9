"""Temporal windows: where they lie and how their outputs cross-fade."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` (exclusive); the window before shares the first `overlap`."""

    start: int
    stop: int
    overlap: int = 0

    @property
    def length(self) -> int:
        return self.stop - self.start


def sliding_windows(
    frames: int, length: int, overlap: int, cuts: tuple[int, ...] = ()
) -> list[Window]:
    """Windows of at most `length` frames that cover every shot and share `overlap` frames.

    A shot's last window is moved back to full length where the shot is long enough, so that its
    overlap may be larger; without overlap it is left short. `cuts` are the first frames of all
    shots but the first, in order.
    """
    windows: list[Window] = []
    for first, last in pairwise(_borders(frames, length, overlap, cuts)):
        start, done = first, first
        while done < last:
            stop = min(start + length, last)
            start = max(first, stop - length) if overlap else start
            windows.append(Window(start, stop, done - start))
            done, start = stop, stop - overlap
    return windows


def even_windows(
    frames: int, length: int, overlap: int, cuts: tuple[int, ...] = ()
) -> list[Window]:
    """The fewest windows of at most `length` frames that cover every shot and share `overlap`.

    The windows of a shot differ by one frame at most, so that none is short and nothing is
    computed twice beyond the overlap. `cuts` as in `sliding_windows`.
    """
    windows = []
    for first, last in pairwise(_borders(frames, length, overlap, cuts)):
        new = last - first - overlap  # frames that are some window's own, were the first's shared
        count = max(1, -(-new // (length - overlap)))
        starts = [first + new * i // count for i in range(count)]
        stops = [*(start + overlap for start in starts[1:]), last]
        windows += [
            Window(start, stop, overlap if i else 0)
            for i, (start, stop) in enumerate(zip(starts, stops, strict=True))
            if stop > start
        ]
    return windows


def _borders(frames: int, length: int, overlap: int, cuts: tuple[int, ...]) -> list[int]:
    """Where shots begin, and the end; refuses settings that make no sense."""
    if not 0 <= overlap < length:
        raise ValueError(f"overlap must be at least 0 and below the window: {overlap}, {length}")
    borders = [0, *cuts, frames]
    if borders != sorted(borders):
        raise ValueError(f"cuts must be in order and within the clip: {cuts}, {frames} frames")
    return borders


def fade_in(overlap: int) -> Tensor:
    """Weights `[overlap]` of the later window, rising linearly between 0 and 1 (exclusive)."""
    return torch.arange(1, overlap + 1, dtype=torch.float32) / (overlap + 1)


class CrossFade:
    """Joins the outputs of consecutive windows into a stream of finished frames.

    Holds back the frames that the next window shares: `tail` `[overlap, 3, H, W]`, float32, is
    all the state there is, and may be stored and put back.
    """

    def __init__(self, tail: Tensor | None = None) -> None:
        self.tail = tail

    def push(self, frames: Tensor, overlap: int, keep: int) -> Tensor:
        """Blend a window's output and return its finished frames.

        The first `overlap` frames of `frames` `[T, 3, H, W]` are blended with the tail; the last
        `keep` are held back as the new tail.
        """
        frames = frames.float()
        held = 0 if self.tail is None else len(self.tail)
        if held != overlap or not 0 <= keep <= len(frames):
            raise ValueError(
                f"{held} frames held, {overlap} shared, {keep} of {len(frames)} to keep"
            )
        if self.tail is not None:
            weight = fade_in(overlap).to(frames.device)[:, None, None, None]
            blended = torch.lerp(self.tail.to(frames.device), frames[:overlap], weight)
            frames = torch.cat([blended, frames[overlap:]])
        finished = len(frames) - keep
        self.tail = frames[finished:].clone() if keep else None
        return frames[:finished]
