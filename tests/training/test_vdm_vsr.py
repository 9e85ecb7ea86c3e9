"""Training of VDM-VSR's parts on Moving MNIST made from a small real IDX file."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.normalization import RMSNorm

from framelift.errors import UsageError
from framelift.methods.load import load_pipeline
from framelift.methods.vdm_vsr.regression import RegressionPipeline
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.methods.vdm_vsr.stdit import HeadNorm, STDiT, _rotations, rotate
from framelift.methods.vdm_vsr.train import (
    PriorObjective,
    PriorSettings,
    build_pipeline,
    variational_bits,
)
from framelift.methods.vdm_vsr.transition import Transition
from framelift.training.loop import train
from framelift.training.made import find_makers
from framelift.training.objectives import build_objective
from framelift.training.settings import RECIPES, load_recipe
from framelift.training.store import open_store

VAE = {
    "block_out_channels": [8, 8, 8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "mid_block_add_attention": False,
}
PRIOR = {"hidden_size": 32, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Bars and rings of 28×28 pixels in MNIST's format."""
    root = tmp_path_factory.mktemp("data") / "mnist"
    root.mkdir()
    y, x = np.mgrid[:28, :28]
    rng = np.random.default_rng(0)
    for name, count in (("train-images", 30), ("t10k-images", 10)):
        images = []
        for _ in range(count):
            radius, angle = rng.uniform(4, 11), rng.uniform(0, np.pi)
            ring = abs(np.hypot(y - 14, x - 14) - radius) < 2
            bar = abs((x - 14) * np.sin(angle) + (y - 14) * np.cos(angle)) < 2
            images.append(np.where(ring | bar, 255, 0))
        data = np.array(images, np.uint8)
        head = b"".join(int(n).to_bytes(4) for n in (0x803, *data.shape))
        (root / f"{name}-idx3-ubyte.gz").write_bytes(gzip.compress(head + data.tobytes()))
    return root.parent


@pytest.fixture
def settings(make_settings):
    def make(stage, frames=4, **changes):
        source = {"dataset": "moving-mnist", "folder": "mnist", "split": "train"}
        source["holdout_split"] = "val"
        defaults = {
            "method": "vdm_vsr",
            "stage": stage,
            "objective": {},
            "model": {"vae": VAE, "transformer": PRIOR},
            "data": {
                "frames": frames,
                "crop": 64,
                "margin": 0,
                "augment": "none",
                "sources": [source],
                "holdout": [],
            },
            "optim": {"lr": 3e-3, "ema_decay": 0.9},
            "run": {"steps": 24, "batch": 4, "log_every": 4, "validate_every": 12},
        }
        made = make_settings(**defaults)
        made.objective.clear()
        made.model.clear()
        made.model.update(defaults["model"])
        made.objective.update(changes.pop("objective", {}))
        return made

    return make


def held_out(folder: Path, term: str) -> list[float]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r[f"held_out_{term}"] for r in records if f"held_out_{term}" in r]


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records if "loss" in r]


def test_autoencoder_then_prior(settings, digits, cache, tmp_path):
    first = train(settings("autoencoder", 1), digits, tmp_path / "ae", cache)
    assert losses(tmp_path / "ae")[-1] < 0.7 * losses(tmp_path / "ae")[0]
    assert (tmp_path / "ae/samples/0000024.png").exists()

    second = settings("prior", objective={"fit_latents": True})
    second = replace(second, init_from=str(first))
    folder = train(second, digits, tmp_path / "prior", cache)
    assert losses(tmp_path / "prior")[-1] < 0.95 * losses(tmp_path / "prior")[0]
    assert held_out(tmp_path / "prior", "variance")

    before, after = load_pipeline(first), load_pipeline(folder)
    for a, b in zip(before.vae.parameters(), after.vae.parameters(), strict=True):
        assert torch.equal(a, b)  # the prior's training leaves the autoencoder alone
    assert after.vae.config["shift_factor"] is not None
    objective = PriorObjective(after, PriorSettings())
    clips = open_store(digits, second.data.sources, cache)
    hr = torch.stack([torch.from_numpy(c.frames[0:4, :, :]) for c in clips[:8]])
    z = objective.encode(hr.permute(0, 1, 4, 2, 3).float() / 255, torch.Generator())
    assert z.shape == (8, 4, 4, 8, 8)
    assert abs(float(z.mean())) < 0.3
    assert 0.7 < float(z.std()) < 1.4


def test_validation_says_whether_shapes_persist(settings, digits, cache, tmp_path, monkeypatch):
    """Of clips that are made in memory, by samples of the averaged weights."""
    for name in ("SHOWN_STEPS", "MEASURED_STEPS"):
        monkeypatch.setattr(f"framelift.methods.vdm_vsr.train.{name}", 3)
    own = settings("prior", objective={"fit_latents": True, "measured_clips": 2})
    own = replace(own, data=replace(own.data, degradation="none"))
    assert find_makers(digits, own.data) is not None
    train(own, digits, tmp_path / "run", cache)
    assert losses(tmp_path / "run")[-1] < 0.97 * losses(tmp_path / "run")[0]
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    (first, last) = (r for r in records if "digits_a_clip" in r)
    assert (first["step"], last["step"]) == (12, 24)
    assert first["digits_a_clip_of_truth"] == last["digits_a_clip_of_truth"]


@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_prior_on_a_linear_autoencoder(predicts, settings, digits, cache, tmp_path):
    """One stage: the autoencoder is fitted before the first step, whatever is predicted."""
    own = settings("prior", objective={"fit_latents": True, "min_snr": 5.0, "weight_floor": 1.0})
    own.model["vae"] = {"linear": True, "factor": 8, "latent_channels": 12}
    own.model["transformer"] = {**PRIOR, "in_channels": 12}
    own.model["prediction_type"] = predicts
    folder = train(own, digits, tmp_path / "run", cache)
    assert held_out(folder.parent, predicts)[-1] < 0.97 * held_out(folder.parent, predicts)[0]
    pipeline = load_pipeline(folder)
    assert pipeline.scheduler.config["prediction_type"] == predicts
    clip = open_store(digits, own.data.sources, cache)[0].frames[0:4, :, :]
    x = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1
    made = pipeline.codec().decode(pipeline.codec().encode(x))
    assert (made - x).square().mean() < 0.2 * x.var()
    own = VDMVSRSettings(steps=3, step_size=0.1)
    assert pipeline(x[:, :, ::4, ::4] / 2 + 0.5, settings=own).isfinite().all()


def test_weights_of_the_predictions_agree(settings, digits):
    """What counts is the error of Z_0: the same, whichever way it is predicted."""
    model = settings("prior").model
    objective = PriorObjective(build_pipeline(model), PriorSettings(min_snr=5.0, weight_floor=1.0))
    alpha_bar = torch.tensor([0.999, 0.9, 0.5, 0.01])
    snr = alpha_bar / (1 - alpha_bar)
    weights = {
        kind: objective.weight(alpha_bar, kind) for kind in ("epsilon", "sample", "v_prediction")
    }
    torch.testing.assert_close(weights["sample"], snr.clamp(max=5) + 1)
    # ε - ε̂ = -√SNR (Z_0 - Ẑ_0), v - v̂ = (Z_0 - Ẑ_0) / -√(1 - ᾱ)
    torch.testing.assert_close(weights["epsilon"] * snr, weights["sample"])
    torch.testing.assert_close(weights["v_prediction"] / (1 - alpha_bar), weights["sample"])
    plain = PriorObjective(objective.pipeline, PriorSettings())
    assert (plain.weight(alpha_bar, "epsilon") == 1).all()


def test_a_linear_autoencoder_has_nothing_to_train(settings, digits, cache, tmp_path):
    own = settings("autoencoder", 1)
    own.model["vae"] = {"linear": True}
    with pytest.raises(UsageError, match="linear"):
        train(own, digits, tmp_path / "run", cache)


def test_regression_learns_both_factors(settings, digits, cache, tmp_path):
    own = settings("regression")
    own = replace(own, run=replace(own.run, steps=96, validate_every=24))
    folder = train(own, digits, tmp_path / "run", cache)
    for term in ("squared_4", "squared_8"):
        assert held_out(tmp_path / "run", term)[-1] < held_out(tmp_path / "run", term)[0]
    pipeline = RegressionPipeline.from_pretrained(folder)
    for scale in (4, 8):
        pipeline.register_to_config(scale=scale)
        made = pipeline(torch.rand(4, 3, 64 // scale, 64 // scale))
        assert made.shape == (4, 3, 64, 64)


def test_variational_term_trains_the_variance_alone():
    generator = torch.Generator().manual_seed(0)
    z0, noise, epsilon, v = (torch.randn(2, 4, 2, 3, 3, generator=generator) for _ in range(4))
    cumulative = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    t = torch.tensor([5, 800])
    step = Transition(cumulative, t, t - 1)
    alpha_bar = step.alpha_bar.reshape(-1, 1, 1, 1, 1)
    z_t = alpha_bar.sqrt() * z0 + (1 - alpha_bar).sqrt() * noise
    v.requires_grad_()
    bits = variational_bits(step, z_t, z0, step.z0(z_t, epsilon), v)
    bits.sum().backward()
    assert bits.shape == (2,)
    assert v.grad is not None
    assert v.grad.abs().sum() > 0
    exact = variational_bits(step, z_t, z0, z0, torch.full_like(v, -1.0))
    torch.testing.assert_close(exact, torch.zeros(2), atol=1e-3, rtol=0)
    assert (bits.detach() > exact).all()


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ({}, 29.55),  # the authors' STDiT-SS/2, without cross-attention and caption embedder
        ({"hidden_size": 1152, "depth": 28, "num_heads": 16}, 604.8),
    ],
)
def test_author_sizes(config, millions):
    with torch.device("meta"):
        network = STDiT(**config)
    count = sum(p.numel() for p in network.parameters()) / 1e6
    c, depth = config.get("hidden_size", 384), config.get("depth", 12)
    matrices = 16 * c * c * depth / 1e6  # two attentions and an MLP of four times the width
    assert matrices < count < 1.09 * matrices
    assert count == pytest.approx(millions, abs=0.06)


def test_recipes_build_what_they_name():
    for path in sorted(RECIPES.glob("vdm_vsr_*.toml")):
        made = load_recipe(path)
        if made.stage == "regression":
            assert build_objective(made).trained is not None
        elif "transformer" in made.model:
            with torch.device("meta"):
                assert sum(p.numel() for p in STDiT(**made.model["transformer"]).parameters())


def test_rotation_and_norm_equal_those_of_diffusers():
    x = torch.randn(3, 2, 7, 8, generator=torch.Generator().manual_seed(0))
    positions = get_1d_rotary_pos_embed(8, 7, use_real=True)
    torch.testing.assert_close(rotate(x, *positions), apply_rotary_emb(x, positions))
    norm, theirs = HeadNorm(8), RMSNorm(8, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    theirs.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), theirs(x))
    assert rotate(x.double(), *positions).dtype == norm(x.double()).dtype == torch.float64


def test_joint_rotations_tell_how_far_tokens_lie_apart():
    """Products of rotated tokens depend on their distance in time, row and column alone."""
    shape = (3, 4, 5)
    cosine, sine = _rotations("joint", 16, shape)
    assert cosine.shape == sine.shape == (60, 16)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(16, generator=generator).expand(60, 16) for _ in range(2))
    products = (rotate(q, cosine, sine) @ rotate(k, cosine, sine).T).view(*shape, *shape)
    moved = products[1, 2, 1, 0, 1, 3]
    torch.testing.assert_close(products[2, 3, 2, 1, 2, 4], moved)
    others = [products[1, 2, 1, 1, 1, 3], products[1, 2, 1, 0, 2, 3], products[1, 2, 1, 0, 1, 4]]
    assert all(abs(other - moved) > 1e-3 for other in others)


def test_a_joint_branch_finds_what_moved_in_one_look():
    """One block reaches any place of any frame; the separate branches need two."""
    reached = {}
    for temporal in ("rope", "joint"):
        torch.manual_seed(0)
        network = STDiT(hidden_size=16, depth=1, num_heads=1, patch_size=1, temporal=temporal)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        torch.nn.init.zeros_(network.blocks[0].attn.proj.weight)
        z = torch.randn(1, 4, 3, 2, 2)
        other = z.clone()
        other[:, :, 0, 0, 0] += 1
        t = torch.tensor(300)
        change = (network(z, t) - network(other, t)).abs().amax(dim=(0, 1))
        reached[temporal] = bool(change[2, 1, 1] > 1e-5)
    assert reached == {"rope": False, "joint": True}


def test_a_network_works_in_the_precision_of_autocast_throughout():
    """The residual stream, too: in float32 it would double the memory that moves."""
    torch.manual_seed(0)
    network = STDiT(hidden_size=16, depth=2, num_heads=2, temporal="joint")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    seen = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    z, t = torch.randn(2, 4, 3, 4, 4), torch.tensor([10, 900])
    exact = network(z, t)
    with torch.autocast("cpu", torch.bfloat16):
        made = network(z, t)
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert (made - exact).abs().max() < 0.05 * exact.abs().max()


def test_tables_made_for_sampling_serve_training():
    network = STDiT(hidden_size=16, depth=1, num_heads=2, temporal="joint")
    z, t = torch.randn(1, 4, 3, 4, 4), torch.tensor(10)
    with torch.inference_mode():
        network(z, t)
    network(z, t).sum().backward()
    assert len(network._tables) == 1


@pytest.mark.parametrize("temporal", ["sincos", "rope", "joint"])
def test_time_reaches_every_frame(temporal):
    """A change in one frame alters the prediction of all once the zero gates are open."""
    torch.manual_seed(0)
    network = STDiT(hidden_size=16, depth=2, num_heads=2, temporal=temporal)
    z = torch.randn(1, 4, 5, 4, 4)
    other = z.clone()
    other[:, :, 1] += 1
    t = torch.tensor(300)
    assert torch.equal(network(z, t), torch.zeros(1, 8, 5, 4, 4))  # the last layer starts at zero
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    change = (network(z, t) - network(other, t)).abs().amax(dim=(0, 1, 3, 4))
    assert (change > 1e-5).all()
    reversed_in_time = network(z.flip(2), t).flip(2)
    assert (network(z, t) - reversed_in_time).abs().max() > 1e-4  # it knows time's direction
