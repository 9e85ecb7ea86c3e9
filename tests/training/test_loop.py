"""The training loop on real files: learns, resumes exactly, refuses what it must."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file

from framelift.errors import UsageError
from framelift.methods.base import Batch
from framelift.methods.image_ldm.train import (
    ImageLDMObjective,
    ObjectiveSettings,
    build_pipeline,
)
from framelift.methods.load import load_pipeline
from framelift.training.crops import RandomCrops
from framelift.training.loop import train
from framelift.training.store import open_store
from framelift.training.track import Track

CPU = torch.device("cpu")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


class Interrupted(Exception):
    pass


def stop_at(step):
    """A `say` that fails like a crash when the given step is logged."""

    def say(line):
        if line.startswith(f"step {step} "):
            raise Interrupted

    return say


def log_of(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(data, cache, make_settings, tmp_path_factory):
    """An unbroken run of the small recipe."""
    output = tmp_path_factory.mktemp("finished")
    train(make_settings(), data, output, cache)
    return output


def test_learns(finished, data, cache, make_settings):
    """The averaged weights beat the first ones on the clips they were trained on."""
    settings = make_settings()
    clips = open_store(data, settings.data.sources, cache)
    crops = RandomCrops([c for c in clips if c.name != "held"], settings.data, 16, seed=9)

    def loss_of(pipeline):
        objective = ImageLDMObjective(pipeline, ObjectiveSettings())
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return (
                sum(objective.loss(pipeline.unet, crops[i].to(CPU), generator)[0] for i in range(4))
                / 4
            )

    trained = load_pipeline(finished / "pipeline")
    torch.manual_seed(settings.run.seed)
    untrained = build_pipeline(settings.model, (999, 500))
    untrained.vae.std.copy_(trained.vae.std)
    assert loss_of(trained) / loss_of(untrained) < 0.95


def test_leaves_a_log_pictures_and_one_checkpoint(finished):
    assert len([r for r in log_of(finished) if "loss" in r]) == 6
    assert len([r for r in log_of(finished) if "held_out_v" in r]) == 3
    assert (finished / "samples" / "0000030.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in finished.glob("checkpoint*")] == ["checkpoint"]


@pytest.mark.parametrize("crash", [15, 20, 30])
def test_resumed_equals_unbroken(finished, data, cache, make_settings, tmp_path, crash):
    with pytest.raises(Interrupted):
        train(make_settings(), data, tmp_path, cache, stop_at(crash))
    folder = train(make_settings(), data, tmp_path, cache)
    ours, theirs = load_file(folder / WEIGHTS), load_file(finished / "pipeline" / WEIGHTS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    volatile = {"time", "steps_per_second"}
    kept = [
        [{k: v for k, v in r.items() if k not in volatile} for r in log_of(output)]
        for output in (tmp_path, finished)
    ]
    assert [r["step"] for r in kept[0]] == [r["step"] for r in kept[1]]
    assert kept[0][-1] == kept[1][-1]


def test_finished_run_runs_no_further(finished, data, cache, make_settings):
    before = load_file(finished / "pipeline" / WEIGHTS)
    said: list[str] = []
    train(make_settings(), data, finished, cache, said.append)
    assert len(said) == 1
    after = load_file(finished / "pipeline" / WEIGHTS)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_changed_settings_are_refused(finished, data, cache, make_settings, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    for changes, name in (
        ({"optim": {"lr": 1e-3}}, "optim.lr"),
        ({"run": {"seed": 1}}, "run.seed"),
        ({"data": {"holdout": ["one"]}}, "data.holdout"),
        ({"model": {"vae": {"factor": 4, "chroma": 2}}}, "model.vae.chroma"),
    ):
        with pytest.raises(UsageError, match=name):
            train(make_settings(**changes), data, tmp_path, cache)
    longer = make_settings(run={"steps": 32, "log_every": 1})
    train(longer, data, tmp_path, cache)
    assert log_of(tmp_path)[-1]["step"] == 32


def test_mistake_before_the_first_checkpoint_can_be_corrected(data, cache, make_settings, tmp_path):
    with pytest.raises(UsageError, match="holdout"):
        train(make_settings(data={"holdout": ["hled"]}), data, tmp_path, cache)
    train(make_settings(run={"steps": 2}), data, tmp_path, cache)


@pytest.mark.parametrize("moment", ["first rename", "second rename", "torn next"])
def test_checkpoint_survives_a_crash_while_replaced(
    finished, data, cache, make_settings, tmp_path, moment
):
    """States in which a crash can leave the folder; all resume at step 30."""
    shutil.copytree(finished / "checkpoint", tmp_path / "checkpoint")
    if moment == "first rename":
        (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
        shutil.copytree(tmp_path / "checkpoint.old", tmp_path / "checkpoint.part")
    elif moment == "second rename":
        shutil.copytree(tmp_path / "checkpoint", tmp_path / "checkpoint.old")
    else:
        (tmp_path / "checkpoint.part").mkdir()
        (tmp_path / "checkpoint.part" / "model.safetensors").write_bytes(b"torn")
    said: list[str] = []
    settings = make_settings(run={"steps": 31, "checkpoint_every": 1})
    train(settings, data, tmp_path, cache, said.append)
    assert "from step 30 to 31" in said[0]
    assert [p.name for p in tmp_path.glob("checkpoint*")] == ["checkpoint"]


def test_only_checkpoint_is_kept_until_the_next_is_whole(
    finished, data, cache, make_settings, tmp_path, monkeypatch
):
    """Two crashes between the renames in a row."""
    from framelift.training import checkpoint

    shutil.copytree(finished / "checkpoint", tmp_path / "checkpoint.old")

    def crash(part, final):
        raise Interrupted

    monkeypatch.setattr(checkpoint, "publish", crash)
    settings = make_settings(run={"steps": 31, "checkpoint_every": 1})
    with pytest.raises(Interrupted):
        train(settings, data, tmp_path, cache)
    monkeypatch.undo()
    said: list[str] = []
    train(settings, data, tmp_path, cache, said.append)
    assert "from step 30 to 31" in said[0]


def test_few_step_stage_continues_from_the_first(finished, data, cache, make_settings, tmp_path):
    settings = make_settings(
        stage="few-step",
        init_from=str(finished / "pipeline"),
        objective={"fit_codec": False, "timesteps": [999, 600, 200], "on_policy": 0.5},
        run={"steps": 6, "log_every": 2, "validate_every": 6, "checkpoint_every": 3},
    )
    folder = train(settings, data, tmp_path, cache)
    last = log_of(tmp_path)[-1]
    assert {"held_out_v", "held_out_pixel"} <= last.keys()
    index = json.loads((folder / "model_index.json").read_text())
    assert index["timesteps"] == [999, 600, 200]
    assert index["steps"] == 3
    first = load_file(finished / "pipeline" / WEIGHTS)
    assert any(not torch.equal(first[n], w) for n, w in load_file(folder / WEIGHTS).items())


@pytest.mark.parametrize("timesteps", [(999,), (999, 600, 200)])
def test_few_step_gradient_in_mixed_precision(make_settings, timesteps):
    """Weights that autocast has cast without gradient must not be reused with it."""
    pipeline = build_pipeline(make_settings().model, timesteps)
    objective = ImageLDMObjective(pipeline, ObjectiveSettings(timesteps=timesteps, on_policy=1.0))
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
    generator = torch.Generator().manual_seed(0)
    hr, lr = torch.rand(2, 1, 3, 32, 32), torch.rand(2, 1, 3, 8, 8)
    for _ in range(4):  # draws different stops
        pipeline.unet.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = objective.loss(pipeline.unet, Batch(hr, lr), generator)
        loss.backward()
        assert all(p.grad is not None for p in pipeline.unet.parameters())
    with torch.no_grad():
        loss, _ = objective.loss(pipeline.unet, Batch(hr, lr), generator)
    assert not loss.requires_grad


def test_divergence_keeps_the_checkpoint(finished, data, cache, make_settings, tmp_path):
    settings = make_settings(optim={"lr": 1e30, "warmup": 1, "clip": 1e30})
    settings = replace(settings, run=replace(settings.run, checkpoint_every=1))
    with pytest.raises(UsageError, match="diverged"):
        train(settings, data, tmp_path, cache)
    for folder in tmp_path.glob("checkpoint"):
        weights = load_file(folder / "model.safetensors")
        assert all(w.isfinite().all() for w in weights.values())


def test_log_forgets_what_will_be_written_again(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 5}\n{"step": 10}\n{"step": 15}\n{"step": 2')
    Track(tmp_path, 10, tensorboard=False)
    assert log.read_text() == '{"step": 5}\n{"step": 10}\n'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "imagee"}, "no method"),
        ({"stage": "denoise"}, "no stage"),
        ({"stage": "few-step"}, "timesteps and on_policy"),
        ({"objective": {"on_polic": 1.0}}, "on_policy"),
    ],
)
def test_faulty_objectives(data, cache, make_settings, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        train(make_settings(**changes), data, tmp_path, cache)


def test_an_ordinary_latent_upscaler_learns_in_both_stages(data, cache, make_settings, tmp_path):
    """A KL VAE, a scheduler of another class that predicts ε, a noise level as label."""
    vae = {
        "type": "AutoencoderKL",
        "block_out_channels": [8, 8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "norm_num_groups": 4,
        "mid_block_add_attention": False,
    }
    settings = make_settings(
        objective={"fit_codec": False, "timesteps": []},
        run={"steps": 20, "log_every": 10, "validate_every": 10},
    )
    settings.model["vae"] = vae
    settings.model["unet"] = {**settings.model["unet"], "num_class_embeds": 1000}
    settings.model["scheduler"] = {"type": "DDIMScheduler", "clip_sample": False}
    settings.model["low_res_scheduler"] = {}
    first = train(settings, data, tmp_path / "denoiser", cache)
    held_out = [r["held_out_epsilon"] for r in log_of(first.parent) if "held_out_epsilon" in r]
    assert held_out[-1] < held_out[0]

    pipeline = load_pipeline(first)
    assert type(pipeline.scheduler).__name__ == "DDIMScheduler"
    assert pipeline.unet.config["num_class_embeds"] == 1000
    pipeline.register_to_config(steps=2)
    pipeline.save_pretrained(tmp_path / "two-steps")
    settings = make_settings(
        stage="few-step",
        init_from=str(tmp_path / "two-steps"),
        objective={"fit_codec": False, "timesteps": [], "on_policy": 1.0},
        run={"steps": 4, "log_every": 2, "validate_every": 4},
    )
    second = train(settings, data, tmp_path / "few-step", cache)
    assert "held_out_pixel" in log_of(second.parent)[-1]
    before, after = load_file(tmp_path / "two-steps" / WEIGHTS), load_file(second / WEIGHTS)
    assert any(not torch.equal(before[n], w) for n, w in after.items())
