"""The README's main job with the bundled weights, on two frames of the shipped clip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import decoded, payloads

from framelift.cli.main import main
from framelift.errors import Exit
from framelift.ops.resize import resize
from framelift.video.read import VideoReader

CLIP = Path(__file__).parents[2] / "examples" / "big_buck_bunny.mp4"


def sharpness(picture: torch.Tensor) -> float:
    """Mean absolute Laplacian of the luma of `[3, H, W]`."""
    y = picture.mean(dim=0)
    inner = 4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]
    return float(inner.abs().mean())


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("e2e") / "out.mp4"
    with pytest.raises(SystemExit) as stop:
        main(["upscale", str(CLIP), "--frames", "20:22", "-o", str(output)])
    assert stop.value.code == Exit.OK
    return output


def test_size_sound_and_record(result):
    assert [f.shape for f in decoded(result, "rgb24")] == [(720, 1280, 3)] * 2
    sound = {content for content, _ in payloads(CLIP, "audio")}
    assert {content for content, _ in payloads(result, "audio")} < sound
    record = json.loads((result.parent / "out.mp4.json").read_text())
    assert record["settings"]["method_settings"]["steps"] is None


def test_sharper_than_bicubic_and_true_to_the_input(result):
    """Sharper, and yet the same picture when shrunk again."""
    source = [f for f in VideoReader(CLIP) if f.index in (20, 21)]
    for frame, large in zip(source, decoded(result, "rgb24"), strict=True):
        lr = torch.from_numpy(frame.rgb().astype(np.float32) / 255).permute(2, 0, 1)
        sr = torch.from_numpy(large.astype(np.float32) / 255).permute(2, 0, 1)
        assert sharpness(sr) > 1.3 * sharpness(resize(lr, (720, 1280)))
        again = resize(sr, (180, 320))
        assert float(-10 * torch.log10((again - lr).square().mean())) > 32
