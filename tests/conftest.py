"""What every test may use: a tiny pipeline with random weights, in hub format."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import pytest
from evaluation.clips import write_clip
from fake_gpu import gpu
from hypothesis import settings
from support import make_video, patches

import framelift  # noqa: F401 - repairs torchvision before a test imports diffusers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
with suppress(pytest.skip.Exception):
    gpu()  # before any test computes gradients: autograd counts devices once
# Property tests search a fixed number of tiny examples, however slow the machine.
settings.register_profile("framelift", deadline=None, max_examples=60)
settings.load_profile("framelift")

TINY_UNET = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
TINY_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "algorithm_type": "dpmsolver++",
    "solver_order": 1,
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only wait for each other on networks this small."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real but tiny and untrained per-frame upscaler (two steps)."""
    import torch

    from framelift.methods.image_ldm.train import build_pipeline

    torch.manual_seed(0)
    model = {"vae": {"factor": 4}, "unet": TINY_UNET, "scheduler": TINY_SCHEDULER}
    pipeline = build_pipeline(model, (999, 300))
    pipeline.vae.std.fill_(0.05)
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    pipeline.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_stablevsr(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny StableVSR whose module is not the identity."""
    import torch

    from framelift.methods.load import load_pipeline
    from framelift.methods.stablevsr.tcm import zero_convolutions
    from framelift.methods.stablevsr.train import build_pipeline

    torch.manual_seed(1)
    upscaler = load_pipeline(tiny_pipeline)
    pipeline = build_pipeline(upscaler, {"tcm": {"stem": [4, 8, 8], "warm_stem": True}})
    for parameter in zero_convolutions(pipeline.controlnet):
        torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("weights") / "tiny-stablevsr"
    pipeline.save_pretrained(str(folder))
    return folder


TINY_PRIOR = {
    "vae": {
        "block_out_channels": [4, 4, 8, 8],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "mid_block_add_attention": False,
    },
    "transformer": {"hidden_size": 16, "depth": 2, "num_heads": 2, "temporal": "rope"},
}


@pytest.fixture(scope="session")
def tiny_vdm_vsr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny VDM-VSR for four frames of 32×32 pixels, with random weights."""
    import torch

    from framelift.methods.vdm_vsr.train import build_pipeline

    torch.manual_seed(2)
    pipeline = build_pipeline(TINY_PRIOR)
    pipeline.register_to_config(
        frames=4, height=32, width=32, steps=4, step_size={"4": 0.1, "8": 0.1}
    )
    for parameter in pipeline.transformer.parameters():  # nothing at zero
        torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("weights") / "tiny-vdm-vsr"
    pipeline.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A maker of videos that makes each name once: `clips("a.mp4", frames=24)`."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(name: str, **settings) -> Path:
        path = folder / name
        if not path.exists():
            make_video(path, **settings)
        return path

    return clip


@pytest.fixture(scope="session")
def png() -> bytes:
    """A 16x16 PNG file."""
    context = av.CodecContext.create("png", "w")
    context.width = context.height = 16
    context.pix_fmt, context.time_base = "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(patches(0, (16, 16)), format="rgb24")
    return b"".join(bytes(p) for f in (frame, None) for p in context.encode(f))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of two clips."""
    for number, name in enumerate(("river", "town")):
        write_clip(tmp_path / "data" / name, shift=10 * number)
    return tmp_path / "data"
