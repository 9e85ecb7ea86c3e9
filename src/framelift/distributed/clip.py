"""A video as one worker has it: its plan, its reader, and windows that wait for a tail."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from framelift.engine.journal import Journal
from framelift.files import atomic
from framelift.video.faults import writing

if TYPE_CHECKING:
    from torch import Tensor

    from framelift.engine.read import FrameBatch, WindowReader
    from framelift.engine.run import Stopwatch
    from framelift.engine.upscale import Clip


PATIENCE = 60  # seconds


class OpenClip:
    """`tile` is the side of tiles that has worked here last."""

    def __init__(self, clip: "Clip") -> None:
        self.clip = clip
        self.tile = clip.plan.tile
        self._reader: WindowReader | None = None
        self._at = 0

    def journal(self) -> Journal:
        """The journal, whose lock the driver holds."""
        return Journal(self.clip.job.output)

    def watch(self, total: float = 0.0) -> "Stopwatch":
        """A stopwatch that began `total` seconds ago."""
        from framelift.engine.run import Stopwatch

        return Stopwatch(time.perf_counter() - total)

    def read(self, index: int) -> "FrameBatch":
        """The frames of a window. Going forward decodes on; going back begins again."""
        from framelift.engine.read import WindowReader

        window = self.clip.plan.windows[index]
        if self._reader is None or window.start < self._at:
            self._reader = WindowReader(self.clip.reader, self.clip.facts)
        self._at = window.start
        try:
            return self._reader.read(window)
        except BaseException:
            self._reader = None
            raise

    def write(
        self,
        journal: Journal,
        watch: "Stopwatch",
        index: int,
        batch: "FrameBatch",
        sr: "Tensor",
        tile: int,
    ) -> None:
        """Blend with the tail before, encode and record a window."""
        from framelift.engine.run import WindowWriter

        WindowWriter(self.clip.job, self.clip.plan, journal, watch).write(index, batch, sr, tile)

    def wait_for_tail(self, index: int) -> None:
        """Wait until this machine sees what the window before holds back.

        A network file system may show another machine's files late; listing a folder asks it.
        """
        journal = self.journal()
        for _ in range(PATIENCE):
            if journal.tail(index - 1) is not None:
                return
            list(journal.folder.iterdir())
            time.sleep(1)

    def hold(self, index: int, batch: "FrameBatch", sr: "Tensor", tile: int) -> None:
        """Store a computed window, float32 as it is, and the frames that it was made of.

        Frames with captions are read again instead: captions are no tensor.
        """
        from safetensors.torch import save

        tensors = {"sr": sr.float().contiguous()}
        if not batch.captions:
            tensors["lr"] = batch.frames.contiguous()
        path = self.held_path(index)
        with writing(path), atomic(path) as part:
            part.write_bytes(save(tensors, {"tile": json.dumps(tile)}))

    def release(self, index: int) -> "tuple[FrameBatch, Tensor, int]":
        """A held window: its frames, what became of them, its tile side."""
        from safetensors import safe_open

        from framelift.engine.read import FrameBatch

        window, facts = self.clip.plan.windows[index], self.clip.facts
        with safe_open(self.held_path(index), "pt") as stored:
            sr, tile = stored.get_tensor("sr"), json.loads(stored.metadata()["tile"])
            lr = stored.get_tensor("lr") if "lr" in stored.keys() else None  # noqa: SIM118
        if lr is None:
            return self.read(index), sr, tile
        span = slice(facts.first + window.start, facts.first + window.stop)
        return FrameBatch(lr, facts.pts[span], facts.durations[span]), sr, tile

    def held_path(self, index: int) -> Path:
        """Where a held window lies."""
        return self.journal().folder / f"{index:06d}.held.safetensors"
