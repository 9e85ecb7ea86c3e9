"""In what order frames take their sampling steps, and who guides whom (Section 4.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Sampling = Literal["single", "autoregressive", "unidirectional", "bidirectional"]


@dataclass(frozen=True)
class Visit:
    """A frame takes a sampling step, guided by a neighbour's latest estimate (or by none)."""

    step: int
    frame: int
    neighbour: int | None


def visits(sampling: Sampling, frames: int, steps: int) -> Iterator[Visit]:
    """Every step of every frame, once, in order.

    Bidirectional sampling is Algorithm 1: all frames take a step before any takes the next, and
    the sweep turns round after each; the first frame of a sweep is not guided.
    """
    if sampling == "autoregressive":
        for frame in range(frames):
            for step in range(steps):
                yield Visit(step, frame, frame - 1 if frame else None)
        return
    for step in range(steps):
        backward = sampling == "bidirectional" and step % 2 == 1
        order = range(frames - 1, -1, -1) if backward else range(frames)
        neighbour = None
        for frame in order:
            yield Visit(step, frame, None if sampling == "single" else neighbour)
            neighbour = frame
