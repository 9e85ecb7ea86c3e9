"""`framelift data check` and `framelift data list`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from framelift.cli.show import Display
from framelift.errors import Exit
from framelift.files import to_json
from framelift.types import Progress

if TYPE_CHECKING:
    from framelift.datasets.check import Report

SHOWN = 12  # sentences about what is wrong, so that the answer fits on a screen


@dataclass(frozen=True)
class Check:
    """Say whether a folder is the dataset that its name claims, and what is wrong.

    Exit code 0 if all is right, 4 if not.
    """

    name: tyro.conf.Positional[str]
    """Name of the dataset; see `framelift data list`."""
    root: tyro.conf.Positional[Path]
    """Folder that holds it."""
    split: str | None = None
    """Split (default: the first that `framelift data list` shows)."""
    lr: str | None = None
    """Kind of low-resolution frames: bi, bd or real (default: what is there)."""
    quick: bool = False
    """Decode one frame of every clip instead of all."""
    json: bool = False
    """Print everything as JSON."""

    def __call__(self) -> int:
        from framelift.datasets.check import check_dataset

        with Display(f"{self.name} in {self.root}", quiet=self.json) as display:
            report = check_dataset(
                self.name,
                self.root,
                self.split,
                self.lr,
                self.quick,
                lambda done, total: display(Progress("survey", done, total)),
            )
        sys.stdout.write(to_json(asdict(report)) + "\n" if self.json else _describe(report))
        return Exit.BAD_INPUT if report.wrong else Exit.OK


@dataclass(frozen=True)
class List:
    """List the datasets that framelift reads: splits, clips, sizes, licences."""

    json: bool = False
    """Print them as JSON."""

    def __call__(self) -> int:
        from framelift.datasets.catalog import DATASETS

        if self.json:
            facts = {
                name: {
                    "title": spec.title,
                    "splits": {split: spec.expected_clips(split) for split in spec.splits},
                    "frames": spec.frames,
                    "size": spec.size,
                    "scale": spec.scale,
                    "licence": spec.licence,
                    "home": spec.home,
                }
                for name, spec in DATASETS.items()
            }
            sys.stdout.write(to_json(facts) + "\n")
            return Exit.OK
        from rich.console import Console
        from rich.table import Table

        table = Table(
            "dataset", "what it is", "splits (clips)", "licence", box=None, pad_edge=False
        )
        for name, spec in DATASETS.items():
            splits = ((split, spec.expected_clips(split)) for split in spec.splits)
            counts = ", ".join(
                f"{split} ({count:,})" if count else split for split, count in splits
            )
            table.add_row(name, spec.title, counts, spec.licence)
        Console().print(table)
        return Exit.OK


def data(
    action: Annotated[
        Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[List, tyro.conf.subcommand("list")],
        tyro.conf.arg(name=""),
    ],
) -> int:
    """Check and list datasets."""
    return action()


def _describe(report: "Report") -> str:
    of = "" if report.expected_clips is None else f" of {report.expected_clips}"
    fewest, most = report.frames_per_clip
    each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    lines = [
        f"{report.name}, split {report.split}, in {report.root}: {report.where}",
        f"clips   {report.clips}{of}",
        f"frames  {report.frames}, {each} a clip",
        f"size    {_sizes(report.sizes)}",
        f"LR      {_sizes(report.lr_sizes)}",
        *(f"wrong   {sentence}" for sentence in report.wrong[:SHOWN]),
    ]
    if len(report.wrong) > SHOWN:
        lines.append(f"        … and {len(report.wrong) - SHOWN} more; --json lists all.")
    if not report.wrong:
        lines.append("Nothing is wrong.")
    return "\n".join(lines) + "\n"


def _sizes(sizes: dict[str, int]) -> str:
    shown = [f"{size} (clips: {count})" for size, count in list(sizes.items())[:4]]
    more = [f"and {len(sizes) - 4} more sizes"] if len(sizes) > 4 else []
    return ", ".join(list(sizes) if len(sizes) == 1 else shown + more) or "none"
