"""Checkpoints hold what was fitted; they come before validation; memory may be saved."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from framelift.errors import UsageError
from framelift.methods.base import Batch
from framelift.methods.image_ldm import train as image_ldm
from framelift.methods.load import load_pipeline
from framelift.methods.stablevsr import train as stablevsr
from framelift.methods.vdm_vsr import train as vdm_vsr
from framelift.training import loop
from framelift.training.checkpoint import Fitted, fit
from framelift.training.loop import train

UNET = "unet/diffusion_pytorch_model.safetensors"
TRANSFORMER = {"in_channels": 32, "hidden_size": 32, "depth": 4, "num_heads": 2}
SHORT = {"steps": 4, "log_every": 2, "validate_every": 4, "checkpoint_every": 2}


class Interrupted(Exception):
    pass


def stop_at(step):
    def say(line):
        if line.startswith(f"step {step} "):
            raise Interrupted

    return say


def test_a_resume_restores_what_was_fitted(data, cache, make_settings, tmp_path):
    """Though the clips are others by then: the codec is fitted once, before the first step."""
    settings = make_settings(run=SHORT | {"steps": 6, "log_every": 1})
    with pytest.raises(Interrupted):
        train(settings, data, tmp_path / "run", cache, stop_at(3))
    others = tmp_path / "data"
    others.mkdir()
    for name, other in (("one", "two"), ("two", "two"), ("held", "held")):
        shutil.copy(data / f"{other}.mp4", others / f"{name}.mp4")
    resumed = load_pipeline(train(settings, others, tmp_path / "run", tmp_path / "cache"))
    whole = load_pipeline(train(settings, data, tmp_path / "whole", cache))
    refitted = load_pipeline(train(settings, others, tmp_path / "others", tmp_path / "cache"))
    assert torch.equal(resumed.vae.std, whole.vae.std)
    assert not torch.equal(refitted.vae.std, whole.vae.std)


def test_fitted_tensors_and_configurations_travel(tmp_path):
    """A linear VAE: mean, basis, and the scaling that its configuration holds."""
    model = {
        "vae": {"linear": True},
        "transformer": TRANSFORMER,
    }

    def objective():
        torch.manual_seed(0)
        pipeline = vdm_vsr.build_pipeline(model)
        return vdm_vsr.PriorObjective(pipeline, vdm_vsr.PriorSettings(fit_latents=True))

    hr = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    accelerator = loop.Accelerator()
    first, second = objective(), objective()
    fitted = fit(first, iter([Batch(hr, hr)]), accelerator, None)
    assert set(fitted.tensors) == {"vae/mean", "vae/basis"}
    assert set(fitted.configs) == {"vae"}
    assert {"scaling_factor", "shift_factor"} <= fitted.configs["vae"].keys()
    fitted.save(tmp_path)
    (tmp_path / "step.json").write_text("{}")
    fit(second, iter([]), accelerator, tmp_path)
    for name, value in first.pipeline.vae.state_dict().items():
        assert torch.equal(value, second.pipeline.vae.state_dict()[name])
    assert first.pipeline.vae.config["scaling_factor"] == pytest.approx(
        second.pipeline.vae.config["scaling_factor"], abs=0
    )
    again = Fitted.load(tmp_path)
    assert again is not None
    assert again.configs == fitted.configs


def test_a_failed_validation_loses_no_step(data, cache, make_settings, tmp_path, monkeypatch):
    settings = make_settings(run=SHORT | {"checkpoint_every": 100})
    whole = train(settings, data, tmp_path / "whole", cache)

    def fail(*arguments):
        raise RuntimeError("no picture")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_sample", fail)
        with pytest.raises(RuntimeError, match="no picture"):
            train(settings, data, tmp_path / "run", cache)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert not any("held_out_v" in line for line in log.splitlines())
    said: list[str] = []
    folder = train(settings, data, tmp_path / "run", cache, said.append)
    assert "from step 4 to 4" in said[0]
    assert "held_out_v" in said[1]
    assert (tmp_path / "run" / "samples" / "0000004.png").exists()
    ours, theirs = load_file(folder / UNET), load_file(whole / UNET)
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())


def kept_bytes(objective, batch: Batch, checkpointing: bool) -> tuple[int, dict[str, torch.Tensor]]:
    """Bytes that the forward pass keeps for the backward one, and the gradients."""
    network = objective.trained.train()
    network.zero_grad()
    if checkpointing:
        loop._checkpoint_activations(network, objective.pipeline)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = objective.loss(network, batch, torch.Generator().manual_seed(0))
    loss.backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    return sum(kept.values()), gradients


def _unet(make_settings, tiny):
    pipeline = image_ldm.build_pipeline(make_settings().model, ())
    return image_ldm.ImageLDMObjective(pipeline, image_ldm.ObjectiveSettings())


def _tcm(make_settings, tiny):
    objective = stablevsr.StableVSRObjective(load_pipeline(tiny), stablevsr.ObjectiveSettings())
    objective.to(torch.device("cpu"))
    return objective


def _transformer(make_settings, tiny):
    model = {
        "vae": {"linear": True},
        "transformer": TRANSFORMER,
    }
    objective = vdm_vsr.PriorObjective(vdm_vsr.build_pipeline(model), vdm_vsr.PriorSettings())
    for parameter in objective.trained.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return objective


@pytest.mark.parametrize("build", [_unet, _tcm, _transformer])
def test_activation_checkpointing_keeps_less_and_changes_nothing(
    build, make_settings, tiny_stablevsr
):
    found = []
    hr = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    batch = Batch(hr, hr[..., ::4, ::4])
    for checkpointing in (False, True):
        torch.manual_seed(0)
        found.append(kept_bytes(build(make_settings, tiny_stablevsr), batch, checkpointing))
    (plain, gradients), (checkpointed, again) = found
    assert checkpointed < 0.75 * plain
    assert gradients.keys() == again.keys()
    assert all(torch.allclose(g, again[n], rtol=1e-4, atol=1e-7) for n, g in gradients.items())


def test_what_cannot_checkpoint_is_refused():
    empty = type("Empty", (), {"components": {}})
    with pytest.raises(UsageError, match="activation_checkpointing"):
        loop._checkpoint_activations(torch.nn.Linear(2, 2), empty)


@pytest.mark.parametrize("name", ["batch", "accumulate", "validate_every"])
def test_lengths_are_counts(make_settings, name):
    with pytest.raises(UsageError, match=f"{name} is 0"):
        make_settings(run={name: 0})
