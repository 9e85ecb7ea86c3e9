"""A real picture that every machine decodes to the same bits, and weights where they are."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from support import find_weights
from torch import Tensor

from framelift.metrics.base import Metric
from framelift.metrics.measure import Measurement, measure_clip
from framelift.metrics.registry import build_metrics
from framelift.metrics.settings import MetricSettings

ROOT = Path(__file__).parents[2]
TRUNKS = ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth")


@cache
def built(names: tuple[str, ...], settings: MetricSettings) -> list[Metric]:
    """Metrics, their networks loaded once for all tests."""
    return build_metrics(names, settings)


def to_tensor(rgb: np.ndarray) -> Tensor:
    """`[H, W, 3]` uint8 as `[3, H, W]` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="session")
def planes() -> np.ndarray:
    """Luma of the example's frames `[48, 180, 320]`: H.264 decodes to the same bits anywhere."""
    with av.open(str(ROOT / "examples/big_buck_bunny.mp4")) as container:
        frames = [f.to_ndarray(format="yuv420p")[:180] for f in container.decode(video=0)]
    return np.stack(frames)


@pytest.fixture(scope="session")
def pair(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A colour picture `[180, 320, 3]` of three frames' luma, and its 3×3 box blur."""
    gt = np.stack([planes[i] for i in (0, 5, 10)], axis=2)
    padded = np.pad(gt.astype(int), ((1, 1), (1, 1), (0, 0)), mode="edge")
    total = sum(padded[y : y + 180, x : x + 320] for y in range(3) for x in range(3))
    return (total // 9).astype(np.uint8), gt


@pytest.fixture
def trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point torchvision to the trunks of LPIPS and DISTS, or skip."""
    pytest.importorskip("torchvision")
    pytest.importorskip("torchmetrics")
    find_weights(monkeypatch, *TRUNKS)


@pytest.fixture
def score() -> Callable[..., float | None]:
    """`score(name, sr, gt=None, **settings)`: a metric of one frame `[H, W, 3]` uint8."""

    def of(name: str, sr: np.ndarray, gt: np.ndarray | None = None, **settings) -> float | None:
        metrics = built((name,), MetricSettings(**settings))
        truth = None if gt is None else [to_tensor(gt)]
        return measure_clip(metrics, {"x": [to_tensor(sr)]}, truth).values["x"][name][0]

    return of


@pytest.fixture
def clip_of(planes: np.ndarray) -> Callable[..., list[Tensor]]:
    """`clip_of(frames, dx, dy)`: a window that pans over a real frame, content moving (dx, dy)."""

    def pan(count: int, dx: int, dy: int, index: int = 0) -> list[Tensor]:
        picture = np.repeat(planes[index][..., None], 3, axis=2)
        clip = []
        for t in range(count):
            y, x = 24 - t * dy, 32 - t * dx
            clip.append(to_tensor(picture[y : y + 128, x : x + 240]))
        return clip

    return pan


@pytest.fixture
def measure() -> Callable[..., Measurement]:
    """`measure(names, results, gt=…, **settings)` with DIS unless set otherwise."""

    def run(names: list[str], results, gt=None, lr=None, **settings) -> Measurement:
        return measure_clip(built(tuple(names), MetricSettings(**settings)), results, gt, lr)

    return run
