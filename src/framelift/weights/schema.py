"""What a preset says: components, sampler, limits, licence. No torch."""

from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["inline", "bundled", "hub", "folder"]


@dataclass(frozen=True)
class Component:
    """One part of a pipeline.

    `source` is "bundled:<folder>", a hub id "org/name", a path that starts with ".", "/" or "~", or
    empty for a scheduler that is made from `config`.
    """

    type: str
    """Import path of the class, see `methods/components.py`."""
    source: str = ""
    subfolder: str = ""
    revision: str = ""
    """Commit of a hub repository, 40 hexadecimal digits. Empty: not pinned, loading warns."""
    sha256: str = ""
    """Hash of the safetensors file; without it a bundled network does not load."""
    config: dict[str, Any] = field(default_factory=dict)
    """Arguments of a scheduler; beside a source, those in which it differs from its file."""

    @property
    def kind(self) -> Source:
        """Which kind of place `source` names."""
        if not self.source:
            return "inline"
        if self.source.startswith("bundled:"):
            return "bundled"
        return "folder" if self.source.startswith((".", "/", "~")) else "hub"


@dataclass(frozen=True)
class Preset:
    """A pipeline that can be loaded by name."""

    name: str
    kind: Literal["bundled", "published", "local"]
    """Weights inside the package, the original ones on the hub, or the user's own."""
    title: str
    licence: str
    """Terms of the weights."""
    components: dict[str, Component]
    licence_url: str = ""
    method: str = ""
    """Name of the method, see methods/registry.py."""
    description: str = ""
    training: str = ""
    """How the weights were trained."""
    scale: int = 4
    sampler: dict[str, Any] = field(default_factory=dict)
    """Arguments of the pipeline besides its components."""
    limits: dict[str, Any] = field(default_factory=dict)
    """Fields of `framelift.types.Limits` in which it differs from its method."""
    default: bool = False
    """Whether this preset is used when none is named; exactly one shipped preset is."""
    pipeline: str = ""
    """Pipeline class that a folder's model_index.json names, instead of a method."""
    released_as: str = ""
    """Pipeline class under which others released these weights: their folders are sampled alike."""
    folder: str = ""
    """Where relative sources start."""
    notice: str = ""
    """What whoever loads it should know."""

    @property
    def unpinned(self) -> tuple[str, ...]:
        """Components from the hub without a commit."""
        return tuple(n for n, c in self.components.items() if c.kind == "hub" and not c.revision)

    @property
    def awaits_weights(self) -> bool:
        """Whether a bundled part has never been filled in by scripts/bundle.py."""
        return any(c.kind == "bundled" and not c.sha256 for c in self.components.values())
