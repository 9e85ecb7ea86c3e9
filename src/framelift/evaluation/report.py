"""Results as a table in the terminal, and as JSON, CSV and Markdown."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framelift.files import atomic, write_json
from framelift.metrics.registry import METRICS

MEAN, TRUTH = "mean", "ground truth"
SHOWN_CLIPS = 12  # more than these are left to the files
ARROWS = {"higher": "↑", "lower": "↓", "reference": "→"}

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Results:
    """Means over the frames of every clip.

    `metrics` tells which way is better; `values[clip][method][metric]`; `own[clip][metric]` is the
    ground truth's own value. `record` is everything else that belongs in results.json.
    """

    metrics: dict[str, str]
    methods: tuple[str, ...]
    values: dict[str, dict[str, dict[str, float | None]]]
    own: dict[str, dict[str, float | None]]
    record: dict[str, Any]

    def mean(self, method: str, metric: str) -> float | None:
        """Mean over the clips of one method's values, each clip counting the same."""
        return average([clip[method][metric] for clip in self.values.values()])

    def truth(self) -> dict[str, Numbers]:
        """The means of the ground truth's own values under its name, if there are any."""
        own = {m: average([clip.get(m) for clip in self.own.values()]) for m in self.metrics}
        return {TRUTH: own} if any(v is not None for v in own.values()) else {}

    def rows(self) -> Iterator[tuple[str, str, Numbers]]:
        """Clip, method and values; the ground truth's own after the methods, the means last."""
        for clip, methods in self.values.items():
            yield from ((clip, method, methods[method]) for method in self.methods)
            if any(v is not None for v in self.own[clip].values()):
                yield clip, TRUTH, self.own[clip]
        for method in self.methods:
            yield MEAN, method, {metric: self.mean(method, metric) for metric in self.metrics}
        for name, own in self.truth().items():
            yield MEAN, name, own

    def save(self, folder: Path) -> None:
        """Write results.json, results.csv and results.md."""
        write_json(folder / "results.json", self.content())
        for name, text in (("results.csv", self.csv()), ("results.md", self.markdown())):
            with atomic(folder / name) as part:
                part.write_text(text, "utf-8")

    def content(self) -> dict[str, Any]:
        """What results.json holds."""
        means = {method: values for clip, method, values in self.rows() if clip == MEAN}
        numbers = {"mean": means, "clips": self.values, "ground_truth": self.own}
        return jsonable({**self.record, **numbers})

    def csv(self) -> str:
        """One line for each clip and method, full precision; the means are the clip "mean"."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["clip", "method", *self.metrics])
        for clip, method, values in self.rows():
            cells = [values.get(metric) for metric in self.metrics]
            writer.writerow([clip, method, *("" if v is None else repr(v) for v in cells)])
        return out.getvalue()

    def markdown(self) -> str:
        """The means, every clip, and what decides the numbers."""
        rows = list(self.rows())
        heads = self.headings()
        means = [[m, *self._cells(v)] for clip, m, v in rows if clip == MEAN]
        clips = [[clip, m, *self._cells(v)] for clip, m, v in rows if clip != MEAN]
        parts = [markdown_table(["method", *heads], means)]
        parts.append(markdown_table(["clip", "method", *heads], clips))
        parts.append("\n".join(f"- {line}" for line in self.record.get("facts", [])) + "\n")
        return "\n".join(parts)

    def headings(self) -> list[str]:
        """Metrics with an arrow to the better side."""
        return [f"{METRICS[name].title} {ARROWS[better]}" for name, better in self.metrics.items()]

    def show(self) -> None:
        """Print the table on standard output, the best method of each clip in bold."""
        from rich.markup import escape
        from rich.table import Table

        few = len(self.values) <= SHOWN_CLIPS
        table = Table("clip", "method", box=None, pad_edge=False)
        for heading in self.headings():
            table.add_column(heading, justify="right")
        rows = [row for row in self.rows() if few or row[0] == MEAN]
        best = self._best(rows)
        before = ""
        for clip, method, values in rows:
            if before and clip != before:
                table.add_section()
            cells = [
                f"[bold]{cell}[/bold]" if best.get((clip, metric)) == method else cell
                for metric, cell in zip(self.metrics, self._cells(values), strict=True)
            ]
            table.add_row(escape(clip) if clip != before else "", escape(method), *cells)
            before = clip
        wide_console().print(table)

    def _cells(self, values: Numbers) -> list[str]:
        return [number(values.get(metric), METRICS[metric].digits) for metric in self.metrics]

    def _best(self, rows: Sequence[tuple[str, str, Numbers]]) -> dict[tuple[str, str], str]:
        """The method that wins each clip and metric; none where there is nothing to choose."""
        found: dict[tuple[str, str], str] = {}
        for clip in {clip for clip, _, _ in rows} if len(self.methods) > 1 else ():
            for metric, better in self.metrics.items():
                own = next((v.get(metric) for c, m, v in rows if (c, m) == (clip, TRUTH)), None)
                scores = {
                    method: _rank(values[metric], better, own)
                    for c, method, values in rows
                    if c == clip and method != TRUTH and values[metric] is not None
                }
                if scores and (better != "reference" or own is not None):
                    found[clip, metric] = min(scores, key=lambda m: scores[m])
        return found


def _rank(value: float | None, better: str, own: float | None) -> float:
    assert value is not None
    if better == "reference":
        return abs(value - (own or 0))
    return -value if better == "higher" else value


def average(values: Sequence[float | None]) -> float | None:
    """Mean of what is there, None of nothing."""
    there = [v for v in values if v is not None]
    return math.fsum(there) / len(there) if there else None


def number(value: float | None, digits: int) -> str:
    """With as many decimals as papers print; – for nothing."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("inf", "∞")


def wide_console() -> Any:
    """Standard output, without an end of lines where it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=1000)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column's cells are escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(c.replace("|", "\\|") for c in r) + " |\n" for r in lines)


def jsonable(content: Any) -> Any:
    """`content` with infinite values as text, which JSON has no word for."""
    if isinstance(content, Mapping):
        return {key: jsonable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [jsonable(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content
