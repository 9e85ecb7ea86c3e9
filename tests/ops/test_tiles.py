import weakref
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from framelift.ops.tiles import Tile, blend_tiles, plan_tiles, tile_weights


@st.composite
def plans(draw):
    """Arguments of `plan_tiles`."""
    multiple = draw(st.integers(1, 4))
    height, width = (multiple * draw(st.integers(1, 24)) for _ in range(2))
    tile = draw(st.integers(1, 40))
    return height, width, tile, draw(st.integers(0, tile - 1)), multiple


def enlarge(frames, scale):
    return frames.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def cover(plan, tiles):
    """How many tiles lie on each pixel."""
    count = torch.zeros(plan[:2], dtype=torch.int)
    for tile in tiles:
        tile.crop(count).add_(1)
    return count


@given(plans())
def test_tiles_cover_the_frame_in_multiples(plan):
    height, width, side, _, multiple = plan
    tiles = plan_tiles(*plan)
    assert cover(plan, tiles).min() >= 1
    assert len(set(tiles)) == len(tiles)
    for tile in tiles:
        assert max(tile.height, tile.width) <= max(side, multiple)
        assert not any(n % multiple for n in (tile.y, tile.x, tile.height, tile.width))
        assert tile.y + tile.height <= height
        assert tile.x + tile.width <= width


@given(plans())
def test_tiles_are_equal_even_and_no_more_than_needed(plan):
    *frame, side, overlap, multiple = plan
    tiles = plan_tiles(*plan)
    assert len({(t.height, t.width) for t in tiles}) == 1
    rows = sorted({t.y for t in tiles})
    columns = sorted({t.x for t in tiles})
    side = max(side // multiple, 1)
    shared = min(-(-overlap // multiple), side - 1)
    sizes = (tiles[0].height, tiles[0].width)
    for origins, size, length in zip((rows, columns), sizes, frame, strict=True):
        steps = {b - a for a, b in pairwise(origins)}
        assert not steps or max(steps) - min(steps) <= multiple
        assert not steps or max(steps) <= size - shared * multiple
        if len(origins) > 1:  # one tile fewer would not reach
            assert (len(origins) - 1) * (side - shared) + shared < length // multiple


@given(plans(), st.integers(1, 4))
def test_weights_sum_to_one(plan, scale):
    tiles = plan_tiles(*plan)
    total = torch.zeros(1, 1, plan[0] * scale, plan[1] * scale)
    alone = enlarge(cover(plan, tiles) == 1, scale)
    for tile in tiles:
        weights = tile_weights(tile, tiles, scale)
        place = Tile(*(scale * n for n in (tile.y, tile.x, tile.height, tile.width)))
        assert weights.dtype == torch.float32
        assert weights.shape == (1, 1, tile.height * scale, tile.width * scale)
        assert weights.min() > 0
        assert (weights[0, 0][place.crop(alone)] == 1).all()
        place.crop(total).add_(weights)
    assert (total - 1).abs().max() <= 1e-6


@given(plans(), st.integers(1, 3), st.integers(1, 3))
def test_identity_returns_the_frames(plan, scale, count):
    frames = torch.rand(count, 3, *plan[:2])
    tiles = plan_tiles(*plan)
    blended = blend_tiles(lambda x, _: enlarge(x, scale), frames, tiles, scale)
    alone = enlarge(cover(plan, tiles) == 1, scale)
    wanted = enlarge(frames, scale)
    assert (blended - wanted).abs().max() <= 1e-6
    assert torch.equal(blended[..., alone], wanted[..., alone])


def test_tile_sides():
    assert plan_tiles(180, 320, 512, 16) == [Tile(0, 0, 180, 320)]
    assert {(t.y, t.height) for t in plan_tiles(100, 8, 64, 16)} == {(0, 58), (42, 58)}
    assert [t.x for t in plan_tiles(8, 96, 40, 5, 8)] == [0, 24, 56]
    assert [t.x for t in plan_tiles(8, 24, 8, 4, 8)] == [0, 8, 16]  # no room for an overlap


def test_outermost_pixels_count_next_to_nothing():
    tiles = plan_tiles(8, 56, 32, 8)
    left, right = (tile_weights(t, tiles, 4)[0, 0, 0] for t in tiles)
    assert left[-8:].max() <= 0.0011
    assert right[:8].max() <= 0.0011
    assert (right[:32].diff() >= 0).all()
    assert torch.allclose(left[-32:] + right[:32], torch.ones(32), atol=1e-7)


def test_a_seam_between_contradicting_tiles_is_gradual():
    """Two tiles that disagree by 1 never differ by more than the ramp's slope."""
    frames = torch.zeros(1, 3, 4, 48)
    tiles = plan_tiles(4, 48, 32, 16)
    blended = blend_tiles(lambda x, tile: x + (tile.x > 0), frames, tiles, 1)
    assert blended.diff(dim=-1).abs().max() < 0.2


def test_gradient_flows():
    frames = torch.rand(1, 3, 6, 9, requires_grad=True)
    blend_tiles(lambda x, _: 2 * x, frames, plan_tiles(6, 9, 4, 2), 1).sum().backward()
    assert frames.grad is not None
    assert torch.allclose(frames.grad, torch.full_like(frames, 2), atol=1e-6)


def test_one_output_is_held_at_a_time():
    alive = []

    def model(frames, _):
        assert not any(output() is not None for output in alive)
        output = enlarge(frames, 2)
        alive.append(weakref.ref(output))
        return output

    blend_tiles(model, torch.rand(1, 3, 9, 9), plan_tiles(9, 9, 4, 1), 2)
    assert len(alive) == 9


def test_other_channels_and_precisions():
    frames = torch.rand(2, 3, 5, 7)
    blended = blend_tiles(lambda x, _: x[:, :1].bfloat16(), frames, plan_tiles(5, 7, 4, 1), 1)
    assert blended.dtype == torch.float32
    assert torch.allclose(blended, frames[:, :1].bfloat16().float(), atol=1e-6)


@pytest.mark.parametrize(
    "plan", [(8, 8, 4, 4), (8, 8, 4, 9), (8, 8, 4, -1), (8, 8, 0, 0), (0, 8, 4, 0), (9, 8, 4, 0, 2)]
)
def test_impossible_plans(plan):
    with pytest.raises(ValueError, match=r"overlap|positive|multiple"):
        plan_tiles(*plan)


def test_tiles_of_another_frame_or_scale():
    tiles = plan_tiles(8, 8, 4, 1)
    with pytest.raises(ValueError, match="do not fit"):
        blend_tiles(lambda x, _: x, torch.rand(1, 3, 9, 8), tiles, 1)
    with pytest.raises(ValueError, match="gave an output"):
        blend_tiles(lambda x, _: x, torch.rand(1, 3, 8, 8), tiles, 2)
