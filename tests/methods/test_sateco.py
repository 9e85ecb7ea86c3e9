"""SATeCo as a pipeline, and its four stages, on tiny components of the real classes."""

import copy

import pytest
import torch

from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.load import load_pipeline
from framelift.methods.registry import find_method
from framelift.methods.sateco.build import build_pipeline
from framelift.methods.sateco.pipeline import SATeCoPipeline
from framelift.methods.sateco.settings import SATeCoSettings
from framelift.ops.noise import PositionNoise

SMALL = {
    "vae": {"block_out_channels": [8, 8], "norm_num_groups": 4, "latent_channels": 4},
    "unet": {
        "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "upscaler": {"width": 12, "heads": 2, "shuffle": [8, 8]},
    "latent_encoder": {"width": 8, "multipliers": [1, 1], "layers": 1, "groups": 4},
    "unet_guidance": {"heads": 2},
    "vae_guidance": {"heads": 2},
    "refiner": {"width": 8},
    "pipeline": {"steps": 3},
}
STAGES = {
    "upscaler": {"upscaler"},
    "unet": {"latent_encoder", "unet_guidance"},
    "vae": {"vae_guidance"},
    "refiner": {"refiner"},
}


@pytest.fixture
def pipeline() -> SATeCoPipeline:
    torch.manual_seed(0)
    return build_pipeline(SMALL)


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(2, 3, 3, 64, 64), torch.rand(2, 3, 3, 16, 16))


def weights(pipeline: SATeCoPipeline) -> dict[str, list[torch.Tensor]]:
    networks = {n: c for n, c in pipeline.components.items() if isinstance(c, torch.nn.Module)}
    return {n: [p.detach().clone() for p in c.parameters()] for n, c in networks.items()}


def test_a_clip_becomes_four_times_as_large(pipeline):
    lr = torch.rand(5, 3, 16, 24)
    steps = []
    sr = pipeline(lr, on_step=steps.append)
    assert sr.shape == (5, 3, 64, 96)
    assert (sr.min(), sr.max()) >= (0, 0)
    assert [step.index for step in steps] == [0, 1, 2]
    assert steps[-1].done == 1


def test_the_same_noise_gives_the_same_clip(pipeline):
    lr = torch.rand(2, 3, 16, 16)
    first, again, other = (pipeline(lr, noise=PositionNoise(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "changed", [{"start": "noise"}, {"steps": 2}, {"refine": False}], ids=lambda c: next(iter(c))
)
def test_every_setting_matters(pipeline, changed):
    torch.manual_seed(2)
    with torch.no_grad():
        for p in pipeline.refiner.parameters():
            p.add_(0.2 * torch.randn_like(p))
    lr = torch.rand(2, 3, 16, 16)
    plain, varied = (pipeline(lr, settings=SATeCoSettings(**c)) for c in ({}, changed))
    assert not torch.allclose(plain, varied, atol=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_its_own_part_and_nothing_else(pipeline, batch, stage):
    objective = {"perceptual_weight": 0.0, "steps": 2}
    request = StageRequest(stage, pipeline, {}, objective, frames=3)
    made = find_method("sateco").stage(stage)(request)
    before, losses = weights(pipeline), []
    optimizer = torch.optim.AdamW(made.trained.parameters(), lr=3e-3, weight_decay=0.0)
    network = made.trained
    for step in range(12):
        loss, _ = made.loss(network, batch, torch.Generator().manual_seed(step % 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    changed = {
        name
        for name, now in weights(pipeline).items()
        if any(not torch.equal(a, b) for a, b in zip(before[name], now, strict=True))
    }
    assert changed == STAGES[stage]
    assert losses[-1] + losses[-2] < losses[0] + losses[1]
    assert made.show(batch).shape[0] == 3


@pytest.mark.parametrize("variant", "ABCD")
def test_models_of_table_2_are_settings(variant):
    torch.manual_seed(0)
    built = build_pipeline({**SMALL, "variant": variant})
    assert built(torch.rand(2, 3, 16, 16)).isfinite().all()
    assert (built.unet_guidance.blocks[0].tfa is not None) == (variant in "CD")
    assert (built.vae_guidance.blocks[0].tfa is not None) == (variant == "D")


def test_an_unknown_variant_is_refused():
    with pytest.raises(UsageError, match="variant is 'E'"):
        build_pipeline({**SMALL, "variant": "E"})


def test_folders_come_back_equal(pipeline, tmp_path):
    pipeline.save_pretrained(str(tmp_path / "folder"))
    again = load_pipeline(tmp_path / "folder")
    assert isinstance(again, SATeCoPipeline)
    lr = torch.rand(2, 3, 16, 16)
    assert torch.allclose(again(lr), pipeline(lr), atol=1e-6)


def test_a_base_is_completed_and_does_not_upscale(pipeline, tmp_path):
    base = SATeCoPipeline(pipeline.vae, pipeline.unet, pipeline.scheduler)
    with pytest.raises(UsageError, match="no upscaler"):
        base(torch.rand(1, 3, 16, 16))
    modules = {k: v for k, v in copy.deepcopy(SMALL).items() if k not in ("vae", "unet")}
    assert build_pipeline(modules, base)(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)
