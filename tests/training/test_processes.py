"""Several processes train together: torchrun with two of them, by gloo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from framelift.errors import Exit, UsageError
from framelift.training.loop import train

WEIGHTS = "pipeline/unet/diffusion_pytorch_model.safetensors"
RUN = {"steps": 6, "batch": 2, "log_every": 1, "validate_every": 3, "checkpoint_every": 3}


@pytest.fixture
def recipe(make_settings):
    """The small recipe, with a codec that is fitted, a mixture and both shares of few-step."""

    def make(**run):
        mixture = [{"recipe": "bi"}, {"recipe": "vdm_vsr", "weight": 0.5}]
        return make_settings(
            stage="few-step",
            objective={"fit_codec": True, "timesteps": [999, 500], "on_policy": 0.5},
            data={"degradation": mixture},
            optim={"schedule": "constant", "lr": 1e-3},
            run=RUN | run,
        )

    return make


@pytest.fixture
def launch(write_recipe, data, tmp_path):
    """Run `framelift train` in two processes; returns what torchrun returned."""

    def run(settings, name, cache="cache"):
        path = write_recipe(settings, tmp_path / f"{name}.toml")
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        words += ["-m", "framelift", "train", path, "--data", data, "--output", tmp_path / name]
        words += ["--cache", tmp_path / cache]
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=540)

    return run


def log_of(output: Path) -> list[dict[str, float]]:
    volatile = {"time", "steps_per_second"}
    records = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k not in volatile} for r in records]


def test_two_processes_train_as_one(recipe, launch, data, tmp_path):
    """One cache, one codec, one log; the losses of one process with twice the batch."""
    done = launch(recipe(), "two")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("from step 0 to 6 on 2 × cpu") == 1
    assert len(list((tmp_path / "cache").glob("*/frames.npy"))) == 3

    train(recipe(batch=4), data, tmp_path / "one", tmp_path / "cache")
    train(recipe(accumulate=2), data, tmp_path / "rounds", tmp_path / "cache")
    expected = log_of(tmp_path / "one")
    assert [r["step"] for r in expected] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert {"v", "pixel"} <= expected[0].keys()
    for name in ("two", "rounds"):
        for ours, theirs in zip(log_of(tmp_path / name), expected, strict=True):
            assert ours == pytest.approx(theirs, rel=2e-4), name
        ours, theirs = (load_file(tmp_path / n / WEIGHTS) for n in (name, "one"))
        assert all((ours[k] - theirs[k]).abs().max() < 1e-3 for k in theirs)
    vae = "pipeline/vae/diffusion_pytorch_model.safetensors"
    fitted = load_file(tmp_path / "two" / vae)
    assert all(torch.equal(v, fitted[k]) for k, v in load_file(tmp_path / "one" / vae).items())


def test_resumes_exactly_with_as_many_and_refuses_others(recipe, launch, data, tmp_path):
    for name, steps in (("whole", 6), ("half", 3), ("half", 6)):
        done = launch(recipe(steps=steps), name)
        assert done.returncode == 0, done.stderr
    assert "from step 3 to 6" in done.stderr
    assert log_of(tmp_path / "half") == log_of(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / WEIGHTS) for name in ("half", "whole"))
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())
    with pytest.raises(UsageError, match="a run of 2 processes, and this is one of 1 process"):
        train(recipe(steps=7), data, tmp_path / "half", tmp_path / "cache")


def test_an_error_is_a_sentence(recipe, launch, data, tmp_path):
    done = launch(recipe(validate_every=10**9), "run")
    assert done.returncode == 0, done.stderr
    done = launch(recipe(seed=3), "run")
    assert done.returncode != 0
    assert "holds a run with other settings: run.seed" in done.stderr
    assert f"exitcode  : {int(Exit.USAGE)}" in done.stderr
