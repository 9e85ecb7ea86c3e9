"""What an operator sees of a video. No torch, no Ray."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["waiting", "running", "done", "failed"]


@dataclass
class VideoStatus:
    """`frames` are as far as headers tell until the video is surveyed; times are monotonic."""

    source: Path
    output: Path | None
    frames: int | None = None
    state: State = "waiting"
    done: int = 0
    problem: str = ""
    before: int = 0
    """Frames that an earlier run had done."""
    started: float | None = None
    ended: float | None = None

    @property
    def rate(self) -> float | None:
        """Frames a second of this run."""
        if self.started is None or self.done <= self.before:
            return None
        seconds = (self.ended or time.monotonic()) - self.started
        return (self.done - self.before) / max(seconds, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds until it is done at this rate."""
        if self.state != "running" or self.rate is None or self.frames is None:
            return None
        return (self.frames - self.done) / self.rate

    def as_json(self) -> dict[str, Any]:
        """A line of the log."""
        line: dict[str, Any] = {
            "video": str(self.source),
            "output": str(self.output) if self.output else None,
            "state": self.state,
            "frames": self.frames,
            "done": self.done,
            "frames_per_second": round(self.rate, 3) if self.rate else None,
            "seconds_left": round(self.left) if self.left is not None else None,
        }
        return line | ({"error": self.problem} if self.problem else {})
