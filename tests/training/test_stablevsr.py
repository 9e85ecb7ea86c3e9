"""Training of the Temporal Conditioning Module on real files, from a tiny image upscaler."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from support import small_vae

from framelift.errors import UsageError
from framelift.methods.load import load_pipeline
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.tcm import build_tcm, is_identity, zero_convolutions
from framelift.methods.stablevsr.train import (
    ObjectiveSettings,
    StableVSRObjective,
    build_pipeline,
)
from framelift.training.crops import RandomCrops
from framelift.training.loop import train
from framelift.training.objectives import build_objective
from framelift.training.store import open_store

CPU = torch.device("cpu")
TCM = "controlnet/diffusion_pytorch_model.safetensors"
STEM = {"stem": [4, 8, 8], "warm_stem": True}


@pytest.fixture
def settings(make_settings, tiny_pipeline):
    """A small recipe of the few-step stage; half of the clips keep Algorithm 2."""

    def make(**changes):
        defaults = {
            "method": "stablevsr",
            "stage": "few-step",
            "init_from": str(tiny_pipeline),
            "objective": {"on_policy": 0.5, "pixel_weight": 10.0},
            "data": {"frames": 3, "sources": [{"glob": "*.mp4"}]},
            "run": {"steps": 24, "batch": 4, "log_every": 4, "validate_every": 12},
        }
        merged = {k: {**v, **changes.pop(k, {})} if isinstance(v, dict) else v
                  for k, v in defaults.items()}  # fmt: skip
        made = make_settings(**(merged | {"model": {"tcm": STEM}} | changes))
        made.objective.pop("fit_codec", None)
        made.objective.pop("timesteps", None)
        return made

    return make


def loss_of(pipeline, crops, **objective) -> float:
    """Mean loss on fixed crops with fixed noise."""
    own = StableVSRObjective(pipeline, ObjectiveSettings(**objective))
    own.to(torch.device("cpu"))
    with torch.no_grad():
        losses = [
            own.loss(pipeline.controlnet, crops[i].to(CPU), torch.Generator().manual_seed(i))[0]
            for i in range(4)
        ]
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("stage", "objective"),
    [("tcm", {}), ("few-step", {"on_policy": 1.0, "pixel_weight": 10.0})],
)
def test_learns_and_trains_only_the_module(settings, data, cache, tmp_path, stage, objective):
    recipe = settings(stage=stage, objective={"on_policy": 0.0, **objective})
    folder = train(recipe, data, tmp_path / "run", cache)
    after, before = load_pipeline(folder), load_pipeline(recipe.init_from)
    untrained = build_pipeline(before, recipe.model)
    assert is_identity(untrained.controlnet)
    assert not is_identity(after.controlnet)
    for name, value in before.unet.state_dict().items():
        assert torch.equal(value, after.unet.state_dict()[name]), name
    clips = open_store(data, recipe.data.sources, cache)
    crops = RandomCrops(clips, recipe.data, 6, seed=9, frames=3)
    assert loss_of(after, crops, **objective) < loss_of(untrained, crops, **objective)


def test_resumed_equals_unbroken(settings, data, cache, tmp_path):
    half = settings(run={"steps": 9, "log_every": 3, "checkpoint_every": 3})
    whole = train(half, data, tmp_path / "whole", cache)

    def crash(line):
        if line.startswith("step 6 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(half, data, tmp_path / "half", cache, crash)
    resumed = train(half, data, tmp_path / "half", cache)
    expected, found = load_file(whole / TCM), load_file(resumed / TCM)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_second_stage_continues_the_module(settings, data, cache, tmp_path):
    first = train(settings(run={"steps": 4}), data, tmp_path / "first", cache)
    objective = build_objective(settings(init_from=str(first)))
    found = objective.trained.state_dict()
    assert all(torch.equal(v, found[n]) for n, v in load_file(first / TCM).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"frames": 1}}, "neighbouring frames"),
        ({"init_from": ""}, "image upscaler"),
        ({"stage": "denoiser"}, "no stage"),
        ({"objective": {"on_policy": 0.0}}, "Algorithm 1"),
    ],
)
def test_faulty_recipes(settings, changes, message):
    with pytest.raises(UsageError, match=message):
        build_objective(settings(**changes))


@pytest.fixture(scope="module")
def tiny_stablevsr_kl(tmp_path_factory) -> Path:
    """Folder of a tiny StableVSR over an AutoencoderKL."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        in_channels=7,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        norm_num_groups=4,
    )
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    vae = small_vae()
    torch.nn.init.normal_(vae.decoder.conv_out.weight, std=0.05)  # let pictures differ
    tcm = build_tcm(unet, stem=(4, 8, 8), warm_stem=True)
    for parameter in zero_convolutions(tcm):
        torch.nn.init.normal_(parameter, std=0.1)
    pipeline = StableVSRPipeline(vae.eval(), unet.eval(), tcm.eval(), scheduler, steps=2)
    folder = tmp_path_factory.mktemp("kl") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


def distilled(recipe, data, cache, output):
    """Train the small decoder; the loss on held-out latents before and after, and the pipeline."""
    objective = build_objective(recipe)
    clips = [c for c in open_store(data, recipe.data.sources, cache) if c.name == "held"]
    crops = RandomCrops(clips, recipe.data, 4, seed=5, frames=recipe.data.frames)
    folder = train(recipe, data, output, cache)
    trained = load_pipeline(folder)
    losses = []
    for decoder in (objective.trained, trained.guidance_decoder.decoder):
        with torch.no_grad():
            own = [
                objective.loss(decoder, crops[i].to(CPU), torch.Generator().manual_seed(i))[0]
                for i in range(3)
            ]
        losses.append(float(torch.stack(own).mean()))
    return losses, trained


@pytest.mark.parametrize("start", ["tiny_stablevsr", "tiny_stablevsr_kl"])
def test_a_small_guidance_decoder_learns_from_the_full_one(
    settings, data, cache, tmp_path, request, start
):
    start = request.getfixturevalue(start)
    recipe = settings(
        stage="guidance-decoder",
        init_from=str(start),
        objective={"sampled": 0.25},
        data={"frames": 2, "crop": 16},
        model={"guidance_decoder": {"channels": 8, "blocks": [1, 0, 0]}},
        run={"steps": 40, "validate_every": 40, "log_every": 20},
    )
    del recipe.objective["on_policy"]
    (before, after), pipeline = distilled(recipe, data, cache, tmp_path / "run")
    assert after < 0.95 * before
    frozen = load_pipeline(start)
    for name in ("unet", "controlnet", "vae"):
        found = getattr(pipeline, name).state_dict()
        for key, value in getattr(frozen, name).state_dict().items():
            assert torch.equal(value, found[key]), (name, key)
    clip = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    small, full = (
        pipeline(clip, settings=StableVSRSettings(guidance_decoder=chosen))
        for chosen in ("small", "full")
    )
    assert small.shape == full.shape == (3, 3, 64, 96)
    assert not torch.equal(small, full)


def test_a_small_guidance_decoder_needs_a_stablevsr(settings):
    recipe = settings(stage="guidance-decoder")
    with pytest.raises(UsageError, match="on_policy"):
        build_objective(recipe)
    recipe.objective.clear()
    with pytest.raises(UsageError, match="distilled from a StableVSR"):
        build_objective(recipe)
