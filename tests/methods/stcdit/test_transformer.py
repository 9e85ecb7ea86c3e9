"""The DiT with anchors: what it is at first, LoRA, gradients."""

import pytest
import torch
from stcdit_parts import TINY_INPUT, disturb, pipeline

from framelift.methods.stcdit.transformer import AnchoredWanTransformer

INPUT = torch.randn(2, 12, 3, 4, 6, generator=torch.Generator().manual_seed(0))
ANCHORS = torch.randn(2, 4, 2, 4, 6, generator=torch.Generator().manual_seed(1))
TEXT = torch.zeros(2, 1, 8)
T = torch.tensor([900.0, 100.0])
FUSIONS = ("none", "dwconv", "acfm")


def run(network, x=INPUT, anchors=ANCHORS, frames=(0, 2), **more):
    options = {} if anchors is None else {"anchors": anchors, "anchor_frames": frames}
    with torch.no_grad():
        return network(x, T, TEXT, return_dict=False, **options, **more)[0]


def extended(**guidance) -> AnchoredWanTransformer:
    made = pipeline({"gated": True, **guidance}).transformer
    assert isinstance(made, AnchoredWanTransformer)
    return made


def base_output():
    network = pipeline().transformer
    with torch.no_grad():
        return network(INPUT, T, TEXT, return_dict=False)[0]


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_begins_as_its_base(refine, fusion):
    made = extended(refine=refine, fusion=fusion)
    torch.testing.assert_close(run(made), base_output(), atol=1e-6, rtol=0)
    disturb(made)
    assert (run(made) - base_output()).abs().max() > 1e-3


def test_without_anchors_it_is_its_base_with_lora():
    made = extended()
    torch.testing.assert_close(run(made, anchors=None), base_output(), atol=1e-6, rtol=0)
    none = extended(anchors="none")
    torch.testing.assert_close(run(none), base_output(), atol=1e-6, rtol=0)


def test_open_gates_are_the_papers_joint_attention():
    gated, joint = extended(), extended(gated=False)
    disturb(joint)
    joint_weights = joint.state_dict()
    gates = {f"blocks.{i}.anchor_gate.weight": torch.ones(2) for i in range(2)}
    gated.load_state_dict({**joint_weights, **gates})
    torch.testing.assert_close(run(gated), run(joint), atol=1e-5, rtol=1e-4)


def test_anchors_act_on_the_frames_they_are_from():
    made = extended()
    disturb(made)
    assert not torch.allclose(run(made, frames=(0, 2)), run(made, frames=(1, 2)))
    assert not torch.allclose(run(made), run(made, anchors=-ANCHORS))


def test_cross_attended_anchors():
    made = extended(anchors="cross", gated=False)
    assert not any("acfm" in name for name in made.state_dict())
    assert not torch.allclose(run(made), run(made, anchors=-ANCHORS))


def test_merged_lora_computes_the_same():
    made = extended()
    disturb(made)
    before = run(made)
    made.merge_lora()
    torch.testing.assert_close(run(made), before, atol=1e-5, rtol=1e-4)


def test_the_tiny_models_lq_patches():
    noisy, lq = INPUT[:, :4], INPUT[:, 4:8]
    base = pipeline(base=TINY_INPUT).transformer
    made = pipeline({"lq_patches": True, "gated": True}, base=TINY_INPUT).transformer
    with torch.no_grad():
        expected = base(noisy, T, TEXT, return_dict=False)[0]
    torch.testing.assert_close(run(made, noisy, lq=lq), expected, atol=1e-6, rtol=0)
    assert torch.equal(made.lq_patch_embedding.weight, made.patch_embedding.weight)
    disturb(made)
    assert not torch.allclose(run(made, noisy, lq=lq), run(made, noisy, lq=-lq))


@pytest.mark.parametrize("gated", [True, False])
def test_gradients_reach_every_trained_tensor(gated):
    """Within a few steps: what is zero at first opens one after the other."""
    made = pipeline({"gated": gated, "lq_patches": True}, base=TINY_INPUT).transformer
    made.requires_grad_(False)
    added = made.added_parameters()
    for parameter in added.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(added.values(), lr=1e-2)
    reached = set()
    for _ in range(4):
        output = made(
            INPUT[:, :4], T, TEXT, return_dict=False,
            anchors=ANCHORS, anchor_frames=(0, 2), lq=INPUT[:, 4:8],
        )[0]  # fmt: skip
        (output - ANCHORS.mean()).square().mean().backward()
        reached |= {n for n, p in added.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
    assert reached == set(added)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        made = extended()
        disturb(made)
        if checkpointing:
            made.enable_gradient_checkpointing()
        output = made(INPUT, T, TEXT, return_dict=False, anchors=ANCHORS, anchor_frames=(0, 2))[0]
        output.square().mean().backward()
        gradients.append([p.grad for p in made.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("guidance", [{}, {"gated": True}, {"fusion": "none", "refine": False}])
def test_saved_and_read_again(tmp_path, guidance):
    made = extended(**guidance)
    disturb(made)
    made.save_pretrained(tmp_path)
    read = AnchoredWanTransformer.from_pretrained(tmp_path)
    torch.testing.assert_close(run(read), run(made), atol=1e-6, rtol=1e-5)


def test_sizes_of_the_paper():
    """LoRA 613 M, AFR and ACFM 43 M: 7.06 % beside Wan2.1 I2V-14B without its image branch."""
    with torch.device("meta"):
        made = AnchoredWanTransformer(in_channels=36)
    added = made.added_parameters()
    lora = sum(p.numel() for n, p in added.items() if "lora_" in n)
    modules = sum(p.numel() for p in added.values()) - lora
    assert round(lora / 1e6) == 613
    assert round(modules / 1e6) == 43
