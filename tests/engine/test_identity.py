"""An identity model through windows, tiles, padding and blending gives the input back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framelift.engine.plan import Plan
from framelift.engine.tiling import upscale_window
from framelift.errors import NoRoomError
from framelift.methods.base import ClipInfo, VSRPipeline
from framelift.ops.windows import CrossFade, sliding_windows
from framelift.types import Limits


class Identity(VSRPipeline):
    """Repeats every pixel `scale`² times."""

    def __init__(self, scale: int = 1, multiple: int = 1) -> None:
        super().__init__()
        self.scale, self.limits = scale, Limits(size_multiple=multiple)

    def __call__(self, frames, *, settings, noise=None, mask=None, on_step=None):
        multiple = self.limits.size_multiple
        assert frames.shape[-1] % multiple == frames.shape[-2] % multiple == 0
        return frames.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Hungry(Identity):
    """Asks the real allocator for more than there is while tiles are larger than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.seen = limit, []

    def __call__(self, frames, **named):
        self.seen.append(max(frames.shape[-2:]))
        if self.seen[-1] > self.limit:
            torch.empty(2**50)
        return super().__call__(frames, **named)


def plan(windows, pipeline, tile, overlap) -> Plan:
    return Plan(
        windows=windows,
        first=0,
        frames=max(window.stop for window in windows),
        scale=pipeline.scale,
        tile=tile,
        tile_overlap=overlap,
        threads=1,
        seed=0,
        color_fix="none",
        method=None,
        limits=pipeline.limits,
        identity={},
    )


def through_engine(pipeline, clip, windows, tile, overlap):
    fade, out, messages = CrossFade(), [], []
    for i, window in enumerate(windows):
        keep = windows[i + 1].overlap if i + 1 < len(windows) else 0
        part = clip[window.start : window.stop]
        settings = plan(windows, pipeline, tile, overlap)
        sr, tile = upscale_window(pipeline, part, window, settings, tile, warn=messages.append)
        out.append(fade.push(sr, window.overlap, keep))
    return torch.cat(out), messages


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_identity(data):
    frames = data.draw(st.integers(1, 14))
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    window = data.draw(st.integers(1, 8))
    overlap = data.draw(st.integers(0, window - 1))
    tile, tile_overlap = data.draw(st.integers(1, 48)), data.draw(st.integers(0, 16))
    scale, multiple = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.sampled_from([1, 2, 8]))
    cuts = data.draw(st.sets(st.integers(1, 13)))
    cuts = tuple(sorted(c for c in cuts if c < frames))
    seeded = torch.Generator().manual_seed(frames)
    clip = torch.randint(256, (frames, 3, height, width), generator=seeded) / 255

    pipeline = Identity(scale, multiple)
    windows = pipeline.plan(ClipInfo(frames, height, width, cuts), window, overlap)
    out, _ = through_engine(pipeline, clip, windows, tile, tile_overlap)

    expected = clip.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    assert (out - expected).abs().max() <= 1e-6
    assert torch.equal((out * 255).round(), (expected * 255).round())


def test_running_out_of_memory_halves_the_tile_aloud():
    pipeline, clip = Hungry(limit=20), torch.rand(2, 3, 48, 64)
    windows = sliding_windows(2, 1, 0)
    out, messages = through_engine(pipeline, clip, windows, 64, 4)
    assert torch.allclose(out, clip, atol=1e-6)
    assert "trying tiles of 32 pixels" in messages[0]
    assert sum(side > 20 for side in pipeline.seen) == len(messages), "the tile stays small"


def test_no_tile_is_small_enough():
    with pytest.raises(NoRoomError, match="Memory runs out"):
        through_engine(Hungry(limit=0), torch.rand(1, 3, 16, 16), sliding_windows(1, 1, 0), 16, 2)
