"""The log of a run: one JSON object a line, and TensorBoard if wanted."""

import json
import math
import time
from pathlib import Path
from typing import Any

from framelift.files import atomic


class Track:
    """Averages what is added between two records, and appends records to `log.jsonl`.

    A process that is not `active` averages and writes nothing.
    """

    def __init__(
        self, output: Path, first_step: int, tensorboard: bool, active: bool = True
    ) -> None:
        self.path, self.active = output / "log.jsonl", active
        self.validated = False  # the step from which a run goes on
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._board: Any = None
        if active:
            self._forget_after(first_step)
        if active and tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(output / "tensorboard"))

    def add(self, values: dict[str, float]) -> None:
        """Collect the values of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The averages since they were last taken."""
        means = {name: self._sums[name] / self._counts[name] for name in self._sums}
        self._sums, self._counts = {}, {}
        return means

    def write(self, step: int, values: dict[str, float]) -> str:
        """Append one record; returns a line to show."""
        if self.active:
            record = {"step": step, "time": round(time.time(), 1), **values}
            with self.path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        return f"step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in values.items())

    def _forget_after(self, step: int) -> None:
        """Drop records that a resumed run is going to write again."""
        if self.path.exists():
            lines = [line for line in self.path.read_text("utf-8").splitlines() if line.strip()]
            kept = [line for line in lines if _step(line) <= step]
            self.validated = any(_step(k) == step and '"held_out_' in k for k in kept)
            with atomic(self.path) as part:
                part.write_text("".join(f"{line}\n" for line in kept), "utf-8")


def _step(line: str) -> float:
    """The step of a record; a line that a crash cut short belongs to none."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
