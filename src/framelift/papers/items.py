"""The papers' tables and figures, one TOML file each: on what data, how, and what was published.

`framelift reproduce PAPER/ITEM` makes one; docs/evaluation.md shows how to add one.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from framelift.config import from_mapping, read_toml
from framelift.errors import UsageError
from framelift.weights.presets import suggest

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Data:
    """A dataset of an item."""

    name: str
    """Name as in `framelift data`."""
    split: str | None = None
    recipe: str | None = None
    """Degradation (default: the published low-resolution clips, else bi)."""
    clips: tuple[str, ...] = ()
    """Only these clips."""


@dataclass(frozen=True)
class Row:
    """A row of a table. Without `method`, only its published values are shown."""

    title: str
    method: str = ""
    """Baseline or preset that is run for it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the method, such as an ablation's."""
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """The paper's values: `published[dataset][metric]`."""


@dataclass(frozen=True)
class Size:
    """How much is computed: of every clip, and by a function."""

    crop: int | None = None
    frames: int | None = None
    setup: dict[str, Any] = field(default_factory=dict)
    """For kind "function": what else the function takes; the reduced setup says what differs from
    the full one. `--options` may change whatever the full setup names."""


@dataclass(frozen=True)
class Item:
    """A table or a figure of a paper."""

    title: str
    paper: str
    name: str = ""
    """paper/item, from the file's place."""
    kind: Literal["table", "function"] = "table"
    """A table of rows and metrics, or whatever `function` makes."""
    function: str = ""
    """For kind "function": "module:name" of a callable that takes a `reproduce.Request` and
    returns a `reproduce.Reproduction`."""
    preset: str = ""
    """For kind "function": the preset that it runs, unless `--preset` names another."""
    protocol: str = "framelift"
    metrics: tuple[str, ...] = ()
    """Columns of the table, in the paper's order."""
    data: tuple[Data, ...] = ()
    rows: tuple[Row, ...] = ()
    reduced: Size = Size(crop=256, frames=8)
    """What is computed unless --full is given."""
    full: Size = Size()
    """What the paper computes."""
    notes: str = ""
    """What a reader must know to compare the numbers."""


def list_items() -> list[Item]:
    """All items, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*/*.toml"))]


def load_item(name: str) -> Item:
    """An item by its name, paper/item; hyphens and underscores do not matter."""
    known = {_name(path): path for path in FOLDER.glob("*/*.toml")}
    for found, path in known.items():
        if _plain(found) == _plain(name):
            return _read(path)
    raise UsageError(f"There is no item {name!r}.", suggest(name, known))


def _name(path: Path) -> str:
    return f"{path.parent.name.replace('_', '-')}/{path.stem}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _read(path: Path) -> Item:
    content = read_toml(path, "item")
    tables = {
        name: tuple(from_mapping(kind, t, f"{path}, {name}") for t in content.pop(name, ()))
        for name, kind in (("data", Data), ("rows", Row))
    }
    item = from_mapping(Item, content, str(path))
    return replace(item, name=_name(path), **tables)
