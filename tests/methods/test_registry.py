"""A sixth method in a package of its own, and a subclass of a pipeline: both are whole methods."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, DPMSolverMultistepScheduler
from support import decoded, make_video

import framelift
from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.engine.settings import UpscaleSettings
from framelift.errors import UsageError
from framelift.methods.registry import find_method, list_methods
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.tcm import build_tcm, zero_convolutions
from framelift.training.objectives import build_objective
from framelift.types import EncodeSettings

TOY = {
    "toy_sharpen/__init__.py": """
from framelift.methods import Method

METHOD = Method(
    name="toy-sharpen",
    title="Nearest neighbour and one learned convolution",
    settings="toy_sharpen.settings:ToySettings",
    pipeline="toy_sharpen.pipeline:ToyPipeline",
    stages={"filter": "toy_sharpen.train:build"},
)
""",
    "toy_sharpen/settings.py": '''
from dataclasses import dataclass


@dataclass(frozen=True)
class ToySettings:
    """How the toy sharpens."""

    gain: float = 1.0
    """Factor on what the convolution adds."""
''',
    "toy_sharpen/pipeline.py": """
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from toy_sharpen.settings import ToySettings

from framelift.methods.base import VSRPipeline
from framelift.types import Limits


class Filter(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, side: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, side, padding=side // 2)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class ToyPipeline(VSRPipeline):
    settings_class = ToySettings
    limits = Limits(window=4)

    def __init__(self, transformer: Filter, steps: int = 1) -> None:
        super().__init__()
        self.register_modules(transformer=transformer)
        self.register_to_config(steps=steps)

    @torch.no_grad()
    def __call__(self, frames, *, settings, noise=None, mask=None, on_step=None):
        x = frames.repeat_interleave(4, 2).repeat_interleave(4, 3)
        return (x + settings.gain * self.transformer(x)).clamp(0, 1)
""",
    "toy_sharpen/train.py": """
from typing import Any

import torch
from toy_sharpen.pipeline import Filter, ToyPipeline


class FilterObjective:
    def __init__(self, pipeline: ToyPipeline) -> None:
        self.pipeline = pipeline

    @property
    def trained(self) -> torch.nn.Module:
        return self.pipeline.transformer

    def prepare(self, batches: Any) -> None:
        pass

    def to(self, device: torch.device) -> None:
        pass

    def loss(self, network, batch, generator):
        hr, lr = batch.hr[:, 0], batch.lr[:, 0]
        x = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
        loss = (x + network(x) - hr).square().mean()
        return loss, {"squared": float(loss.detach())}


def build(request):
    return FilterObjective(request.pipeline or ToyPipeline(Filter(**request.model["transformer"])))
""",
    "toy_sharpen/presets/toy-sharpen.toml": """
name = "toy-sharpen"
method = "toy-sharpen"
kind = "local"
title = "Toy"
licence = "CC0"
[components.transformer]
type = "toy_sharpen.pipeline.Filter"
source = "../weights"
""",
    "toy_sharpen-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: toy-sharpen\nVersion: 1.0\n"
    ),
    "toy_sharpen-1.0.dist-info/entry_points.txt": (
        "[framelift.methods]\ntoy-sharpen = toy_sharpen:METHOD\n"
    ),
    "recipe.toml": """
method = "toy_sharpen"
stage = "filter"
[data]
sources = [{ glob = "*.mp4", stride = 2 }]
holdout = ["held"]
crop = 32
margin = 8
[model.transformer]
side = 5
[optim]
lr = 0.01
warmup = 1
[run]
steps = 6
batch = 2
precision = "no"
log_every = 3
validate_every = 6
checkpoint_every = 6
""",
}


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder as `pip install` of a package with a method leaves it, and clips to train on."""
    for name, text in TOY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "clips").mkdir()
    for name in ("one", "held"):
        make_video(tmp_path / "clips" / f"{name}.mp4", frames=4)
    make_video(tmp_path / "clip.mkv", frames=5, size=(16, 24))
    return tmp_path


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "framelift", *words],
        cwd=site,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_sixth_method_is_trained_listed_and_used(site):
    """All by the command line, in a package that framelift has never heard of."""
    trained = run(site, "train", "recipe.toml", "--data", "clips", "-o", "run")
    assert trained.returncode == 0, trained.stderr
    weights = site / "run" / "pipeline" / "transformer"
    weights.rename(site / "toy_sharpen" / "weights")
    listed = json.loads(run(site, "presets", "--json").stdout)
    assert {p["name"]: p["method"] for p in listed}["toy-sharpen"] == "toy-sharpen"
    made = {}
    for name, words in {"all": [], "none": ["--gain", "0"]}.items():
        output = f"{name}.mkv"
        words = ["--preset", "toy_sharpen", *words, "--lossless"]
        done = run(site, "upscale", "clip.mkv", "-o", output, *words, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        made[name] = decoded(site / output, "rgb24")
    assert made["all"][0].shape == (64, 96, 3)
    assert len(made["all"]) == 5
    assert (made["all"][0] != made["none"][0]).any(), "what was trained changed nothing"


def test_its_folder_in_hub_format_loads(site):
    trained = run(site, "train", "recipe.toml", "--data", "clips", "-o", "run")
    assert trained.returncode == 0, trained.stderr
    words = ["--preset", "run/pipeline", "--device", "cpu"]
    done = run(site, "upscale", "clip.mkv", "-o", "out.mkv", *words)
    assert done.returncode == 0, done.stderr
    assert len(decoded(site / "out.mkv")) == 5


def test_its_faults_are_sentences(site):
    (site / "toy_sharpen" / "__init__.py").write_text("raise RuntimeError('broken')")
    listed = run(site, "presets")
    assert listed.returncode == 0
    asked = run(site, "upscale", "clip.mkv", "--preset", "toy-sharpen")
    assert asked.returncode == 2, asked.stderr
    assert "cannot be imported" in asked.stderr
    assert "no method 'toy-sharpen'" in asked.stderr


def test_methods_describe_themselves():
    for name, method in list_methods().items():
        assert find_method(name.replace("-", "_")) is method
        pipeline = method.pipeline_class()
        assert pipeline.settings_class is method.settings_class()
        assert method.title
        for stage in method.stages:
            assert callable(method.stage(stage))
    with pytest.raises(UsageError, match="Did you mean 'tcm'"):
        find_method("stablevsr").stage("tmc")


def test_describing_itself_takes_no_torch():
    code = (
        "import sys\nfrom framelift.methods import list_methods\n"
        "assert all(m.settings_class() for m in list_methods().values())\n"
        "assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("method", "stage", "message"),
    [
        ("imageldm", "denoiser", "Did you mean 'image-ldm'"),
        ("image_ldm", "denoisr", "Did you mean 'denoiser'"),
        ("stablevsr", "tcm", "neighbouring frames"),
        ("vdm-vsr", "prior", "'vae' is missing"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(method, stage, message):
    from framelift.training.settings import TrainSettings

    with pytest.raises(UsageError, match=message):
        build_objective(TrainSettings(method=method, stage=stage))


class BackwardVSR(StableVSRPipeline):
    """Every step sweeps from the last frame to the first."""

    seen: list[tuple[int, int | None]]

    def __call__(self, frames, *, settings=None, on_visit=None, **rest):
        def note(visit, state, guidance):
            self.seen.append((visit.frame, visit.neighbour))

        made = super().__call__(frames.flip(0), settings=settings, on_visit=note, **rest)
        return made.flip(0)


@pytest.fixture
def stablevsr_parts(small_unet) -> dict:
    torch.manual_seed(3)
    tcm: ControlNetModel = build_tcm(small_unet, stem=(8, 8, 16))
    for parameter in zero_convolutions(tcm):
        torch.nn.init.normal_(parameter, std=0.05)
    scheduler = DPMSolverMultistepScheduler(prediction_type="v_prediction", solver_order=1)
    return {
        "vae": BlockTransformCodec(),
        "unet": small_unet,
        "controlnet": tcm.eval(),
        "scheduler": scheduler,
        "timesteps": [900, 300],
        "steps": 2,
    }


def test_a_subclass_of_a_pipeline_works_everywhere(stablevsr_parts, tmp_path):
    """From `framelift.upscale` down: settings, plan, sampling, record."""
    source = make_video(tmp_path / "clip.mkv", frames=4, size=(16, 24))
    settings = UpscaleSettings(device="cpu", encode=EncodeSettings(lossless=True), threads=1)
    method = StableVSRSettings(sampling="unidirectional")
    made = {}
    for kind in (StableVSRPipeline, BackwardVSR):
        pipeline = kind(**stablevsr_parts)
        pipeline.seen = []
        output = tmp_path / f"{kind.__name__}.mkv"
        result = framelift.upscale(source, output, settings, method=method, pipeline=pipeline)
        assert result.record["frames"] == 4
        made[kind] = decoded(output, "rgb24")
    assert pipeline.seen[:2] == [(0, None), (1, 0)]
    different = [(a != b).any() for a, b in zip(*made.values(), strict=True)]
    assert all(different), "another sweep made the same pictures"
    with pytest.raises(UsageError, match="StableVSRSettings"):
        framelift.upscale(source, tmp_path / "x.mkv", settings, method=object(), pipeline=pipeline)
