"""Training of the Temporal Conditioning Module on real files, from a tiny image upscaler."""

import pytest
import torch
from safetensors.torch import load_file

from framelift.data.crops import RandomCrops
from framelift.data.store import open_store
from framelift.errors import UsageError
from framelift.methods.load import load_pipeline
from framelift.methods.stablevsr.objective import (
    ObjectiveSettings,
    StableVSRObjective,
    build_pipeline,
)
from framelift.methods.stablevsr.tcm import is_identity
from framelift.training.loop import train
from framelift.training.objectives import build_objective

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
            own.loss(pipeline.controlnet, crops(i), torch.Generator().manual_seed(i))[0]
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
