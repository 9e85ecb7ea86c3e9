"""Draw the held-out losses of training runs: scripts/loss_curve.py OUT.svg RUN [RUN ...]

Each run is a folder with log.jsonl; runs follow one another on the horizontal axis. Every loss term
is drawn on its own logarithmic scale, in its own panel.
"""

import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 150, 48


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


def panel(name: str, curve: list[tuple[int, float]], ends: list[int], top: int) -> str:
    low, high = (math.log(f(v for _, v in curve)) for f in (min, max))
    span = max(high - low, 1e-9)

    def place(step: int, value: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / ends[-1]
        y = top + HEIGHT - 30 - (HEIGHT - 50) * (math.log(value) - low) / span
        return f"{x:.1f},{y:.1f}"

    points = " ".join(place(*p) for p in curve)
    borders = "".join(
        f'<line x1="{MARGIN + (WIDTH - 2 * MARGIN) * e / ends[-1]:.1f}" y1="{top + 20}" '
        f'x2="{MARGIN + (WIDTH - 2 * MARGIN) * e / ends[-1]:.1f}" y2="{top + HEIGHT - 30}" '
        'stroke="#ccc"/>'
        for e in ends[:-1]
    )
    labels = (
        f'<text x="4" y="{top + 14}">{name}, held out</text>'
        f'<text x="4" y="{top + 30}">{math.exp(high):.3g}</text>'
        f'<text x="4" y="{top + HEIGHT - 30}">{math.exp(low):.3g}</text>'
        f'<text x="{WIDTH - 90}" y="{top + HEIGHT - 12}">{ends[-1]} steps</text>'
    )
    line = f'<polyline points="{points}" fill="none" stroke="#06c" stroke-width="1.5"/>'
    return borders + labels + line


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    curves, ends = read([Path(p) for p in sys.argv[2:]])
    body = "".join(panel(n, c, ends, HEIGHT * i) for i, (n, c) in enumerate(curves.items()))
    size = f'width="{WIDTH}" height="{HEIGHT * len(curves)}"'
    Path(sys.argv[1]).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{body}</svg>\n',
        "utf-8",
    )


if __name__ == "__main__":
    main()
