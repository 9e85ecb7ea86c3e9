"""`framelift upscale --cluster`: the table of a library, lines of JSON, exit codes."""

import io
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from framelift.cli.show import PLAIN_SECONDS, clock, say, stop_signals
from framelift.distributed.settings import ClusterSettings
from framelift.distributed.status import VideoStatus
from framelift.engine.settings import UpscaleSettings
from framelift.errors import Exit

ROWS = 20  # of the table: what runs and what has failed
DRAWS_A_SECOND = 2.0


def upscale_on_cluster(
    inputs: Sequence[Path],
    output: Path | None,
    settings: UpscaleSettings,
    method: Any,
    cluster: ClusterSettings,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run, or with `dry_run` plan, a library; returns the exit code of the batch."""
    from framelift.distributed.library import upscale
    from framelift.engine.batch import folders_left_out

    for folder in folders_left_out(inputs):
        say(f"note: the folder {folder} is not entered; name it to upscale what it holds.")
    if dry_run:
        return _describe(inputs, output, settings, method, cluster, as_json, quiet)
    table = Table(quiet, as_json)
    with table, stop_signals() as stop, redirect_stdout(io.StringIO()):  # Ray writes to it
        outcomes = upscale(
            inputs,
            output,
            settings,
            cluster,
            method=method,
            on_change=table,
            on_message=table.message,
            should_stop=lambda: bool(stop),
        )
    if as_json:
        for outcome in outcomes:
            if outcome.record is not None:
                _write({"video": str(outcome.source), "record": outcome.record})
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if not quiet:
        say(f"{len(outcomes) - len(failed)} of {len(outcomes)} videos are done.")
    for outcome in failed:
        say(f"framelift: {outcome.source}: {outcome.error}")
    return max((outcome.exit_code for outcome in outcomes), default=Exit.OK)


def _describe(
    inputs: Sequence[Path],
    output: Path | None,
    settings: UpscaleSettings,
    method: Any,
    cluster: ClusterSettings,
    as_json: bool,
    quiet: bool,
) -> int:
    from framelift.distributed.library import estimate

    found = estimate(inputs, output, settings, cluster, method=method)
    if as_json:
        for line in found.videos:
            _write(line)
        _write(
            {
                "workers": found.workers,
                "threads": found.threads,
                "seconds": round(found.seconds),
            }
        )
    if not quiet:
        for line in found.videos:
            about = line.get("error") or (
                f"→ {line['output']}, {line['frames'] or '?'} frames, "
                f"about {clock(line['worker_seconds'])} of a worker"
            )
            say(f"{line['video']}: {about}")
        say(
            f"{len(found.videos)} videos on {found.workers} workers of {found.threads} threads: "
            f"about {clock(found.seconds)}; nothing was written"
        )
    return Exit.BAD_INPUT if any("error" in line for line in found.videos) else Exit.OK


class Table:
    """Every video of a run with its state: drawn on a terminal, lines in a pipe."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self._quiet = quiet
        self._lines = sys.stdout if as_json else None
        self._videos: dict[Path, VideoStatus] = {}
        self._states: dict[Path, str] = {}
        self._live: Any = None
        self._drawn = self._lined = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> "Table":
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), auto_refresh=False, redirect_stdout=False
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def __call__(self, status: VideoStatus) -> None:
        """A video has changed."""
        self._videos[status.source] = status
        now = time.monotonic()
        changed = self._states.get(status.source) != status.state
        self._states[status.source] = status.state
        if self._lines is not None and (changed or now - self._lined > PLAIN_SECONDS):
            _write(status.as_json(), self._lines)
        if self._live is not None:
            if changed or now - self._drawn > 1 / DRAWS_A_SECOND:
                self._drawn = now
                self._live.update(self._table(), refresh=True)
        elif not self._quiet:
            if changed and status.state in ("done", "failed"):
                say(f"{status.source}: {status.state}{_facts(status)}")
            elif now - self._lined > PLAIN_SECONDS:
                say(self._summary())
        if now - self._lined > PLAIN_SECONDS:
            self._lined = now

    def message(self, text: str) -> None:
        """Something that an operator should know."""
        if self._live is not None:
            self._live.console.print(text, markup=False)
        elif not self._quiet or "warning" in text:
            say(text)

    def _summary(self) -> str:
        counts = Counter(status.state for status in self._videos.values())
        done = sum(status.done - status.before for status in self._videos.values())
        total = sum(status.frames or 0 for status in self._videos.values())
        ready = sum(status.done for status in self._videos.values())
        seconds = time.monotonic() - self._started
        states = ("waiting", "running", "done", "failed")
        text = ", ".join(f"{counts[state]} {state}" for state in states)
        if done <= 0:
            return text
        left = clock((total - ready) * seconds / done) if total > ready else "0:00"
        return f"{text}: {done / seconds:.2f} frames/s, {left} left"

    def _table(self) -> Any:
        from rich.table import Table as Rows
        from rich.text import Text

        rows = Rows("video", "state", "frames", "frames/s", "left", caption=self._summary())
        order = {"running": 0, "failed": 1, "waiting": 2, "done": 3}
        shown = sorted(self._videos.values(), key=lambda status: order[status.state])
        for status in shown[:ROWS]:
            rate, left = status.rate, status.left
            rows.add_row(
                Text(status.source.name),
                status.state,
                f"{status.done}/{status.frames or '?'}",
                f"{rate:.2f}" if rate else "",
                clock(left) if left is not None else "",
            )
        if len(shown) > ROWS:
            rows.add_row(f"and {len(shown) - ROWS} more", "", "", "", "")
        return rows


def _facts(status: VideoStatus) -> str:
    if status.problem:
        return f": {status.problem}"
    rate = f", {status.rate:.2f} frames/s" if status.rate else ""
    return f": {status.output}, {status.done} frames{rate}"


def _write(line: dict[str, Any], stream: TextIO | None = None) -> None:
    target = sys.stdout if stream is None else stream
    target.write(json.dumps(line, default=str) + "\n")
    target.flush()
