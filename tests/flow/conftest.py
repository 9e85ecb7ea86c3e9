"""Frames of a real clip, and the weights of RAFT where they are."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/weights"


@pytest.fixture(scope="session")
def frame() -> torch.Tensor:
    """Frame 0 of the example, `[1, 3, 180, 320]`."""
    with av.open(str(ROOT / "examples/big_buck_bunny.mp4")) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def raft_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point torchvision to the weights of raft-things, or skip."""
    pytest.importorskip("torchvision")
    name = "raft_large_C_T_V1-22a6c225.pth"
    if (Path(torch.hub.get_dir()) / "checkpoints" / name).exists():
        return
    if not (SHARED / "hub/checkpoints" / name).exists():
        pytest.skip(f"{name} is not on this machine")
    monkeypatch.setenv("TORCH_HOME", str(SHARED))
