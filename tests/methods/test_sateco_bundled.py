"""What the bundled SATeCo has beyond the paper: its own base, and few steps end to end."""

import copy

import pytest
import torch

from framelift.diffusion.codecs import KLCodec, latent_space
from framelift.diffusion.losses import spectral_loss
from framelift.diffusion.patch_autoencoder import PatchAutoencoderKL
from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.load import load_pipeline
from framelift.methods.registry import find_method
from framelift.methods.sateco.build import build_base, build_pipeline
from framelift.methods.sateco.refiner import VideoRefiner

VAE = {
    "patch_size": 4,
    "block_out_channels": [8, 8],
    "latent_channels": 4,
    "tail_channels": 3,
    "norm_num_groups": 4,
}
SMALL = {
    "vae": VAE,
    "unet": {
        "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "scheduler": {"type": "DPMSolverMultistepScheduler", "prediction_type": "v_prediction"},
    "upscaler": {"width": 12, "heads": 2, "shuffle": []},
    "latent_encoder": {"width": 8, "multipliers": [1, 1], "layers": 1, "groups": 4},
    "unet_guidance": {"heads": 2, "residual": True},
    "vae_guidance": {"heads": 2, "window": 4, "residual": True},
    "refiner": {"width": 8, "stride": 4},
    "pipeline": {"steps": 3},
}


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(2, 3, 3, 64, 64), torch.rand(2, 3, 3, 16, 16))


def weights(part: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in part.parameters()]


def moved(part: torch.nn.Module, before: list[torch.Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(part.parameters(), before, strict=True))


def learn(made, batch, steps=10):
    """Losses of some steps on one batch."""
    network, losses = made.trained, []
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(steps):
        loss, terms = made.loss(network, batch, torch.Generator().manual_seed(0))
        assert float(sum(terms.values())) == pytest.approx(float(loss.detach()), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_patch_autoencoder_is_an_autoencoder_of_a_pipeline(tmp_path):
    vae = PatchAutoencoderKL(**VAE)
    assert latent_space(vae).factor == 8
    codec = KLCodec(vae)
    frames = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = codec.encode(frames)
    assert latents.shape == (2, *latent_space(vae).size(32, 48))
    assert codec.decode(latents).shape == frames.shape
    vae.save_pretrained(tmp_path)
    again = PatchAutoencoderKL.from_pretrained(tmp_path)
    assert torch.equal(KLCodec(again).encode(frames), latents)


def test_it_learns(batch):
    made = find_method("sateco").stage("base-vae")(
        StageRequest("base-vae", None, SMALL, {"perceptual_weight": 0.0}, 1)
    )
    losses = learn(made, batch)
    assert losses[-1] < losses[0]
    assert made.show(batch).shape[0] == 3


def test_the_denoiser_learns_on_latents_of_unit_deviation(batch):
    torch.manual_seed(0)
    base = build_base(SMALL)
    made = find_method("sateco").stage("base-unet")(StageRequest("base-unet", base, {}, {}, 1))
    made.prepare([batch])
    latents = KLCodec(base.vae).encode(batch.hr[:, 0] * 2 - 1)
    assert float(latents.std()) == pytest.approx(1, abs=0.01)
    assert float(latents.mean()) == pytest.approx(0, abs=0.01)
    before = weights(base.vae)
    losses = learn(made, batch)
    assert losses[-1] < losses[0]
    assert not moved(base.vae, before)
    assert made.show(batch).shape[0] == 3


def test_a_preset_with_the_full_autoencoder_has_no_stage_for_it():
    full = {**SMALL, "vae": {"block_out_channels": [8, 8], "norm_num_groups": 4}}
    with pytest.raises(UsageError, match="does not train a AutoencoderKL"):
        find_method("sateco").stage("base-vae")(
            StageRequest("base-vae", build_base(full), {}, {}, 1)
        )


def test_few_steps_are_trained_end_to_end_behind_the_frozen_upscaler(batch):
    torch.manual_seed(0)
    pipeline = build_pipeline(SMALL)
    objective = {"perceptual_weight": 0.0, "timesteps": [999, 400], "on_policy": 0.5}
    made = find_method("sateco").stage("few-step")(
        StageRequest("few-step", pipeline, {}, objective, 3)
    )
    pipeline = made.pipeline
    parts = ("upscaler", "unet", "latent_encoder", "unet_guidance", "vae_guidance", "refiner")
    before = {name: weights(getattr(pipeline, name)) for name in parts}
    coders = weights(pipeline.vae.encoder), weights(pipeline.vae.decoder)
    losses = learn(made, batch)
    assert losses[-1] < losses[0]
    for name in parts:
        assert moved(getattr(pipeline, name), before[name]) == (name != "upscaler")
    assert not moved(pipeline.vae.encoder, coders[0])
    assert moved(pipeline.vae.decoder, coders[1])
    assert pipeline.config["timesteps"] == [999, 400]
    assert made.show(batch).shape[0] == 3


def test_grid_and_still_change_stand_beside_the_validation_loss(batch):
    made = find_method("sateco").stage("few-step")(
        StageRequest("few-step", build_pipeline(SMALL), {}, {"perceptual_weight": 0.0}, 3)
    )
    found = made.measure(batch)
    assert found.keys() == {"grid", "truth_grid", "still"}
    assert found["still"] > 0


def test_modules_come_from_folders(tmp_path):
    first, second = (build_pipeline(SMALL) for _ in range(2))
    for n, part in enumerate((first.upscaler, second.upscaler)):
        torch.nn.init.constant_(part.stem.bias, n + 1.0)
    first.upscaler.save_pretrained(str(tmp_path))
    made = build_pipeline({"upscaler": {"from": str(tmp_path)}}, second)
    assert torch.equal(made.upscaler.stem.bias, first.upscaler.stem.bias)


def test_a_pipeline_with_its_own_base_comes_back(tmp_path):
    torch.manual_seed(0)
    pipeline = build_pipeline(copy.deepcopy(SMALL))
    pipeline.save_pretrained(str(tmp_path))
    lr = torch.rand(2, 3, 16, 24)
    assert torch.allclose(load_pipeline(tmp_path)(lr), pipeline(lr), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_refiner_begins_as_the_weighted_mean(stride):
    refiner = VideoRefiner(w=0.25, width=8, stride=stride)
    a, b = torch.rand(2, 2, 3, 16, 16)
    assert torch.allclose(refiner(a, b), 0.25 * a + 0.75 * b, atol=1e-6)


def test_the_spectral_loss_sees_a_grid_that_is_as_weak_as_the_noise():
    torch.manual_seed(0)
    truth = torch.nn.functional.avg_pool2d(torch.rand(4, 3, 70, 70) * 2 - 1, 7, 1)
    one, other = 0.02 * torch.randn(2, *truth.shape)
    grid = torch.zeros_like(truth)
    grid[..., ::4] = 1
    grid = 0.02 * (grid - grid.mean()) / grid.std()
    plain, seen = (spectral_loss(truth + x, truth + other) for x in (one, one + grid))
    assert seen > 1.05 * plain
