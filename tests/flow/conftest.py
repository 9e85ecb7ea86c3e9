"""Frames of a real clip, and the weights of RAFT where they are."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from support import find_weights

ROOT = Path(__file__).parents[2]


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
    find_weights(monkeypatch, "raft_large_C_T_V1-22a6c225.pth")
