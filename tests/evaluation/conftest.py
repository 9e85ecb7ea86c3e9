"""Small clips, and evaluations of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation.clips import write_clip

from framelift.evaluation.evaluate import evaluate
from framelift.evaluation.report import Results
from framelift.evaluation.settings import EvaluateSettings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of two clips."""
    for number, name in enumerate(("river", "town")):
        write_clip(tmp_path / "data" / name, shift=10 * number)
    return tmp_path / "data"


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
