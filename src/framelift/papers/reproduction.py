"""What a reproduced table or figure is: published values beside ours, files, notes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from framelift.evaluation.report import TRUTH, jsonable, markdown_table, number, wide_console
from framelift.files import atomic, write_json
from framelift.metrics.registry import METRICS
from framelift.papers.items import Item, Row


@dataclass(frozen=True)
class Block:
    """One dataset of a table: `ours[row][metric]`, and what decides these numbers."""

    dataset: str
    title: str
    ours: dict[str, dict[str, float | None]] = field(default_factory=dict)
    facts: tuple[str, ...] = ()

    def cells(self, item: Item) -> tuple[list[str], list[list[str]]]:
        """Heads and rows: a published and an own column for a metric, and what fills either."""
        rows = [r for r in item.rows if self.dataset in r.published or r.title in self.ours]
        rows += [Row(TRUTH)] if TRUTH in self.ours else []
        published = any(self.dataset in row.published for row in rows)
        heads, columns = ["method"], [[row.title for row in rows]]
        for metric in item.metrics:
            info = METRICS[metric]
            if published:
                heads.append(f"{info.title}, paper")
                columns.append(
                    _as_printed([r.published.get(self.dataset, {}).get(metric) for r in rows])
                )
            heads.append(f"{info.title}, ours")
            ours = [self.ours.get(row.title, {}).get(metric) for row in rows]
            columns.append([number(value, info.digits) for value in ours])
        return heads, [list(row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Table:
    """A table of any shape; its numbers belong in the record as well."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Reproduction:
    """What was made: blocks of a table, other tables, files of a figure, sentences on them."""

    item: Item
    blocks: tuple[Block, ...] = ()
    tables: tuple[Table, ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Tables and notes."""
        parts = [f"# {self.item.paper}, {self.item.title}\n"]
        for block in self.blocks:
            parts.append(f"## {block.title}\n\n{markdown_table(*block.cells(self.item))}")
            parts.append("".join(f"- {fact}\n" for fact in block.facts))
        for table in self.tables:
            parts.append(f"## {table.title}\n\n{markdown_table(table.heads, table.rows)}")
        parts += [f"- {note}" for note in self.notes]
        return "\n".join(parts) + "\n"

    def save(self, folder: Path) -> None:
        """Write results.md and results.json."""
        with atomic(folder / "results.md") as part:
            part.write_text(self.markdown(), "utf-8")
        write_json(folder / "results.json", self.content())

    def content(self) -> dict[str, Any]:
        """What results.json holds."""
        content = {
            "item": asdict(self.item),
            "ours": {block.dataset: block.ours for block in self.blocks},
            "files": self.files,
            "notes": self.notes,
            **self.record,
        }
        return jsonable(content)

    def show(self) -> None:
        """Print on standard output."""
        from rich.markup import escape
        from rich.table import Table as RichTable

        console = wide_console()
        shown = [(b.title, *b.cells(self.item), b.facts) for b in self.blocks]
        shown += [(t.title, t.heads, t.rows, ()) for t in self.tables]
        for title, heads, rows, facts in shown:
            table = RichTable(title=escape(title), box=None, pad_edge=False, title_justify="left")
            for column, head in enumerate(heads):
                table.add_column(
                    escape(head.replace(", ", "\n")), justify="right" if column else "left"
                )
            for row in rows:
                table.add_row(*map(escape, row))
            console.print(table, *map(escape, facts), "", sep="\n")
        for line in [*map(str, self.files), *self.notes]:
            console.print(line, markup=False)


def _as_printed(values: Sequence[float | None]) -> list[str]:
    """A column of published values, with the decimals of the paper."""
    digits = max((len(f"{v:g}".partition(".")[2]) for v in values if v is not None), default=0)
    return [number(value, digits) for value in values]
