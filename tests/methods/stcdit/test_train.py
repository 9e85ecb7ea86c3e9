"""The training stages of STCDiT."""

import pytest
import torch
from stcdit_parts import TRANSFORMER, VAE, disturb, pipeline

from framelift.errors import UsageError
from framelift.methods.base import Batch, StageRequest
from framelift.methods.load import load_pipeline
from framelift.methods.registry import find_method
from framelift.methods.stcdit.transformer import AnchoredWanTransformer

HR = torch.rand(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = Batch(HR, torch.nn.functional.avg_pool2d(HR.flatten(0, 1), 4).unflatten(0, (2, 6)))


def objective(stage, start=None, model=None, **settings):
    request = StageRequest(stage, start, model or {}, settings, frames=6)
    return find_method("stcdit").stage(stage)(request)


def loss_of(made, seed=0):
    """Loss with its gradient, and its terms."""
    return made.loss(made.trained, BATCH, torch.Generator().manual_seed(seed))


def value_of(made):
    return float(loss_of(made)[0].detach())


def test_the_three_stages_in_turn(tmp_path):
    """Each starts from the folder of the one before; every loss falls on its own batch."""
    made = objective("vae", model={"vae": VAE, "pipeline": {"steps": 2, "tile": [4, 8, 8]}})
    folders = [descend(made, tmp_path / "vae")]
    model = {"transformer": TRANSFORMER}
    made = objective("base", load_pipeline(folders[0]), model, fit_latents=True, correction=True)
    made.prepare([BATCH] * 3)
    assert made.pipeline.config["steps"] == 2
    folders.append(descend(made, tmp_path / "base"))
    base = load_pipeline(folders[1])
    model = {"guidance": {"lora_rank": 4, "gated": True}}
    made = objective("stcdit", base, model)
    frozen = {k: v.clone() for k, v in base.transformer.state_dict().items() if "base" in k}
    folders.append(descend(made, tmp_path / "stcdit"))
    read = load_pipeline(folders[2])
    assert isinstance(read.transformer, AnchoredWanTransformer)
    now = read.transformer.state_dict()
    assert all(torch.equal(now[k], v) for k, v in frozen.items())
    assert read.config["residual_std"] == base.config["residual_std"] > 0
    again = objective("stcdit", read)
    assert set(dict(again.trained.named_parameters())) == set(dict(made.trained.named_parameters()))
    assert read(BATCH.lr[0]).shape == (6, 3, 32, 32)
    assert made.show(BATCH).shape == (3, 96, 64)


def descend(made, folder):
    first = value_of(made)
    network = made.trained.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(12):
        loss, terms = loss_of(made)
        assert all(not t.requires_grad for t in terms.values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert value_of(made) < first
    made.pipeline.save_pretrained(folder)
    return folder


def test_latents_are_measured_by_channel():
    made = objective("base", pipeline(), fit_latents=True, correction=True)
    made.prepare([BATCH])
    from framelift.methods.stcdit.codec import SegmentCodec

    codec = SegmentCodec(made.pipeline.vae, [range(6)])
    with torch.no_grad():
        x = codec.encode(HR * 2 - 1)
        y = codec.encode(made.pipeline.enlarge(BATCH.lr, 4))
    torch.testing.assert_close(x.mean((0, 2, 3, 4)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3, 4)), torch.ones(4), atol=1e-4, rtol=0)
    assert made.pipeline.config["residual_std"] == pytest.approx(
        float((x - y).square().mean() ** 0.5)
    )


def test_the_loss_is_that_of_the_velocity():
    """With and without the linear guess the same error counts: a perfect output has none."""
    for std in (None, 0.5):
        made = objective("base", pipeline(residual_std=std))
        seen = {}

        def velocity(x_t, sigma, condition, network, seen=seen):
            seen.update(x_t=x_t, sigma=sigma, y=condition.y)
            return torch.zeros_like(x_t)

        made.pipeline.velocity = velocity
        loss, _ = loss_of(made)
        sigma, x_t = (seen[n].double() for n in ("sigma", "x_t"))
        assert float(loss) > 0.8  # about 1, of the noise, + E‖x₀‖²
        assert x_t.isfinite().all()
        assert sigma.max() <= 1
        assert seen["sigma"].shape == (2,)


def test_noise_levels_lie_high():
    """Uniform before a shift of 5: half of them above 5/6."""
    made = objective("base", pipeline())
    sigma = made.draw_sigma(4000, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert 0 < sigma.min() < sigma.max() <= 1
    assert float(sigma.median()) == pytest.approx(5 / 6, abs=0.02)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_segments_are_drawn(most):
    made = objective("base", pipeline(), segments=most)
    generator = torch.Generator().manual_seed(0)
    drawn = [made.draw_segments(9, generator) for _ in range(40)]
    for segments in drawn:
        assert [i for s in segments for i in s] == list(range(9))
        assert len(segments) <= most
    assert len({len(s) for s in drawn}) == min(most, 3)


def test_only_what_is_added_is_trained():
    made = objective("stcdit", pipeline({"gated": True}))
    names = {n for n, _ in made.trained.named_parameters()}
    assert all(any(w in n for w in ("lora", "afr", "acfm", "anchor_gate")) for n in names)
    trained = {id(p) for p in made.trained.parameters()}
    for name, parameter in made.pipeline.transformer.named_parameters():
        assert parameter.requires_grad == (id(parameter) in trained), name
    assert not any(p.requires_grad for p in made.pipeline.vae.parameters())


def test_anchors_are_used_in_training():
    made = objective("stcdit", pipeline({"gated": True}))
    disturb(made.pipeline.transformer)
    before = value_of(made)
    torch.nn.init.normal_(made.pipeline.transformer.afr.coarse.weight)
    assert value_of(made) != before


@pytest.mark.parametrize("stage", ["base", "stcdit"])
def test_what_a_stage_needs(stage):
    with pytest.raises(UsageError, match="starts from a pipeline"):
        objective(stage)
    bare = pipeline()
    bare.register_modules(transformer=None)
    if stage == "stcdit":
        with pytest.raises(UsageError, match="has none"):
            objective(stage, bare)
