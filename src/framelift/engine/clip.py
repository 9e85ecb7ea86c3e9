"""Frames of the input as tensors, window by window, in one sequential pass."""

from collections import deque
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.images import to_tensor
from framelift.ops.windows import Window
from framelift.video.read import Frame, VideoReader


class Clip:
    """Serves overlapping windows of the frames from `first` on; holds one window at a time."""

    def __init__(self, reader: VideoReader, first: int) -> None:
        self._frames: Iterator[Frame] = iter(reader)
        self._first = first
        self._held: deque[tuple[int, Tensor]] = deque()
        self._next = 0

    def read(self, window: Window) -> Tensor:
        """Frames `[T, 3, H, W]` of a window, float32 RGB in [0, 1]; windows must not go back."""
        while self._held and self._held[0][0] < window.start:
            self._held.popleft()
        while self._next < window.stop:
            frame = next(self._frames)
            if frame.index < self._first:
                continue
            if self._next >= window.start:
                self._held.append((self._next, to_tensor(frame.rgb())))
            self._next += 1
        return torch.stack([tensor for _, tensor in self._held])

    def close(self) -> None:
        """Stop decoding."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Extend right and bottom to multiples by mirroring, or by repeating where too small."""
    bottom, right = -frames.shape[-2] % multiple, -frames.shape[-1] % multiple
    if not (bottom or right):
        return frames
    fits = bottom < frames.shape[-2] and right < frames.shape[-1]
    return F.pad(frames, (0, right, 0, bottom), mode="reflect" if fits else "replicate")
