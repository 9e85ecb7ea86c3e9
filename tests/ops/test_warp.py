import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from framelift.ops.warp import resize_flow, visible, warp

SIDES = st.integers(1, 12)


def random(*size):
    return torch.rand(size, generator=torch.Generator().manual_seed(sum(size)))


def released_warp(x, flow):
    """Sampling with coordinates normalised by W-1 but align_corners=False, zeros beyond."""
    height, width = x.shape[-2:]
    y, x_ = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack(
        [
            2 * (x_ + flow[:, 0]) / max(width - 1, 1) - 1,
            2 * (y + flow[:, 1]) / max(height - 1, 1) - 1,
        ],
        dim=-1,
    )
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


@given(st.integers(1, 3), SIDES, SIDES)
def test_zero_flow_is_the_identity_bit_for_bit(count, height, width):
    x = random(count, 3, height, width)
    assert torch.equal(warp(x, torch.zeros(count, 2, height, width)), x)


@given(SIDES, SIDES, st.integers(-15, 15), st.integers(-15, 15))
def test_a_whole_shift_picks_pixels_and_clamps(height, width, dx, dy):
    x = random(1, 3, height, width)
    flow = torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(1, 2, height, width)
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    assert torch.equal(warp(x, flow), x[..., rows, :][..., columns])


@given(st.integers(2, 12), st.integers(2, 12))
def test_fractions_are_bilinear(height, width):
    x, flow = random(2, 3, height, width), 6 * random(2, 2, height, width) - 3
    y, x_ = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack(
        [2 * (x_ + flow[:, 0]) / (width - 1) - 1, 2 * (y + flow[:, 1]) / (height - 1) - 1], dim=-1
    )
    wanted = F.grid_sample(x, grid, padding_mode="border", align_corners=True)
    assert torch.allclose(warp(x, flow), wanted, atol=1e-5)


@given(st.integers(2, 12), st.integers(2, 12))
def test_half_pixel_is_the_released_stablevsr_warp(height, width):
    x, flow = random(2, 3, height, width), 6 * random(2, 2, height, width) - 3
    assert torch.allclose(warp(x, flow, half_pixel=True), released_warp(x, flow), atol=1e-5)


def test_half_pixel_at_zero_flow():
    """It loses half the value at borders and three quarters in corners."""
    out = warp(torch.ones(1, 1, 9, 11), torch.zeros(1, 2, 9, 11), half_pixel=True)[0, 0]
    assert torch.allclose(out[0, 1:-1], torch.tensor(0.5))
    assert torch.allclose(out[1:-1, -1], torch.tensor(0.5))
    assert torch.allclose(out[[0, 0, -1, -1], [0, -1, 0, -1]], torch.tensor(0.25))
    assert torch.allclose(out[1:-1, 1:-1], torch.tensor(1.0))


def test_gradients_reach_frames_and_flow():
    x = random(1, 2, 5, 6).double().requires_grad_()
    flow = (3 * random(1, 2, 5, 6).double() - 1.5).requires_grad_()
    assert torch.autograd.gradcheck(warp, (x, flow))


def test_half_precision_frames_keep_their_type():
    x = random(1, 3, 4, 4).bfloat16()
    assert torch.equal(warp(x, torch.zeros(1, 2, 4, 4)), x)


def test_flow_must_fit():
    with pytest.raises(ValueError, match="does not fit"):
        warp(torch.rand(1, 3, 4, 4), torch.zeros(1, 2, 4, 5))


def test_a_translation_is_visible_everywhere():
    to = torch.tensor([3.0, -1.5]).view(1, 2, 1, 1).expand(1, 2, 8, 9)
    assert visible(to, -to).all()


def test_occlusion_of_a_moving_square():
    """A square of 6×6 at (5, 4) moves 4 px to the right over a still background."""
    to, back = torch.zeros(2, 1, 2, 16, 20)
    to[0, 0, 4:10, 5:11] = 4
    back[0, 0, 4:10, 9:15] = -4
    seen = torch.ones(16, 20, dtype=torch.bool)
    seen[4:10, 11:15] = False  # background that the square covers
    seen[4:10, 4] = seen[4:10, 10] = False  # motion borders, by forward differences
    seen[3, 5:11] = seen[9, 5:11] = False
    assert torch.equal(visible(to, back)[0, 0], seen)


@given(st.integers(2, 10), st.integers(2, 10), st.integers(2, 20), st.integers(2, 20))
def test_resized_flow_moves_the_same_share_of_the_frame(height, width, tall, wide):
    flow = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand(1, 2, height, width)
    resized = resize_flow(flow, (tall, wide))
    assert resized.shape == (1, 2, tall, wide)
    wanted = torch.tensor([1.5 * wide / width, -2.0 * tall / height]).view(1, 2, 1, 1)
    assert torch.allclose(resized, wanted.expand_as(resized), atol=1e-5)


def test_resizing_to_the_same_size_changes_nothing():
    flow = random(1, 2, 6, 7)
    assert torch.equal(resize_flow(flow, (6, 7)), flow)
