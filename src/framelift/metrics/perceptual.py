"""LPIPS, tLPIPS and DISTS on the networks of torchmetrics, which are those of the authors.

Only the composition is ours: features of a frame are computed once, though LPIPS and tLPIPS ask
for them several times, and those of a ground truth serve every method.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from framelift.metrics.base import Better, Frame, Sample
from framelift.metrics.pictures import picture
from framelift.metrics.settings import MetricSettings
from framelift.weights.torchvision import torchvision_weights

TRUNKS = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
C = 1e-6
MINIMUM = 32  # pixels a side that every trunk's pooling leaves something of


class LPIPSNetwork:
    """LPIPS v0.1 (Zhang et al. 2018) between frames; see `settings.lpips` for its trunk."""

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.keep = False
        """Whether features are wanted again when the next frame is measured."""

    @cached_property
    def _network(self) -> Any:
        with torchvision_weights("LPIPS", TRUNKS[self.settings.lpips], "leave this metric out"):
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            network: Any = LearnedPerceptualImagePatchSimilarity(net_type=self.settings.lpips).net
            return network.to(self.settings.device).eval().requires_grad_(False)

    def load(self) -> None:
        """Load the network now, so that what is missing is said at once."""
        _ = self._network

    def features(self, frame: Frame) -> list[Tensor]:
        """Unit vectors along channels, one map for each of five layers."""

        def compute() -> list[Tensor]:
            scaled = self._network.scaling_layer(picture(frame, self.settings) * 2 - 1)
            return [
                f / (f.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
                for f in self._network.net(scaled)
            ]

        return frame.derive("lpips", compute, keep=self.keep)

    def __call__(self, a: Frame, b: Frame) -> float | None:
        """Weighted squared distance of the features, mean over positions, sum over layers."""
        if min(a.rgb.shape[-2:]) < MINIMUM:
            return None
        pairs = zip(self.features(a), self.features(b), strict=True)
        layers = [
            weigh((x - y).square()).mean()
            for weigh, (x, y) in zip(self._network.lins, pairs, strict=True)
        ]
        return float(torch.stack(layers).sum())


class LPIPS:
    """Distance to the ground truth."""

    name = "lpips"
    better: Better = "lower"
    needs = frozenset({"gt"})
    has_truth_value = False

    def __init__(self, settings: MetricSettings, network: LPIPSNetwork) -> None:
        network.load()
        self._network = network
        self.protocol = _protocol(settings, f"LPIPS v0.1, {settings.lpips}")

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        return self._network(sample.sr, sample.gt)


class TLPIPS:
    """|LPIPS(gt_t, gt_t−1) − LPIPS(sr_t, sr_t−1)| × 10³ (Chu et al. 2020, as in StableVSR)."""

    name = "tlpips"
    better: Better = "lower"
    needs = frozenset({"gt"})
    has_truth_value = False

    def __init__(self, settings: MetricSettings, network: LPIPSNetwork) -> None:
        network.load()
        network.keep = True
        self._network = network
        self.protocol = _protocol(settings, f"LPIPS v0.1, {settings.lpips}") | {"factor": 1000}

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        sr, gt = self._change(sample.sr), self._change(sample.gt)
        return None if sr is None or gt is None else abs(gt - sr) * 1000

    def _change(self, frame: Frame) -> float | None:
        before = frame.previous
        if before is None:
            return None
        return frame.derive("tlpips", lambda: self._network(frame, before))


class DISTS:
    """Structure and texture similarity (Ding et al. 2020) on VGG16, eq. 1 to 5."""

    name = "dists"
    better: Better = "lower"
    needs = frozenset({"gt"})
    has_truth_value = False

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self.protocol = _protocol(settings, "VGG16, weights of the authors")
        with torchvision_weights("DISTS", TRUNKS["vgg"], "leave this metric out"):
            from torchmetrics.functional.image.dists import DISTSNetwork

            self._network: Any = DISTSNetwork().to(settings.device).eval().requires_grad_(False)

    def __call__(self, sample: Sample) -> float | None:
        assert sample.gt is not None
        if min(sample.sr.rgb.shape[-2:]) < MINIMUM:
            return None
        total = torch.zeros((), device=self.settings.device)
        pairs = zip(self._features(sample.sr), self._features(sample.gt), strict=True)
        for (x, y), texture, structure in zip(pairs, *self._weights, strict=True):
            x_mean, y_mean = x.mean((2, 3)), y.mean((2, 3))
            similar_means = (2 * x_mean * y_mean + C) / (x_mean**2 + y_mean**2 + C)
            covariance = (x * y).mean((2, 3)) - x_mean * y_mean
            x_var, y_var = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
            similar_shapes = (2 * covariance + C) / (x_var + y_var + C)
            total += (texture * similar_means).sum() + (structure * similar_shapes).sum()
        return 1 - float(total)

    @cached_property
    def _weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """α (texture) and β (structure) of every channel, by layer; all together sum to one."""
        alpha, beta = (w.detach()[..., 0, 0] for w in (self._network.alpha, self._network.beta))
        total = alpha.sum() + beta.sum()
        alpha, beta = (torch.split(w / total, self._network.chns, dim=1) for w in (alpha, beta))
        return list(alpha), list(beta)

    def _features(self, frame: Frame) -> list[Tensor]:
        return frame.derive(
            "dists", lambda: self._network.forward_once(picture(frame, self.settings))
        )


def _protocol(settings: MetricSettings, network: str) -> dict[str, str | int | float | bool]:
    return {
        "color": "RGB",
        "border": 0,
        "rounding": "8 bits" if settings.bits8 else "none",
        "network": network,
    }
