"""Draw the held-out losses of training runs: scripts/loss_curve.py OUT.svg RUN [RUN ...]

Each run is a folder with log.jsonl; runs follow one another on the horizontal axis. Every loss term
has a panel with a logarithmic scale. A PNG of the same name is written as well.
"""

import json
import sys
from pathlib import Path

from framelift.papers.curves import Curve, Panel, draw_curves


def read(runs: list[Path]) -> tuple[dict[str, list[tuple[int, float]]], list[int]]:
    """Held-out curves by name, as (step, value), and the steps at which runs end."""
    curves: dict[str, list[tuple[int, float]]] = {}
    ends, first = [], 0
    for run in runs:
        records = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
        for record in records:
            for name, value in record.items():
                if name.startswith("held_out_"):
                    curves.setdefault(name.removeprefix("held_out_"), []).append(
                        (first + record["step"], value)
                    )
        first += records[-1]["step"]
        ends.append(first)
    return curves, ends


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    curves, ends = read([Path(p) for p in sys.argv[2:]])
    panels = [
        Panel(
            [Curve(points)],
            f"{name}, held out",
            "steps",
            log_y=min(value for _, value in points) > 0,
            borders=ends[:-1],
        )
        for name, points in curves.items()
    ]
    draw_curves(Path(sys.argv[1]), panels)


if __name__ == "__main__":
    main()
