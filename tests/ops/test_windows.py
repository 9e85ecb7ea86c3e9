import io
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from framelift.ops.tiles import blend_tiles, plan_tiles
from framelift.ops.windows import CrossFade, Window, even_windows, fade_in, sliding_windows

planners = st.sampled_from([sliding_windows, even_windows])


@st.composite
def plans(draw):
    """(frames, length, overlap, cuts) of a clip; cuts may repeat and lie on its ends."""
    frames = draw(st.integers(0, 40))
    length = draw(st.integers(1, 10))
    overlap = draw(st.integers(0, length - 1))
    cuts = draw(st.lists(st.integers(0, frames), max_size=4))
    return frames, length, overlap, tuple(sorted(cuts))


def with_next(windows: list[Window]):
    end = windows[-1].stop if windows else 0
    return pairwise([*windows, Window(end, end)])


def stored(tail: Tensor | None) -> Tensor | None:
    if tail is None:
        return None
    file = io.BytesIO()
    torch.save(tail, file)
    file.seek(0)
    return torch.load(file)


def faded(windows: list[Window], outputs: list[Tensor]) -> Tensor:
    """The stream that comes out, as a run gives it that is stopped and resumed at every window."""
    tail, finished = None, []
    for (window, following), output in zip(with_next(windows), outputs, strict=True):
        fade = CrossFade(stored(tail))
        finished.append(fade.push(output, window.overlap, following.overlap))
        tail = fade.tail
    assert tail is None
    return torch.cat(finished)


@given(plans(), planners)
def test_windows_cover_the_clip_in_order(plan, planner):
    frames, length, overlap, cuts = plan
    windows = planner(frames, length, overlap, cuts)
    done = 0
    for window in windows:
        assert window.start == done - window.overlap
        assert done < window.stop <= frames
        assert window.length <= length
        done = window.stop
    assert done == frames


@given(plans(), planners)
def test_no_window_crosses_a_cut(plan, planner):
    frames, length, overlap, cuts = plan
    for window in planner(frames, length, overlap, cuts):
        assert not any(window.start < cut < window.stop for cut in cuts)


@given(plans())
def test_windows_overlap_within_a_shot_and_stay_full(plan):
    frames, length, overlap, cuts = plan
    for window in sliding_windows(frames, length, overlap, cuts):
        if window.start in (0, *cuts):
            assert window.overlap == 0
        else:
            assert window.overlap >= overlap
            assert window.length == length or overlap == 0


@given(plans())
def test_even_windows_are_few_and_equal(plan):
    frames, _, overlap, cuts = plan
    windows = even_windows(*plan)
    for first, last in pairwise([0, *cuts, frames]):
        own = [w for w in windows if first <= w.start < last]
        assert len(own) <= len([w for w in sliding_windows(*plan) if first <= w.start < last])
        lengths = [w.length for w in own]
        assert not lengths or max(lengths) - min(lengths) <= 1
        assert all(w.overlap == (0 if w.start == first else overlap) for w in own)


@given(plans(), planners)
def test_weights_sum_to_one(plan, planner):
    """Where one window's output is 1 and all others' is 0, the stream is that window's weight."""
    windows = planner(*plan)
    total = torch.zeros(plan[0])
    for i, own in enumerate(windows):
        outputs = [torch.full((w.length, 1, 1, 1), float(i == j)) for j, w in enumerate(windows)]
        weight = faded(windows, outputs).flatten()
        assert weight.min() >= 0
        assert not weight[: own.start].any()
        assert not weight[own.stop :].any()
        total += weight
    assert torch.allclose(total, torch.ones(plan[0]), atol=1e-6, rtol=0)


@given(plans().filter(lambda plan: plan[0]), planners, st.booleans())
def test_identity_returns_the_clip(plan, planner, half):
    clip = torch.rand(plan[0], 3, 2, 2).to(torch.bfloat16 if half else torch.float32)
    windows = planner(*plan)
    stream = faded(windows, [clip[w.start : w.stop] for w in windows])
    assert stream.dtype == torch.float32
    assert torch.equal(stream, clip.float())


@given(plans().filter(lambda plan: plan[0]), st.integers(1, 12), st.integers(1, 12), st.data())
def test_identity_through_windows_and_tiles(plan, height, width, data):
    tile = data.draw(st.integers(1, 12))
    tiles = plan_tiles(height, width, tile, data.draw(st.integers(0, tile - 1)))
    clip = torch.randint(256, (plan[0], 3, height, width)) / 255

    def model(frames: Tensor) -> Tensor:
        return blend_tiles(lambda x, _: x, frames, tiles, 1)

    windows = sliding_windows(*plan)
    stream = faded(windows, [model(clip[w.start : w.stop]) for w in windows])
    assert (stream - clip).abs().max() <= 1e-6
    assert torch.equal((stream * 255).round(), (clip * 255).round())


def test_fade_is_linear_and_symmetric():
    weights = fade_in(3)
    assert weights.tolist() == [0.25, 0.5, 0.75]
    assert torch.equal(weights + weights.flip(0), torch.ones(3))


def test_stored_tail_is_independent_of_the_output():
    fade = CrossFade()
    output = torch.ones(4, 3, 1, 1)
    fade.push(output, 0, 2)
    output.zero_()
    assert fade.tail is not None
    assert torch.equal(fade.tail, torch.ones(2, 3, 1, 1))


@pytest.mark.parametrize(
    ("tail", "overlap", "keep"), [(None, 1, 0), (2, 1, 0), (2, 0, 0), (None, 0, 5), (None, 0, -1)]
)
def test_frames_are_never_lost_silently(tail, overlap, keep):
    fade = CrossFade(None if tail is None else torch.zeros(tail, 3, 1, 1))
    with pytest.raises(ValueError, match="frames held"):
        fade.push(torch.zeros(4, 3, 1, 1), overlap, keep)


@pytest.mark.parametrize(("length", "overlap"), [(4, 4), (4, -1), (0, 0)])
def test_impossible_overlap(length, overlap):
    for planner in (sliding_windows, even_windows):
        with pytest.raises(ValueError, match="overlap"):
            planner(9, length, overlap)


@pytest.mark.parametrize("cuts", [(12,), (5, 3), (-1,)])
def test_impossible_cuts(cuts):
    with pytest.raises(ValueError, match="cuts"):
        sliding_windows(9, 4, 1, cuts)
    with pytest.raises(ValueError, match="cuts"):
        even_windows(9, 4, 1, cuts)
