"""How a run looks in a terminal, and in a pipe."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from framelift.errors import Exit, FrameliftError, StoppedError
from framelift.types import Progress

PLAIN_SECONDS = 5.0  # between two lines when standard error is not a terminal


def say(text: str) -> None:
    """Write a line for the user; standard output is left to --json.

    Nobody may be listening any more: that must not end a run.
    """
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def complain(error: FrameliftError, about: str = "") -> None:
    """Write what is wrong and what to do."""
    say(f"framelift: {about}: {error.problem}" if about else f"framelift: {error.problem}")
    if error.remedy:
        say(error.remedy)


def use_threads(count: int | None) -> None:
    """Let torch and OpenCV use so many CPU threads, if the user says how many."""
    if count is not None:
        import cv2
        import torch

        torch.set_num_threads(count)
        cv2.setNumThreads(count)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM for the engine; the second one stops at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt(number)
        received.append(number)
        say("Stopping after this window; once more to stop at once.")

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, handle) for kind in kinds}
    try:
        yield received
    except StoppedError as error:
        error.exit_code = Exit.TERMINATED if signal.SIGTERM in received else Exit.INTERRUPTED
        raise
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)


class Display:
    """Draws progress events: a bar on a terminal, a plain line now and then in a pipe."""

    def __init__(self, title: str, quiet: bool) -> None:
        self._title, self._quiet = title, quiet
        self._bar: Any = None
        self._task: Any = None
        self._stage = ""
        self._started = self._shown = time.monotonic()
        self._first = 0

    def __enter__(self) -> "Display":
        if not self._quiet and sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, facts="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Show what is going on before anything can be counted."""
        if self._bar is not None:
            self._bar.update(self._task, facts=text)

    def __call__(self, event: Progress) -> None:
        if event.stage in ("note", "warning"):
            self._message(event)
            return
        if event.stage != self._stage:
            self._stage, self._first = event.stage, event.done
            self._started = time.monotonic()
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=event.done,
                total=event.total or None,
                facts=self._facts(event),
            )
        elif not self._quiet and time.monotonic() - self._shown > PLAIN_SECONDS:
            self._shown = time.monotonic()
            say(f"{self._title}: {event.done}/{event.total or '?'} {self._facts(event)}")

    def _message(self, event: Progress) -> None:
        text = f"warning: {event.note}" if event.stage == "warning" else event.note
        if self._bar is not None:
            style = "yellow" if event.stage == "warning" else ""
            self._bar.console.print(text, style=style, markup=False)
        elif not self._quiet or event.stage == "warning":
            say(text)

    def _facts(self, event: Progress) -> str:
        if event.stage == "survey":
            return "reading"
        if event.stage == "finish":
            return "joining, checking"
        seconds, frames = time.monotonic() - self._started, event.done - self._first
        if frames <= 0:
            return ", ".join(filter(None, ["sampling", event.note, _memory()]))
        left = seconds / frames * (event.total - event.done)
        speed = f"{frames / seconds:.2f} frames/s"
        return ", ".join(filter(None, [speed, f"{clock(left)} left", event.note, _memory()]))


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(stderr=True),
    )


def _memory() -> str:
    import psutil

    return f"{psutil.Process().memory_info().rss / 2**30:.1f} GiB"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
