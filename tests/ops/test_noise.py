import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framelift.ops.noise import BLOCK, PositionNoise
from framelift.ops.tiles import plan_tiles
from framelift.ops.windows import sliding_windows

SIZE = 3 * BLOCK // 2


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, SIZE), st.integers(1, SIZE), st.data())
def test_windows_and_tiles_see_the_noise_of_the_whole(frames, height, width, data):
    noise = PositionNoise(5, block=data.draw(st.sampled_from([BLOCK, 8]))).at(3)
    whole = noise("start", frames, (2, height, width), 7)
    length = data.draw(st.integers(1, frames))
    side = data.draw(st.integers(16, SIZE))
    tiles = plan_tiles(height, width, side, data.draw(st.integers(0, 8)))
    for window in sliding_windows(frames, length, data.draw(st.integers(0, length - 1))):
        for tile in tiles:
            origin = noise.at(3 + window.start, tile.y, tile.x, tile.height, tile.width)
            part = origin("start", window.length, (2, tile.height, tile.width), 7)
            assert torch.equal(part, tile.crop(whole[window.start : window.stop]))


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(1, 4), (1, 2), (4, 1)]))
def test_latents_of_another_resolution_align(height, width, ratio):
    up, down = ratio
    height, width = height * down, width * down
    noise = PositionNoise(1)
    size = (1, height * up // down, width * up // down)
    whole = noise.at(0, 0, 0, height, width)("start", 1, size)
    for tile in plan_tiles(height, width, 24, 4, down):
        origin = noise.at(0, tile.y, tile.x, tile.height, tile.width)
        h, w = tile.height * up // down, tile.width * up // down
        y, x = tile.y * up // down, tile.x * up // down
        assert torch.equal(origin("start", 1, (1, h, w)), whole[..., y : y + h, x : x + w])


def test_latents_that_cannot_align():
    with pytest.raises(ValueError, match="does not align"):
        PositionNoise().at(0, 3, 0, 8, 8)("start", 1, (1, 4, 4))


def test_every_coordinate_matters():
    size = (1, 2 * BLOCK, 2 * BLOCK)
    fields = [
        *PositionNoise(0)("start", 3, size),
        *PositionNoise(1)("start", 1, size),
        *PositionNoise(2**64 - 1)("start", 1, size),
        *PositionNoise(0)("step", 1, size),
        *(PositionNoise(0)("start", 1, size, step)[0] for step in (1, 2, 1000, 2**40)),
        *PositionNoise(0, frame=1000)("start", 1, size),
        *PositionNoise(0, block=BLOCK // 2)("start", 1, size),
    ]
    blocks = torch.cat([f.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK) for f in fields])
    flat = blocks.reshape(-1, BLOCK * BLOCK)
    correlation = flat @ flat.T / BLOCK**2 - torch.eye(len(flat))
    assert len(flat) == 4 * len(fields)
    assert correlation.abs().max() < 0.1  # 1 where two blocks are the same; 0.016 by chance


def test_no_counter_is_used_twice():
    """Values, not only blocks, would repeat if a block's counter ran into the next one's."""
    field = PositionNoise(9)("start", 2, (8, 2 * BLOCK, 2 * BLOCK))
    assert len(field.unique()) > 0.98 * field.numel()  # float32 has some equal values


def test_channels_extend_each_other():
    few = PositionNoise(4)("start", 1, (3, 70, 5))
    assert torch.equal(few, PositionNoise(4)("start", 1, (8, 70, 5))[:, :3])


def test_it_is_standard_normal():
    field = PositionNoise(2)("lr", 4, (8, 160, 200)).double()
    assert field.dtype == torch.float64
    assert abs(field.mean()) < 0.004
    assert abs(field.std() - 1) < 0.003
    assert abs((field**3).mean()) < 0.01
    assert abs((field**4).mean() - 3) < 0.03
    for dim in (0, 1, 2, 3):
        lag = field.narrow(dim, 1, field.shape[dim] - 1)
        assert abs((lag * field.narrow(dim, 0, field.shape[dim] - 1)).mean()) < 0.005


def test_values_are_the_same_in_every_process():
    """Written down on NumPy 2.4; a change here changes every output that was ever made."""
    noise = PositionNoise(123, frame=5, y=60, x=130)
    field = noise("start", 2, (2, 8, 8), 9)
    assert field.dtype == torch.float32
    found = [field[i].item() for i in ((0, 0, 0, 0), (0, 1, 3, 7), (1, 0, 4, 0), (1, 1, 7, 7))]
    assert found == pytest.approx([-0.9900653, 2.7694824, -1.5999678, 0.4305852], abs=1e-6)


@pytest.mark.parametrize("origin", [{"frame": -1}, {"y": -1}, {"x": -1}])
def test_nothing_lies_before_the_clip(origin):
    with pytest.raises(OverflowError):
        PositionNoise(**origin)("start", 1, (1, 2, 2))


def test_a_range_of_frames_is_part_of_the_whole():
    noise = PositionNoise(seed=3).at(frame=5)
    whole = noise("step", 6, (2, 5, 7), step=1)
    assert torch.equal(noise("step", range(2, 5), (2, 5, 7), step=1), whole[2:5])
