"""Small clips, and evaluations of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from framelift.evaluation.evaluate import evaluate
from framelift.evaluation.report import Results
from framelift.evaluation.settings import EvaluateSettings


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Callable[..., Results]:
    """Evaluate bicubic on the two clips, unless told otherwise."""

    def run(output: str = "out", should_stop=lambda: False, **changes) -> Results:
        settings = {
            "dataset": "folder",
            "root": data,
            "methods": ("bicubic",),
            "metrics": ("psnr", "ssim"),
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
        }
        chosen = EvaluateSettings(**{k: v for k, v in (settings | changes).items() if v})
        return evaluate(chosen, tmp_path / output, should_stop=should_stop)

    return run
