"""Small synthetic clips as real files, and a recipe that trains on them in seconds."""

import copy
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from framelift.config import from_mapping
from framelift.training.settings import TrainSettings

RECIPE: dict[str, Any] = {
    "method": "image_ldm",
    "stage": "denoiser",
    "data": {
        "sources": [{"glob": "*.mp4", "stride": 2}],
        "holdout": ["held"],
        "crop": 32,
        "margin": 8,
    },
    "model": {
        "vae": {"factor": 4, "chroma": 1},
        "unet": {
            "block_out_channels": [8, 16],
            "down_block_types": ["DownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "UpBlock2D"],
            "mid_block_type": "UNetMidBlock2D",
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
        "scheduler": {
            "prediction_type": "v_prediction",
            "algorithm_type": "dpmsolver++",
            "solver_order": 1,
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "final_sigmas_type": "zero",
        },
    },
    "objective": {"fit_codec": True, "timesteps": [999, 500]},
    "optim": {"lr": 1e-2, "warmup": 3, "schedule": "cosine", "ema_decay": 0.9},
    "run": {
        "steps": 30,
        "batch": 8,
        "precision": "no",
        "log_every": 5,
        "validate_every": 10,
        "checkpoint_every": 10,
        "workers": 0,
    },
}


def write_clip(path: Path, seed: int, frames: int = 6, height: int = 64, width: int = 80) -> None:
    """A moving sum of gratings with a hard-edged block on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = rng.uniform(0.05, 0.9, (3, 2)), rng.uniform(0, 6, 3)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(25), options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            layers = [
                np.sin(a * x + b * y + phase + t / 3) for (a, b), phase in zip(*waves, strict=True)
            ]
            picture = np.stack(layers, axis=-1) * 60 + 128
            picture[20:40, 10 + 4 * t : 30 + 4 * t] = rng.uniform(0, 255, 3)
            rgb = picture.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two clips to train on and one that is held out."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("one", "two", "held")):
        write_clip(folder / f"{name}.mp4", seed)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_settings():
    """The small recipe with changed tables: make_settings(run={"steps": 5})."""

    def make(**changes: Any) -> TrainSettings:
        content = copy.deepcopy(RECIPE)
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(content.get(key), dict):
                content[key].update(value)
            else:
                content[key] = value
        return from_mapping(TrainSettings, content, "the test's recipe")

    return make


@pytest.fixture(scope="session")
def write_recipe():
    """Write settings as a recipe file."""

    def write(settings: TrainSettings, path: Path) -> Path:
        tables = {k: v for k, v in asdict(settings).items() if isinstance(v, dict)}
        words = {k: v for k, v in asdict(settings).items() if k not in tables}
        lines = [f"{k} = {_toml(v)}" for k, v in words.items()]
        for name, table in tables.items():
            lines += [
                f"[{name}]",
                *(f"{k} = {_toml(v)}" for k, v in table.items() if v is not None),
            ]
        path.write_text("\n".join(lines))
        return path

    return write


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
