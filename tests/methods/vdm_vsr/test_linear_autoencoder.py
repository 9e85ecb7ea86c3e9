"""The linear autoencoder: principal components, and what posterior sampling relies on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framelift.diffusion.codecs import KLCodec, LatentSpace, latent_space
from framelift.methods.vdm_vsr.linear_autoencoder import LinearAutoencoderKL


def pictures(count: int = 6) -> torch.Tensor:
    """Smooth coloured waves `[count, 3, 16, 24]` in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    waves = [
        [torch.sin(x / (2 + n) + c) * torch.cos(y / (3 + c) - n) for c in range(3)]
        for n in range(count)
    ]
    return torch.stack([torch.stack(frame) for frame in waves]) / 1.5


def fitted(factor: int = 4, channels: int = 6) -> LinearAutoencoderKL:
    torch.manual_seed(0)
    autoencoder = LinearAutoencoderKL(factor=factor, latent_channels=channels)
    autoencoder.fit(pictures().split(4))
    return autoencoder


def blocks(x: torch.Tensor) -> np.ndarray:
    """4×4 blocks as rows, a channel's sixteen pixels after another's."""
    return (
        x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 48).double().numpy()
    )


def test_error_is_that_of_the_principal_components():
    x = pictures()
    rows = blocks(x)
    variances = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / len(rows)
    codec = KLCodec(fitted())
    made = codec.decode(codec.encode(x))
    error = float((made - x).square().sum()) / len(rows)
    assert error == pytest.approx(variances[6:].sum(), rel=1e-3)
    assert error < 0.2 * variances.sum()


def test_more_components_are_better_until_nothing_is_lost():
    x = pictures()
    errors = []
    for channels in (2, 6, 20, 48):
        codec = KLCodec(fitted(channels=channels))
        errors.append(float((codec.decode(codec.encode(x)) - x).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 99))
def test_means_are_decoded_to_means_and_noise_keeps_its_size(share, seed):
    codec = KLCodec(fitted())
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, 6, 4, 6, generator=generator).double()
    codec.vae.double()
    mixed = codec.decode(share * a + (1 - share) * b)
    parts = share * codec.decode(a) + (1 - share) * codec.decode(b)
    torch.testing.assert_close(mixed, parts)
    change = codec.decode(a + b) - codec.decode(a)
    assert float(change.norm()) == pytest.approx(float(b.norm()))  # orthonormal


def test_latents_survive_a_round_trip_and_the_disk(tmp_path):
    made = fitted()
    made.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    made.save_pretrained(tmp_path)
    codec = KLCodec(LinearAutoencoderKL.from_pretrained(tmp_path))
    assert latent_space(codec.vae) == LatentSpace(channels=6, factor=4)
    z = torch.randn(2, 6, 4, 6, generator=torch.Generator().manual_seed(0))
    frames = codec.decode(z)
    torch.testing.assert_close(codec.encode(frames), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(frames, KLCodec(made).decode(z))
    latents = made.encode(frames).latent_dist.mode()  # as diffusers users call it
    torch.testing.assert_close(made.decode(latents).sample, frames, atol=1e-5, rtol=0)
