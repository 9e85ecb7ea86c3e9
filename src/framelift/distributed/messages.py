"""What the driver and its workers tell each other. No torch, no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from framelift.errors import Exit, FrameliftError


@dataclass(frozen=True)
class Share:
    """What a worker may use of its machine: CPU threads, a part of the memory, a GPU or none."""

    threads: int
    memory: float = 1.0
    gpu: bool = False


@dataclass(frozen=True)
class Failure:
    """A task that did not succeed; `final` if trying again cannot help."""

    problem: str
    remedy: str
    exit_code: Exit
    final: bool

    def as_error(self) -> FrameliftError:
        """The same for a user."""
        error = FrameliftError(self.problem, self.remedy)
        error.exit_code = self.exit_code
        return error

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


@dataclass(frozen=True)
class Probe:
    """What must be the same on all workers, and where this one is."""

    node: str
    host: str
    fingerprint: str
    device: str
    dtype: str
    versions: Mapping[str, str]

    def difference(self, other: "Probe") -> str:
        """In what two workers differ that decides the output's bits; "" if in nothing."""
        for name in ("versions", "fingerprint", "device", "dtype"):
            a, b = getattr(self, name), getattr(other, name)
            if a != b:
                what = "weights" if name == "fingerprint" else name
                return f"{what} are {_short(a)} on {self.host} and {_short(b)} on {other.host}"
        return ""


@dataclass(frozen=True)
class Prepared:
    """A planned video: `clip` is for workers only (pickled), the rest is for the queue."""

    clip: bytes
    frames: int
    fresh: tuple[int, ...]
    overlaps: tuple[int, ...]
    splittable: bool
    done: frozenset[int]
    tails: frozenset[int]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Computed:
    """A window that is recorded, or held until the tail of the one before it is there."""

    held: bool
    has_tail: bool
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A video that is whole."""

    record: Mapping[str, Any]
    warnings: tuple[str, ...]
    exit_code: Exit


@dataclass(frozen=True)
class Lost:
    """Windows that were recorded and are not on the disk any more."""

    windows: tuple[int, ...]


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
