import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framelift.errors import InputError, UsageError
from framelift.flow import build_flow, pad_to
from framelift.ops.warp import warp
from framelift.weights.torchvision import torchvision_weights

DIS = ["dis", "dis-fast", "dis-ultrafast"]


def shifted(frame, dx, dy):
    """Two views of a frame such that a(p) = b(p + (dx, dy))."""
    a = frame[..., 8:-8, 8:-8]
    b = frame[..., 8 - dy : frame.shape[-2] - 8 - dy, 8 - dx : frame.shape[-1] - 8 - dx]
    return a, b


def inner_error(flow, dx, dy):
    wanted = torch.tensor([dx, dy]).view(1, 2, 1, 1)
    return float((flow - wanted).abs()[..., 16:-16, 16:-16].median())


@pytest.mark.parametrize("name", DIS)
@pytest.mark.parametrize(("dx", "dy"), [(3, -2), (-5, 0), (0, 0)])
def test_dis_finds_a_shift(frame, name, dx, dy):
    a, b = shifted(frame, dx, dy)
    flow = build_flow(name)(a, b)
    assert flow.shape == (1, 2, *a.shape[-2:])
    assert flow.dtype == torch.float32
    assert inner_error(flow, dx, dy) < 0.1


def test_the_convention_is_that_of_warp(frame):
    a, b = shifted(frame, 4, 1)
    moved = (warp(b, build_flow("dis")(a, b)) - a).square().mean()
    assert moved < 0.05 * (b - a).square().mean()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_dis_accepts_any_size(height, width):
    frames = torch.rand(2, 3, height, width)
    flow = build_flow("dis-fast")(frames, frames.flip(0))
    assert flow.shape == (2, 2, height, width)
    assert flow.isfinite().all()


def test_a_batch_is_its_frames(frame):
    a, b = shifted(frame, 2, 1)
    flow = build_flow("dis")
    assert torch.equal(flow(torch.cat([a, b]), torch.cat([b, a]))[1:], flow(b, a))


def test_protocols_tell_estimators_apart():
    protocols = [build_flow(name).protocol for name in DIS]
    assert {p["flow_preset"] for p in protocols} == {"medium", "fast", "ultrafast"}
    assert [build_flow(name).name for name in DIS] == DIS


def test_padding_repeats_borders():
    frames = torch.rand(1, 3, 5, 9)
    padded = pad_to(frames, 8, 16)
    assert padded.shape == (1, 3, 16, 16)
    assert torch.equal(padded[..., :5, :9], frames)
    assert torch.equal(padded[..., 5:, :9], frames[..., 4:, :].expand(-1, -1, 11, -1))
    assert pad_to(frames[..., :8], 1, 2) is not None
    assert pad_to(padded, 8, 16) is padded


@pytest.mark.parametrize("size", [(128, 160), (90, 121)])
def test_raft_finds_a_shift_at_any_size(frame, raft_weights, size):
    a, b = (view[..., : size[0], 40 : 40 + size[1]] for view in shifted(frame, 3, -2))
    flow = build_flow("raft-things", iterations=4)(a, b)
    assert flow.shape == (1, 2, *size)
    assert not flow.requires_grad
    assert inner_error(flow, 3, -2) < 0.3


def test_raft_is_deterministic_and_says_what_it_is(frame, raft_weights):
    a, b = (view[..., :128, :128] for view in shifted(frame, 1, 0))
    estimator = build_flow("raft-things", iterations=1)
    assert torch.equal(estimator(a, b), estimator(a, b))
    assert estimator.protocol == {
        "flow": "torchvision raft_large",
        "flow_weights": "C_T_V1",
        "flow_iterations": 1,
    }


def test_raft_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UsageError, match=r"framelift\[eval\]"):
        build_flow("raft")


def test_downloads_are_not_announced_on_standard_output(capsys):
    with torchvision_weights("RAFT", "raft.pth", "use the flow dis"):
        sys.stdout.write("Downloading\n")
    assert capsys.readouterr() == ("", "Downloading\n")


def test_raft_with_a_damaged_file(monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    folder = Path(tmp_path) / "hub/checkpoints"
    folder.mkdir(parents=True)
    (folder / "raft_large_C_T_SKHT_V2-ff5fadd5.pth").write_bytes(b"not weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match="TORCH_HOME"):
        build_flow("raft")


def test_a_pairs_flow_does_not_depend_on_those_before():
    """OpenCV's object remembers: flows must not depend on where windows or a resumed run begin."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(1, 3, 8, 8, generator=generator)
    still = torch.nn.functional.interpolate(small, size=(32, 40), mode="bicubic").clamp(0, 1)
    clip = [still.roll((n, 2 * n), (-2, -1)) for n in range(4)]
    used = build_flow("dis")
    for a, b in ((1, 0), (2, 1), (3, 2), (0, 1)):
        assert torch.equal(used(clip[a], clip[b]), build_flow("dis")(clip[a], clip[b]))
