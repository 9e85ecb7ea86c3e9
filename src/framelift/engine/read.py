"""Frames of the input as tensors that carry their times, window by window, in one pass."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from framelift.engine.survey import Survey
from framelift.errors import InputError
from framelift.images import to_tensor
from framelift.ops.windows import Window
from framelift.video.read import Captions, Frame, VideoReader


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames `[T, 3, H, W]`, float32 RGB in [0, 1], with the time of each.

    `pts` (strictly increasing) and `durations` are in the time base of the source. `captions`
    are `video.read.Frame.captions`, for all frames or for none.
    """

    frames: Tensor
    pts: tuple[int, ...]
    durations: tuple[int, ...]
    captions: tuple[Captions | None, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.pts) == len(self.durations):
            raise ValueError(
                f"{len(self.frames)} frames, {len(self.pts)} times, {len(self.durations)} durations"
            )
        if any(later <= earlier for earlier, later in pairwise(self.pts)):
            raise ValueError(f"times do not increase: {self.pts}")

    def __len__(self) -> int:
        return len(self.pts)

    def first(self, count: int) -> "FrameBatch":
        """The first frames."""
        times = self.pts[:count], self.durations[:count]
        return FrameBatch(self.frames[:count], *times, self.captions[:count])


class WindowReader:
    """Serves overlapping windows of the surveyed frames; holds one window at a time."""

    def __init__(self, reader: VideoReader, facts: Survey) -> None:
        self._path, self._facts = reader.path, facts
        self._frames: Iterator[Frame] = islice(iter(reader), facts.first, facts.stop)
        self._held: deque[tuple[int, Frame, Tensor]] = deque()
        self._next = 0

    def read(self, window: Window) -> FrameBatch:
        """The frames of a window; windows must not go back.

        Raises InputError where the video is not what was surveyed any more.
        """
        while self._held and self._held[0][0] < window.start:
            self._held.popleft()
        while self._next < window.stop:
            frame = next(self._frames, None)
            if frame is None or frame.pts != self._facts.pts[self._facts.first + self._next]:
                raise InputError(
                    f"{self._path} has changed while it was being upscaled.",
                    "Leave it as it is until the run has finished, then start again.",
                )
            if self._next >= window.start:
                self._held.append((self._next, frame, to_tensor(frame.rgb())))
            self._next += 1
        frames = torch.stack([tensor for _, _, tensor in self._held])
        pts, durations = zip(*((f.pts, f.duration) for _, f, _ in self._held), strict=True)
        captions = tuple(f.captions() for _, f, _ in self._held)
        return FrameBatch(frames, pts, durations, captions if any(captions) else ())
