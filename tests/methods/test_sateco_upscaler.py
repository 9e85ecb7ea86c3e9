"""SATeCo's video upscaler: shapes, what it is at first, and what its attention may look at."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from framelift.methods.sateco.tmsa import TMSA, MutualSelfAttention, relative_index
from framelift.methods.sateco.upscaler import VideoUpscaler
from framelift.ops import resize

TINY = {"width": 12, "heads": 2, "window": 4, "shuffle": (8, 8)}


def awake(model: torch.nn.Module) -> torch.nn.Module:
    """All parameters random, so that no zero initialisation hides a path."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"kind": "pixelshuffle"},
        {"stride": 2, "features": 8, "depth": 3, "residual_depth": 1},
        {"shuffle": (), "scale": 3},
        {"shuffle": (8,), "scale": 2},
    ],
)
@pytest.mark.parametrize("size", [(1, 8, 12), (5, 9, 7), (2, 3, 18)])
def test_it_is_bicubic_at_first_for_every_kind_size_and_number_of_frames(config, size):
    torch.manual_seed(0)
    upscaler = VideoUpscaler(**{**TINY, **config})
    frames, height, width = size
    lr = torch.rand(2, frames, 3, height, width)
    big = upscaler(lr)
    assert torch.equal(big, resize.upscale(lr, upscaler.config["scale"]))
    assert torch.equal(upscaler(lr[0]), big[0])
    assert not torch.allclose(awake(upscaler)(lr), big, atol=1e-3)


def test_stages_that_do_not_make_the_scale_are_refused():
    with pytest.raises(ValueError, match="do not enlarge by 3"):
        VideoUpscaler(scale=3)


def test_every_parameter_receives_a_gradient():
    upscaler = awake(VideoUpscaler(**TINY, stride=2, features=8, residual_depth=1))
    upscaler(torch.rand(1, 3, 3, 10, 10)).square().mean().backward()
    without = [n for n, p in upscaler.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_it_survives_saving(tmp_path):
    upscaler = awake(VideoUpscaler(**TINY))
    upscaler.save_pretrained(tmp_path)
    lr = torch.rand(3, 3, 8, 8)
    assert torch.equal(VideoUpscaler.from_pretrained(tmp_path)(lr), upscaler(lr))


def test_it_runs_where_it_lies():
    upscaler = VideoUpscaler(**TINY, stride=2, features=8).to("meta")
    assert upscaler(torch.rand(3, 3, 9, 7, device="meta")).shape == (3, 3, 36, 28)


def test_published_size():
    with torch.device("meta"):
        upscaler = VideoUpscaler()
    blocks = sum(p.numel() for b in upscaler.blocks for p in b.parameters())
    per_block = 14 * 120**2 + 16 * 120 + 6 * 3 * 15**2
    assert blocks == 2 * per_block
    assert [b.shifted for b in upscaler.blocks] == [False, True]


@pytest.mark.parametrize("shifted", [False, True])
def test_frames_inform_their_partner_only(shifted):
    block = awake(TMSA(12, 2, 4, shifted=shifted))
    x = torch.randn(1, 5, 8, 8, 12)
    changed = x.clone()
    changed[:, 2] = torch.randn(8, 8, 12)
    seen = (block(x) - block(changed)).abs().amax((0, 2, 3, 4)) > 1e-6
    assert seen.tolist() == (
        [False, True, True, False, False] if shifted else [False, False, True, True, False]
    )


def test_two_blocks_carry_information_beyond_pairs():
    upscaler = awake(VideoUpscaler(**TINY))
    lr = torch.rand(6, 3, 8, 8)
    changed = lr.clone()
    changed[2] = 1 - changed[2]
    seen = (upscaler(lr) - upscaler(changed)).abs().amax((1, 2, 3)) > 1e-6
    assert seen.tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize("shifted", [False, True])
def test_padding_does_not_leak(shifted):
    """What stands in the padding (LN's bias, for a start) reaches no token."""
    block = awake(TMSA(8, 2, 4, shifted=shifted))
    x = torch.randn(1, 2, 6, 5, 8)
    before = 2 if shifted else 0
    rows = [range(max(0, y - before), min(6, y + 4 - before)) for y in range(0, 6 + before, 4)]
    columns = [range(max(0, z - before), min(5, z + 4 - before)) for z in range(0, 5 + before, 4)]
    pair = x if not shifted else x[:, 1:]  # shifted, both frames are without a partner
    expected = torch.zeros_like(pair)
    for row in filter(len, rows):
        for column in filter(len, columns):
            place = (slice(row[0], row[-1] + 1), slice(column[0], column[-1] + 1))
            index = [((r + before) % 4) * 4 + (c + before) % 4 for r in row for c in column]
            tokens = pair[:, :, place[0], place[1]].flatten(2, 3)
            done = naive_block(block, tokens, torch.tensor(index))
            expected[:, :, place[0], place[1]] = done.reshape(pair[:, :, *place].shape)
    assert torch.allclose(block(x)[:, -pair.shape[1] :], expected, atol=1e-5)


def naive_block(block: TMSA, x: Tensor, index: Tensor) -> Tensor:
    """TMSA of one window `[1, D, n, C]` whose n tokens stand at `index`, from the formulas."""
    attention: MutualSelfAttention = block.attention
    depth, count, channels = x.shape[1:]
    heads, d = attention.heads, channels // attention.heads
    y = block.norm1(x)[0]
    places = torch.cat([index + 16 * t for t in range(depth)])
    bias = attention.bias_table[:, relative_index(4)[places][:, places]]

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float) -> Tensor:
        q, k, v = (t.reshape(-1, heads, d).transpose(0, 1) for t in (q, k, v))
        weights = (q @ k.mT / math.sqrt(d) + bias).softmax(-1)
        return (weights @ v).transpose(0, 1).flatten(1)

    itself = attend(*attention.qkv_self(y.flatten(0, 1)).chunk(3, -1), bias)
    q, k, v = attention.qkv_mutual(y + attention.encoding[index]).chunk(3, -1)
    partners = [1, 0][:depth] if depth == 2 else [0]
    mutual = [attend(q[other], k[t], v[t], 0.0) for t, other in enumerate(partners)]
    mutual = torch.cat([mutual[p] for p in partners])
    x = x + attention.project(torch.cat([itself, mutual], -1)).reshape(1, depth, count, channels)
    gate, value = block.mlp.expand(block.norm2(x)).chunk(2, -1)
    return x + block.mlp.reduce(F.gelu(gate) * value)
