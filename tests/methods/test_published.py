"""Every published preset in its real layout: tiny components, through TOML and as folders."""

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from support import small_vae

from framelift.errors import FrameliftError, UsageError
from framelift.methods.components import LISTED
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.load import load_pipeline
from framelift.methods.stablevsr.pipeline import StableVSRPipeline
from framelift.methods.stablevsr.settings import StableVSRSettings
from framelift.methods.stablevsr.tcm import build_tcm, zero_convolutions
from framelift.weights.hub import WeightsError
from framelift.weights.presets import list_presets, load_preset

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QUICK = StableVSRSettings(steps=2, flow="dis", flow_frames="lr")  # RAFT's weights are not here


class Released(DiffusionPipeline):
    """The other project's pipeline, as far as its folder goes; `write` gives it its name."""

    def __init__(self, vae, unet, controlnet, text_encoder, tokenizer, scheduler) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            controlnet=controlnet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
        )


@pytest.fixture(scope="module")
def stablevsr_folder(components, tmp_path_factory) -> Path:
    """As on the hub, in its most awkward form: label kept, DDPM, alphas that do not end at one."""
    torch.manual_seed(7)
    unet: UNet2DConditionModel = components["unet"]
    tcm: ControlNetModel = build_tcm(unet, stem=(8, 8, 16), warm_stem=True)
    for parameter in zero_convolutions(tcm):
        torch.nn.init.normal_(parameter, std=0.05)
    names = ("vae", "unet", "text_encoder", "tokenizer")
    parts = {name: components[name] for name in names}
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    folder = tmp_path_factory.mktemp("hub") / "claudiom4sir--StableVSR"
    Released(**parts, controlnet=tcm, scheduler=scheduler).save_pretrained(folder)
    change(folder / "model_index.json", _class_name="StableVSRPipeline")
    change(folder / "scheduler" / "scheduler_config.json", set_alpha_to_one=False)
    return folder


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_the_released_stablevsr_is_recognised(stablevsr_folder, clip, caplog):
    """Folder, mirror of the hub's repository and diffusers' way give what the preset gives."""
    with caplog.at_level(logging.WARNING):
        folder = load_pipeline(stablevsr_folder)
    assert "another project's StableVSRPipeline" in caplog.text
    assert "flow = raft" in caplog.text
    mirrors = stablevsr_folder.parent
    ways = {
        "folder": folder,
        "preset": load_pipeline("stablevsr-published", weights_dir=mirrors),
        "mirror": load_pipeline("claudiom4sir/StableVSR", weights_dir=mirrors),
        "from_pretrained": StableVSRPipeline.from_pretrained(stablevsr_folder),
    }
    torch.manual_seed(0)
    made = {}
    for way, pipeline in ways.items():
        config = {k: pipeline.config[k] for k in ("flow", "flow_frames", "warp", "eta", "steps")}
        assert config == {
            "flow": "raft",
            "flow_frames": "enlarged",
            "warp": "half-pixel",
            "eta": 1.0,
            "steps": 50,
        }, way
        assert pipeline.unet.config["num_class_embeds"] is None, way
        assert isinstance(pipeline.scheduler, DDIMScheduler), way
        assert float(pipeline.scheduler.final_alpha_cumprod) == 1.0, way
        assert pipeline.limits == ways["preset"].limits, way
        made[way] = pipeline(clip, settings=QUICK)
    for way, frames in made.items():
        assert (frames - made["preset"]).abs().max() < 1e-5, way
    other = ways["folder"](clip, settings=replace(QUICK, warp="exact"))
    assert (other - made["folder"]).abs().max() > 1e-4, "the warp is not the released code's"


def test_the_last_step_is_ddpms(stablevsr_folder):
    """x̃₀ without noise, as DDPM returns it, also where the file says set_alpha_to_one: false."""
    pipeline = load_pipeline(stablevsr_folder)
    ours, ddpm = pipeline.scheduler, DDPMScheduler.from_pretrained(stablevsr_folder / "scheduler")
    v, x = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for scheduler in (ours, ddpm):
        scheduler.set_timesteps(50)
    t = ddpm.timesteps[-1]
    expected = ddpm.step(v, t, x).pred_original_sample
    assert torch.allclose(ours.step(v, t, x, eta=1.0).prev_sample, expected, atol=1e-5)


def test_stabilitys_upscaler_as_folder_and_preset(components, clip, tmp_path):
    folder = tmp_path / "stabilityai--stable-diffusion-x4-upscaler"
    StableDiffusionUpscalePipeline(**components).save_pretrained(folder)
    preset = load_pipeline("sd-x4-upscaler", weights_dir=tmp_path)
    local = load_pipeline(folder)
    assert type(preset) is type(local) is ImageLDMPipeline
    assert preset.limits == local.limits
    assert local.limits.color_fix == "wavelet"
    settings = ImageLDMSettings(steps=2)
    frames = [pipeline(clip, settings=settings) for pipeline in (preset, local)]
    assert torch.equal(*frames)


def test_vdm_vsrs_autoencoder(tmp_path):
    """The repository is the autoencoder itself; there is no prior to sample."""
    small_vae().save_pretrained(tmp_path / "stabilityai--sd-vae-ft-ema")
    pipeline = load_pipeline("vdm-vsr-published", weights_dir=tmp_path)
    assert pipeline.transformer is None
    with pytest.raises(UsageError, match="no prior"):
        pipeline(torch.rand(2, 3, 16, 16))


def test_every_published_preset_is_tested_here():
    tested = {"stablevsr-published", "sd-x4-upscaler", "vdm-vsr-published"}
    tested |= {"pseudo-text-modelscope"}  # in test_pseudo_text_published.py
    assert {p.name for p in list_presets() if p.kind == "published"} == tested


PROGRAM = """
import logging, sys
import framelift
from safetensors.torch import load_file, save_file
from framelift.methods.stablevsr.settings import StableVSRSettings

logging.basicConfig()
clip = load_file("clip.safetensors")["clip"]
settings = StableVSRSettings(steps=2, flow="dis", flow_frames="lr")
made = {}
for name in sys.argv[1:]:
    made[name] = framelift.load(name)(clip, settings=settings).contiguous()
save_file(made, "made.safetensors")
"""


def cached(home: Path, source: str, folder: Path) -> None:
    """The hub's local cache, as a download leaves it."""
    repository = home / "hub" / f"models--{source.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def test_a_hub_repository_by_its_id(stablevsr_folder, clip, tmp_path):
    """In a fresh process, without a network, from the hub's cache."""
    cached(tmp_path / "hf", "acme/video-model", stablevsr_folder)
    save_file({"clip": clip}, tmp_path / "clip.safetensors")
    names = ["acme/video-model", f"acme/video-model@{COMMIT}", str(stablevsr_folder)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        cwd=tmp_path,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert f"acme/video-model@{COMMIT} loads just this again" in done.stderr
    made = load_file(tmp_path / "made.safetensors")
    for name in names:
        assert torch.equal(made[name], made[names[0]]), name


@pytest.mark.parametrize(
    ("name", "message"),
    [("acme/nothing", "no folder acme/nothing"), ("acme/x@main", "40 hexadecimal")],
)
def test_a_repository_that_is_not_there(name, message, tmp_path):
    code = (
        "import sys\nfrom framelift.errors import FrameliftError\n"
        "from framelift.weights.presets import load_preset\n"
        f"try: load_preset('{name}')\nexcept FrameliftError as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert message in done.stdout, done.stderr


def test_saving_keeps_what_was_set(components, clip, tmp_path):
    """Limits, colour fix and sampler come back by our loader and by diffusers' alike."""
    pipeline = ImageLDMPipeline(**components, steps=3, eta=0.5, detail=1.2)
    pipeline.limits = replace(pipeline.limits, window=5, bytes_per_pixel=77, color_fix="adain")
    pipeline.save_pretrained(tmp_path / "saved")
    expected = pipeline(clip)
    for again in (
        load_pipeline(tmp_path / "saved"),
        ImageLDMPipeline.from_pretrained(tmp_path / "saved"),
    ):
        assert again.limits == pipeline.limits
        names = ("steps", "eta", "detail", "noise_level", "timesteps")
        assert all(again.config[n] == pipeline.config[n] for n in names)
        assert again.components.keys() == pipeline.components.keys()
        assert (again(clip) - expected).abs().max() < 1e-5
        again.save_pretrained(tmp_path / "twice")
        assert load_pipeline(tmp_path / "twice").limits == pipeline.limits


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("load", [load_pipeline, StableVSRPipeline.from_pretrained])
def test_weights_that_are_no_numbers(stablevsr_folder, tmp_path, value, load):
    folder = tmp_path / "broken"
    shutil.copytree(stablevsr_folder, folder)
    path = folder / "controlnet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"][0, 0, 0, 0] = value
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"controlnet.*no numbers \(conv_in.weight"):
        load(folder)


@pytest.mark.parametrize(
    "entry",
    [
        ["transformers", "AutoModel"],
        ["transformers", "AutoTokenizer"],
        ["transformers", "pipeline"],
        ["payload", "Network"],
        ["framelift.files", "remove"],
        ["framelift.engine.journal", "Journal"],
        ["diffusers", "DiffusionPipeline"],
    ],
)
@pytest.mark.parametrize("load", [load_pipeline, StableVSRPipeline.from_pretrained])
def test_only_listed_classes(stablevsr_folder, tmp_path, monkeypatch, entry, load):
    """Neither our loader nor diffusers' imports another class or runs a folder's code."""
    folder = tmp_path / "folder"
    shutil.copytree(stablevsr_folder, folder)
    change(folder / "model_index.json", text_encoder=entry)
    (folder / "payload.py").write_text("raise SystemExit('this must never run')")
    change(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "payload.Network"})
    monkeypatch.chdir(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))
    with pytest.raises(UsageError, match="is not known"):
        load(folder)


def test_listed_classes_exist():
    import diffusers
    import transformers

    for name in LISTED:
        library, kind = name.split(".")
        assert hasattr({"diffusers": diffusers, "transformers": transformers}[library], kind), name


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"_limits": {"window": 0}}, "window is 0"),
        ({"_limits": 5}, "must be a table"),
        ({"steps": "many"}, "must be of type int"),
        ({"steps": 2, "timesteps": [1, 900]}, "must fall"),
        ({"steps": 2, "timesteps": [5000, 3]}, "must fall"),
        ({"steps": 2, "flow": "optical"}, "flow is 'optical'"),
        ({"vae": ["diffusers", "UNet2DConditionModel"]}, "vae.* lack"),
        ({"unet": ["diffusers", "DDIMScheduler"]}, "unet"),
        ({"_class_name": ["StableVSRPipeline"]}, "no method reads"),
    ],
)
def test_odd_indices(stablevsr_folder, tmp_path, entries, message):
    folder = tmp_path / "folder"
    shutil.copytree(stablevsr_folder, folder)
    change(folder / "model_index.json", **entries)
    with pytest.raises(FrameliftError, match=message) as caught:
        load_pipeline(folder)
    assert caught.value.remedy
    assert caught.value.exit_code in (2, 4)


@pytest.mark.parametrize("text", ["[]", "{", '{"_class_name": 5}', "[" * 100_000, "\xff"])
def test_indices_that_are_none(tmp_path, text):
    (tmp_path / "model_index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FrameliftError) as caught:
        load_pipeline(tmp_path)
    assert caught.value.exit_code in (2, 4)


def test_the_meta_device_is_refused():
    with pytest.raises(UsageError, match="computes nothing"):
        load_pipeline("image-ldm", device="meta")
    with pytest.raises(UsageError, match="device 'tpu9'"):
        load_pipeline("image-ldm", device="tpu9")
    assert load_preset("image-ldm").method == "image-ldm"
