"""The block transform codec."""

import pytest
import torch

from framelift.diffusion.block_transform import BlockTransformCodec, dct_basis


@pytest.fixture
def pair():
    """`hr` `[2, 3, 48, 64]` and `lr` `[2, 3, 12, 16]` in [-1, 1], unrelated: the worst case."""
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, 48, 64, generator=generator) * 2 - 1
    return hr, torch.rand(2, 3, 12, 16, generator=generator) * 2 - 1


def codec(**config) -> BlockTransformCodec:
    made = BlockTransformCodec(**config)
    made.std.copy_(torch.linspace(0.03, 0.3, len(made.std)))
    return made


@pytest.mark.parametrize("factor", [2, 4])
def test_lossless_with_all_coefficients(factor):
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, 12 * factor, 16 * factor, generator=generator) * 2 - 1
    lr = torch.rand(2, 3, 12, 16, generator=generator) * 2 - 1
    full = codec(factor=factor, chroma=factor)
    latents = full.bind(lr).encode(hr)
    assert latents.shape == (2, 3 * factor**2, 12, 16) == (2, full.latent_space.channels, 12, 16)
    torch.testing.assert_close(full.bind(lr).decode(latents), hr, atol=1e-5, rtol=0)


def test_less_chroma_keeps_luma(pair):
    hr, lr = pair
    small = codec(chroma=2)
    back = small.bind(lr).decode(small.bind(lr).encode(hr))
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((back * weights).sum(1), (hr * weights).sum(1), atol=1e-5, rtol=0)
    assert small.latent_space.channels == 24
    assert (back - hr).abs().max() > 0.1


def test_basis_is_orthonormal():
    rows = dct_basis(4).flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16), atol=1e-6, rtol=0)
    torch.testing.assert_close(rows[0], torch.full((16,), 0.25), atol=1e-7, rtol=0)


def test_errors_hardly_show_in_flat_areas():
    lr = torch.zeros(1, 3, 16, 16)
    lr[..., 8:] = torch.randint(0, 2, (16, 8), generator=torch.Generator().manual_seed(0)) * 1.0
    made = codec()
    noise = torch.randn(1, 24, 16, 16, generator=torch.Generator().manual_seed(1))
    change = (made.bind(lr).decode(noise) - made.bind(lr).decode(torch.zeros_like(noise))).abs()
    flat, busy = change[..., : 4 * 5].mean(), change[..., 4 * 9 :].mean()
    assert busy > 10 * flat


def test_gradient_flows_through_the_decoder(pair):
    _, lr = pair
    latents = torch.zeros(2, 24, 12, 16, requires_grad=True)
    codec().bind(lr).decode(latents).square().mean().backward()
    assert latents.grad is not None
    assert (latents.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_fit_gives_unit_variance(pair):
    hr, lr = pair
    made = BlockTransformCodec()
    made.fit(hr, lr)
    spread = made.bind(lr).encode(hr).transpose(0, 1).flatten(1).std(dim=1)
    torch.testing.assert_close(spread, torch.ones(24), atol=1e-4, rtol=0)


def test_saving_keeps_the_deviations(tmp_path, pair):
    made = codec(chroma=3, gain_exponent=0.5)
    made.save_pretrained(tmp_path)
    again = BlockTransformCodec.from_pretrained(tmp_path)
    assert torch.equal(again.std, made.std)
    assert again.config["chroma"] == 3
    hr, lr = pair
    assert torch.equal(again.bind(lr).encode(hr), made.bind(lr).encode(hr))
