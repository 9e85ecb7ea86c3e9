"""Results as a table in the terminal, and as JSON, CSV and Markdown."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from framelift.files import atomic, write_json
from framelift.metrics.registry import METRICS

MEAN, TRUTH = "mean", "ground truth"
SECONDS = "seconds"
SHOWN_CLIPS = 12  # more than these are left to the files
ARROWS = {"higher": "↑", "lower": "↓", "reference": "→"}

Numbers = Mapping[str, float | None]


class Column(NamedTuple):
    """How values are shown: the heading, with an arrow to the better side, and decimals."""

    heading: str
    digits: int


@dataclass(frozen=True)
class Results:
    """Means over the frames of every clip.

    `metrics` tells which way is better; `values[clip][method][metric]`; `truth[clip][metric]` is
    what the metric says of the ground truth. `seconds[clip][method]` is the time of a frame, of
    methods that were run. `record` is everything else that belongs in results.json.
    """

    metrics: dict[str, str]
    methods: tuple[str, ...]
    values: dict[str, dict[str, dict[str, float | None]]]
    truth: dict[str, dict[str, float | None]]
    record: dict[str, Any]
    seconds: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def mean(self, method: str, metric: str) -> float | None:
        """Mean over the clips of one method's values, each clip counting the same."""
        return average([clip[method][metric] for clip in self.values.values()])

    def truth_means(self) -> dict[str, Numbers]:
        """The means of the ground truth's values under its name, if there are any."""
        truth = {m: average([clip.get(m) for clip in self.truth.values()]) for m in self.metrics}
        return {TRUTH: truth} if any(v is not None for v in truth.values()) else {}

    def rows(self) -> Iterator[tuple[str, str, Numbers]]:
        """Clip, method and values; the ground truth after the methods, the means last."""
        for clip, methods in self.values.items():
            spent = self.seconds.get(clip, {})
            for method in self.methods:
                yield clip, method, {**methods[method], SECONDS: spent.get(method)}
            if any(v is not None for v in self.truth[clip].values()):
                yield clip, TRUTH, self.truth[clip]
        for method in self.methods:
            means = {metric: self.mean(method, metric) for metric in self.metrics}
            spent = average([clip.get(method) for clip in self.seconds.values()])
            yield MEAN, method, {**means, SECONDS: spent}
        for name, truth in self.truth_means().items():
            yield MEAN, name, truth

    @property
    def columns(self) -> dict[str, Column]:
        """What a table shows: the metrics, and the time of methods that were run."""
        shown = {}
        for name, better in self.metrics.items():
            info = METRICS[name]
            shown[name] = Column(f"{info.title} {ARROWS[better]}", info.digits)
        if any(v is not None for spent in self.seconds.values() for v in spent.values()):
            shown[SECONDS] = Column("s a frame", 3)
        return shown

    def save(self, folder: Path) -> None:
        """Write results.json, results.csv and results.md."""
        write_json(folder / "results.json", self.content())
        for name, text in (("results.csv", self.csv()), ("results.md", self.markdown())):
            with atomic(folder / name) as part:
                part.write_text(text, "utf-8")

    def content(self) -> dict[str, Any]:
        """What results.json holds."""
        means = {
            method: {name: values.get(name) for name in self.columns}
            for clip, method, values in self.rows()
            if clip == MEAN
        }
        numbers = {"mean": means, "clips": self.values, "ground_truth": self.truth}
        numbers |= {"seconds_per_frame": self.seconds} if self.seconds else {}
        return jsonable({**self.record, **numbers})

    def csv(self) -> str:
        """One line for each clip and method, full precision; the means are the clip "mean"."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["clip", "method", *self.columns])
        for clip, method, values in self.rows():
            cells = [values.get(name) for name in self.columns]
            writer.writerow([clip, method, *("" if v is None else repr(v) for v in cells)])
        return out.getvalue()

    def markdown(self) -> str:
        """The means, every clip, and what decides the numbers."""
        rows = list(self.rows())
        heads = [column.heading for column in self.columns.values()]
        means = [[m, *self._cells(v)] for clip, m, v in rows if clip == MEAN]
        clips = [[clip, m, *self._cells(v)] for clip, m, v in rows if clip != MEAN]
        parts = [markdown_table(["method", *heads], means)]
        parts.append(markdown_table(["clip", "method", *heads], clips))
        parts.append("\n".join(f"- {line}" for line in self.record.get("facts", [])) + "\n")
        return "\n".join(parts)

    def show(self) -> None:
        """Print the table on standard output, the best method of each clip in bold."""
        from rich.markup import escape
        from rich.table import Table

        few = len(self.values) <= SHOWN_CLIPS
        table = Table("clip", "method", box=None, pad_edge=False)
        for column in self.columns.values():
            table.add_column(column.heading, justify="right")
        rows = [row for row in self.rows() if few or row[0] == MEAN]
        best = self._best(rows)
        before = ""
        for clip, method, values in rows:
            if before and clip != before:
                table.add_section()
            cells = [
                f"[bold]{cell}[/bold]" if best.get((clip, metric)) == method else cell
                for metric, cell in zip(self.columns, self._cells(values), strict=True)
            ]
            table.add_row(escape(clip) if clip != before else "", escape(method), *cells)
            before = clip
        wide_console().print(table)

    def _cells(self, values: Numbers) -> list[str]:
        return [number(values.get(name), column.digits) for name, column in self.columns.items()]

    def _best(self, rows: Sequence[tuple[str, str, Numbers]]) -> dict[tuple[str, str], str]:
        """The method that wins each clip and metric; none where there is nothing to choose."""
        found: dict[tuple[str, str], str] = {}
        for clip in {clip for clip, _, _ in rows} if len(self.methods) > 1 else ():
            for metric, better in self.metrics.items():
                truth = next((v.get(metric) for c, m, v in rows if (c, m) == (clip, TRUTH)), None)
                scores = {
                    method: _rank(values[metric], better, truth)
                    for c, method, values in rows
                    if c == clip and method != TRUTH and values[metric] is not None
                }
                if scores and (better != "reference" or truth is not None):
                    found[clip, metric] = min(scores, key=lambda m: scores[m])
        return found


def _rank(value: float | None, better: str, truth: float | None) -> float:
    assert value is not None
    if better == "reference":
        return abs(value - (truth or 0))
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
