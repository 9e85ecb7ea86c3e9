"""Two groups of stages in random order."""

from dataclasses import dataclass

import numpy as np

from framelift.degrade.stages.base import PARAMETERS, Drawn, Stage, check_ranges, draw_all


@dataclass(frozen=True)
class Shuffle(Stage):
    """Two groups of stages in random order."""

    first: tuple[Stage, ...] = ()
    """The group that comes first unless they are swapped."""
    second: tuple[Stage, ...] = ()
    """The other group."""
    swap: float = 0.5
    """How often they change places."""

    def __post_init__(self) -> None:
        check_ranges(self, swap=(0, 1))

    @property
    def places(self) -> int:
        return 1 + sum(stage.places for stage in self.first + self.second)

    def draw_for(self, key: tuple[int, ...], place: int, scale: int) -> list[Drawn]:
        """The stages of both groups, each drawn at its own place, in this clip's order."""
        first = draw_all(self.first, key, place + 1, scale)
        after = place + 1 + sum(stage.places for stage in self.first)
        second = draw_all(self.second, key, after, scale)
        swapped = np.random.default_rng([*key, place, PARAMETERS]).random() < self.swap
        return second + first if swapped else first + second
