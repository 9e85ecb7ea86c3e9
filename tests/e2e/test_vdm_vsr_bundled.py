"""The bundled priors: what they draw by themselves, and what observation makes of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import decoded
from torch import Tensor

from framelift.cli.main import main
from framelift.datasets.moving_mnist import MovingMNIST
from framelift.degrade.stages.observe import Observation
from framelift.errors import Exit
from framelift.methods.load import load_pipeline
from framelift.methods.vdm_vsr.pipeline import Measurement
from framelift.methods.vdm_vsr.settings import VDMVSRSettings
from framelift.ops.noise import PositionNoise

MNIST = Path(__file__).parents[2] / "../shared/data/mnist"
SIZE, STEPS = (10, 64, 64), 40


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("vdm-vsr-mnist")


def ink(frames: Tensor) -> Tensor:
    """Share of bright pixels in every frame of `[T, 3, H, W]` in [-1, 1]."""
    return (frames[:, 0] > 0).float().mean((1, 2))


def psnr(made: Tensor, truth: Tensor) -> float:
    return float(10 * torch.log10(4 / (made.clamp(-1, 1) - truth).square().mean()))


def test_samples_are_bright_strokes_that_move(pipeline):
    (made,) = pipeline.sample(
        None, SIZE, settings=VDMVSRSettings(steps=STEPS), noises=[PositionNoise(1)]
    )
    assert made.shape == (10, 3, 64, 64)
    assert (made[:, 0] - made[:, 2]).abs().max() < 0.1  # grey
    assert ((ink(made) > 0.01) & (ink(made) < 0.15)).all()  # two digits on black
    sure = ((made.abs() - 1).abs() < 0.3).float().mean()
    assert sure > 0.9  # black and white, hardly anything between
    near = (made[1:] - made[:-1]).square().mean()
    far = (made[5:] - made[:-5]).square().mean()
    assert 0 < near < far


@pytest.mark.skipif(
    not MNIST.is_dir(),
    reason="runs where MNIST lies in ../shared/data/mnist: it is not part of this repository",
)
def test_frames_that_are_seen_tell_of_those_that_are_not(pipeline):
    """Restored from ten frames, from frame 1, and from nothing: the better the more is seen."""
    operator = Observation(4)
    restored = {"all": [], "first": [], "none": []}
    for index in (50, 51):
        clip = MovingMNIST(MNIST, "val")[index].astype(np.float32) / 127.5 - 1
        truth = torch.from_numpy(clip)[:, None].repeat(1, 3, 1, 1)
        noises = [PositionNoise(index)] * 2
        measurements = [
            Measurement(operator(truth), operator),
            Measurement(operator(truth[:1]), operator, (0,)),
        ]
        own = VDMVSRSettings(steps=STEPS)
        made = [
            *pipeline.sample(measurements, SIZE, settings=own, noises=noises),
            *pipeline.sample(None, SIZE, settings=own, noises=noises[:1]),
        ]
        for values, x in zip(restored.values(), made, strict=True):
            values.append(psnr(x, truth))
    every, first, none = (np.mean(values) for values in restored.values())
    assert every > first + 1.5
    assert first > none


def test_a_colour_video_through_the_command_line(clips, tmp_path):
    """The method's name is the natural prior's; more steps follow the input more closely."""
    source, errors = clips("natural.mp4", frames=4, size=(16, 16)), []
    lr = np.stack(decoded(source, "rgb24")).astype(np.float32)
    for steps in (2, 40):
        output = tmp_path / f"{steps}.mp4"
        words = ["upscale", str(source), "-o", str(output), "--method", "vdm-vsr", "-q"]
        with pytest.raises(SystemExit) as stop:
            main([*words, "--steps", str(steps), "--threads", "1", "--crf", "0"])
        assert stop.value.code == Exit.OK
        made = np.stack(decoded(output, "rgb24")).astype(np.float32)
        assert made.shape == (4, 64, 64, 3)
        errors.append(float(np.abs(made[:, ::4, ::4] - lr).mean()))
    assert errors[1] < 0.5 * errors[0]
