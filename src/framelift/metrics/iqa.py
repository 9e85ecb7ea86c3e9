"""No-reference scores by learned networks, through pyiqa (extra `iqa`).

pyiqa's licence, PolyForm-Noncommercial-1.0.0, forbids commercial use; hence it is in no other
extra, and nothing here depends on it.
"""

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from framelift.errors import InputError, UsageError
from framelift.metrics.base import Better, Sample
from framelift.metrics.pictures import picture
from framelift.metrics.settings import MetricSettings

LICENCE = "PolyForm-Noncommercial-1.0.0"
TITLES = {
    "musiq": "MUSIQ (KonIQ-10k)",
    "clipiqa": "CLIP-IQA",
    "clipiqa+": "CLIP-IQA+",
    "maniqa": "MANIQA (KonIQ-10k)",
    "liqe": "LIQE",
}


class LearnedIQA:
    """MUSIQ, CLIP-IQA, CLIP-IQA+, MANIQA or LIQE under pyiqa's name, with pyiqa's weights."""

    better: Better = "higher"
    needs: frozenset[str] = frozenset()
    has_truth_value = True

    def __init__(self, name: str, settings: MetricSettings) -> None:
        self.name, self.settings = name, settings
        self._score = _create(name, settings.device)
        self.protocol: dict[str, str | int | float | bool] = {
            "color": "RGB",
            "rounding": "8 bits" if settings.bits8 else "none",
            "network": TITLES[name],
            "library": f"pyiqa {version('pyiqa')}",
            "licence": LICENCE,
        }

    def __call__(self, sample: Sample) -> float | None:
        return float(self._score(picture(sample.sr, self.settings)))


def _create(name: str, device: str) -> Any:
    if find_spec("pyiqa") is None:
        raise UsageError(
            f"{TITLES[name]} needs pyiqa, which is not installed, and is in no other extra because "
            f"its licence, {LICENCE}, forbids commercial use.",
            'If your use is not commercial, install it with pip install "framelift[iqa]".',
        )
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]

        return pyiqa.create_metric(name, device=torch.device(device))
    except ImportError as error:
        raise UsageError(
            f"pyiqa's {TITLES[name]} needs a module that is missing ({error}).",
            "Install it, or leave this metric out.",
        ) from error
    except Exception as error:  # whatever network, hub and cache may raise
        raise InputError(
            f"pyiqa could not load the weights of {TITLES[name]} ({type(error).__name__}).",
            "Run once with a network connection, or leave this metric out.",
        ) from error
