"""The autoencoder whose norms see one pixel."""

import pytest
import torch
from diffusers import AutoencoderKL

from framelift.methods.vdm_vsr.local_autoencoder import LocalAutoencoderKL

CONFIG = {
    "block_out_channels": (8, 8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "mid_block_add_attention": False,
}


def reach(autoencoder) -> torch.Tensor:
    """Which output pixels change `[64, 64]` when one corner of the latents does."""
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    other = z.clone()
    other[..., :2, :2] += 3
    with torch.no_grad():
        change = autoencoder.decode(z).sample - autoencoder.decode(other).sample
    return change.abs().amax(dim=(0, 1)) > 1e-6


def test_far_pixels_do_not_matter():
    torch.manual_seed(0)
    local = reach(LocalAutoencoderKL(**CONFIG))
    assert local[:8, :8].all()
    assert not local[-8:, -8:].any()
    assert reach(AutoencoderKL(**CONFIG))[-8:, -8:].any()  # group normalisation: they do


def test_reloads_with_the_names_of_diffusers(tmp_path):
    torch.manual_seed(0)
    made = LocalAutoencoderKL(**CONFIG)
    made.save_pretrained(tmp_path)
    again = LocalAutoencoderKL.from_pretrained(tmp_path)
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(again.encode(x).latent_dist.mean, made.encode(x).latent_dist.mean)
    assert made.state_dict().keys() == AutoencoderKL(**CONFIG).state_dict().keys()
    assert again.config["block_out_channels"] in ([8, 8, 16], (8, 8, 16))


def test_patches_are_folded_before_and_unfolded_behind(tmp_path):
    torch.manual_seed(0)
    patched = {**CONFIG, "in_channels": 48, "out_channels": 48, "patch_size": 4}
    made = LocalAutoencoderKL(**patched)
    assert made.latent_space.size(64, 32) == (4, 4, 2)  # 4 pixels of a patch, 4 of two levels
    x = torch.rand(2, 3, 64, 32)
    z = made.encode(x).latent_dist.mean
    assert z.shape == (2, 4, 4, 2)
    (frames,) = made.decode(z, return_dict=False)
    assert frames.shape == x.shape
    folded = torch.nn.functional.pixel_unshuffle(frames, 4)
    torch.testing.assert_close(folded, made.decoder(made.post_quant_conv(z)))
    made.save_pretrained(tmp_path)
    again = LocalAutoencoderKL.from_pretrained(tmp_path)
    assert again.config["patch_size"] == 4
    torch.testing.assert_close(again.decode(z).sample, frames)


def test_latents_start_with_little_noise():
    """With unit variance the decoder would learn to ignore them, where nearly all is black."""
    torch.manual_seed(0)
    posterior = LocalAutoencoderKL(**CONFIG).encode(torch.rand(2, 3, 16, 16)).latent_dist
    assert posterior.std.mean() < 0.1


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_does_not_matter(memory_format):
    torch.manual_seed(0)
    network = LocalAutoencoderKL(**CONFIG)
    x = torch.rand(1, 3, 16, 16)
    expected = network(x).sample
    made = network.to(memory_format=memory_format)(x.to(memory_format=memory_format)).sample
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
