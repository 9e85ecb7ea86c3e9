"""Segment-wise reconstruction."""

import pytest
import torch
from diffusers import AutoencoderKLWan
from stcdit_parts import VAE, pipeline

from framelift.methods.stcdit.codec import SegmentCodec, complete
from framelift.methods.stcdit.planes import PlaneCausalConv3d, use_planes


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    torch.manual_seed(1)
    config = {k: v for k, v in VAE.items() if k != "attention"}
    made = AutoencoderKLWan(**config, latents_mean=[0.5] * 4, latents_std=[2.0] * 4).eval()
    return made.requires_grad_(False)


def clip(frames: int) -> torch.Tensor:
    return torch.rand(1, frames, 3, 16, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_segments_are_completed_to_4k_plus_1():
    for frames, length in [(1, 1), (2, 5), (5, 5), (6, 9), (9, 9), (10, 13)]:
        done = complete(clip(frames), 4)
        assert done.shape[1] == length
        assert torch.equal(done[:, :frames], clip(frames))
        assert torch.equal(done[:, -1], clip(frames)[:, -1])


def test_segments_are_coded_apart(vae):
    x = clip(12)
    segments = [range(7), range(7, 8), range(8, 12)]
    codec = SegmentCodec(vae, segments)
    z = codec.encode(x)
    assert z.shape == (1, 4, 3 + 1 + 2, 2, 4)
    assert codec.anchors == [0, 3, 4]
    assert codec.frame_of == [0, 1, 5, 7, 8, 9]
    for s, (start, stop) in zip(segments, [(0, 3), (3, 4), (4, 6)], strict=True):
        alone = SegmentCodec(vae, [range(len(s))])
        torch.testing.assert_close(z[:, :, start:stop], alone.encode(x[:, s.start : s.stop]))
    made = codec.decode(z)
    assert made.shape == x.shape
    alone = SegmentCodec(vae, [range(7)]).decode(z[:, :, :3])
    torch.testing.assert_close(made[:, :7], alone)


def test_an_anchor_is_its_frame_alone(vae):
    """The first latent of a segment depends on no other frame."""
    x = clip(9)
    changed = torch.cat([x[:, :1], -x[:, 1:]], dim=1)
    codec = SegmentCodec(vae, [range(9)])
    a, b = codec.encode(x), codec.encode(changed)
    torch.testing.assert_close(a[:, :, 0], b[:, :, 0])
    assert not torch.allclose(a[:, :, 1], b[:, :, 1])


def test_latents_are_normalised_once(vae):
    codec, x = SegmentCodec(vae, [range(5)]), clip(5)
    own = vae.encode(x.transpose(1, 2)).latent_dist.mean
    torch.testing.assert_close(codec.encode(x), (own - 0.5) / 2)
    made = vae.decode(own).sample.transpose(1, 2)
    torch.testing.assert_close(codec.decode(codec.encode(x)), made)


def test_planes_compute_what_volumes_do():
    torch.manual_seed(4)
    for residual in (False, True):
        vae = AutoencoderKLWan(
            base_dim=8, z_dim=4, dim_mult=[1, 2, 2], num_res_blocks=1, is_residual=residual,
            temperal_downsample=[True, True], latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        )  # fmt: skip
        x = torch.rand(2, 3, 9, 16, 24, requires_grad=True)
        expected = vae(x).sample
        (gradient,) = torch.autograd.grad(expected.square().sum(), x)
        use_planes(vae)
        assert sum(isinstance(m, PlaneCausalConv3d) for m in vae.modules()) > 10
        made = vae(x).sample
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)
        (again,) = torch.autograd.grad(made.square().sum(), x)
        torch.testing.assert_close(again, gradient, atol=1e-4, rtol=1e-3)


def test_large_frames_are_coded_in_pieces():
    """Far from where pieces meet they are coded as in a whole frame, since attention is silent."""
    made = pipeline(vae_tile=256)
    x = torch.nn.functional.interpolate(clip(2)[0], (448, 32), mode="bicubic")[None]
    codec = SegmentCodec(made.vae, [range(2)])
    with torch.no_grad():
        tiled = codec.decode(codec.encode(x))
        made.vae.use_tiling = False
        whole = codec.decode(codec.encode(x))
    assert tiled.shape == whole.shape == x.shape
    assert not torch.equal(tiled, whole)
    torch.testing.assert_close(tiled[..., :64, :], whole[..., :64, :], atol=1e-5, rtol=1e-4)
