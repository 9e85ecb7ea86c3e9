"""Presets, hub components and what goes wrong with them."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from framelift.diffusion.block_transform import BlockTransformCodec
from framelift.errors import FrameliftError, InputError, UsageError
from framelift.files import sha256
from framelift.methods.image_ldm.pipeline import ImageLDMPipeline
from framelift.methods.image_ldm.settings import ImageLDMSettings
from framelift.methods.load import load_pipeline, outline
from framelift.methods.registry import find_method, list_methods, method_of
from framelift.weights.hub import WeightsError
from framelift.weights.presets import BUNDLED, list_presets, load_preset
from framelift.weights.resolve import WEIGHT_FILES, check_bundled, component_folder

LOCAL = """
name = "mine"
kind = "local"
method = "image-ldm"
title = "A user's own"
licence = "CC0"

[limits]
window = 4

[sampler]
steps = 3

[components.vae]
type = "framelift.diffusion.block_transform.BlockTransformCodec"
source = "./codec"
sha256 = "{codec}"

[components.unet]
type = "diffusers.UNet2DConditionModel"
source = "acme/tiny"
subfolder = "unet"
{revision}

[components.scheduler]
type = "diffusers.DDIMScheduler"
config = {{ prediction_type = "v_prediction" }}
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def home(tmp_path, small_unet) -> Path:
    """A user's preset, its codec beside it, and a mirror of a hub repository."""
    BlockTransformCodec(gain_exponent=0.6).save_pretrained(tmp_path / "codec")
    small_unet.save_pretrained(tmp_path / "mirror" / "acme--tiny" / "unet")
    write_preset(tmp_path)
    return tmp_path


def write_preset(folder: Path, revision: str = f'revision = "{COMMIT}"', **changes: str) -> Path:
    codec = changes.get("codec") or sha256(folder / "codec" / WEIGHT_FILES[0])
    path = folder / "mine.toml"
    path.write_text(LOCAL.format(codec=codec, revision=revision))
    return path


def test_shipped_presets_parse():
    presets = list_presets()
    assert [p.default for p in presets] == [True] + [False] * (len(presets) - 1)
    for preset in presets:
        assert load_preset(preset.name) == preset
        assert Path(preset.folder, f"{preset.name}.toml").is_file()
        assert preset.licence
        assert preset.training
        assert method_of(preset).name == preset.method
        assert not preset.unpinned
    assert load_preset(None) == presets[0]


@pytest.mark.parametrize(
    "preset", [p for p in list_presets() if p.kind == "bundled"], ids=lambda p: p.name
)
def test_bundled_weights_are_whole(preset):
    """Either all shipped and pinned, or (before the first training) none at all."""
    bundled = [c for c in preset.components.values() if c.kind == "bundled"]
    pinned = [c for c in bundled if c.sha256]
    shipped = [c for c in bundled if (BUNDLED / c.source.removeprefix("bundled:")).exists()]
    if pinned or shipped:
        assert check_bundled(preset) == ""
        assert load_pipeline(preset).scale == preset.scale
    else:
        assert "not pinned" in check_bundled(preset)


def test_methods_are_importable():
    for name, method in list_methods().items():
        assert issubclass(method.pipeline_class(), object)
        assert method.settings_class()() == method.settings_class()()
        assert find_method(name.replace("-", "_")) is method
    with pytest.raises(UsageError, match="'image-ldm'"):
        find_method("imageldm")


def test_users_preset_with_mirror(home, clip):
    pipeline = load_pipeline(home / "mine.toml", dtype=torch.bfloat16, weights_dir=home / "mirror")
    assert isinstance(pipeline, ImageLDMPipeline)
    assert pipeline.settings_class is ImageLDMSettings
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    assert pipeline.config["steps"] == 3
    assert pipeline.limits.window == 4
    assert pipeline.compute_dtype == torch.bfloat16
    assert pipeline.vae.dtype == torch.float32
    assert pipeline.vae.config["gain_exponent"] == 0.6
    assert pipeline(clip, settings=None).shape == (3, 3, 64, 96)


def test_unpinned_hub_component_warns(home, caplog):
    preset = load_preset(write_preset(home, revision=""))
    assert preset.unpinned == ("unet",)
    with caplog.at_level(logging.WARNING), pytest.raises(WeightsError):
        component_folder(_offline(preset), "unet", network=True)
    assert "not pinned" in caplog.text


def _offline(preset):
    """The same preset with a repository of which the hub's cache can hold nothing."""
    broken = replace(preset.components["unet"], source="no--such/repo..name")
    return replace(preset, components={**preset.components, "unet": broken})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("image-ldn", "image-ldm"), ("sd-x4-upscalar", "sd-x4-upscaler"), ("./nowhere", "Known are")],
)
def test_unknown_preset(name, hint):
    with pytest.raises(UsageError, match=hint):
        load_pipeline(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("window = 4", "windou = 4", "Did you mean 'window'"),
        ("sha256", "sha265", "Did you mean 'sha256'"),
        ("steps = 3", "stepps = 3", "Did you mean 'steps'"),
        (COMMIT, "main", "40 hexadecimal digits"),
        ('"./codec"', '"codec"', "org/name"),
        ('"./codec"', '"bundled:../codec"', "bundled:<name>"),
        ('subfolder = "unet"', 'subfolder = "../../x"', "leaves its folder"),
        ("diffusers.DDIMScheduler", "os.system", "is not known"),
        ("diffusers.DDIMScheduler", "diffusers.NoScheduler", "is not known"),
        ('method = "image-ldm"', 'method = "stable"', "no method"),
        ("components.scheduler", "components.schedule", "'scheduler'"),
        ('name = "mine"', "name = ", "not a readable preset"),
        ('name = "mine"', "", "incomplete"),
    ],
)
def test_faulty_preset(home, old, new, message):
    path = home / "mine.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(FrameliftError, match=message):
        load_pipeline(path, weights_dir=home / "mirror")


def test_changed_weights_are_refused(home):
    with pytest.raises(WeightsError, match="not those that mine names"):
        load_pipeline(write_preset(home, codec="0" * 64), weights_dir=home / "mirror")


def test_missing_pickled_and_damaged_weights(home):
    weights = home / "mirror" / "acme--tiny" / "unet" / WEIGHT_FILES[0]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_pipeline(home / "mine.toml", weights_dir=home / "mirror")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(WeightsError, match="Pickled weights"):
        load_pipeline(home / "mine.toml", weights_dir=home / "mirror")


def test_folder_that_is_no_pipeline(tmp_path):
    with pytest.raises(InputError, match="not a pipeline folder"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(UsageError, match="StableDiffusionPipeline, which no method reads"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "ImageLDMPipeline", "unet": ["payload", "Network"]}'
    )
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "payload.py").write_text("raise SystemExit('this must never run')")
    with pytest.raises(UsageError, match="is not known"):
        load_pipeline(tmp_path)


def test_offline_hub_says_what_to_do(tmp_path):
    program = (
        "import sys; from framelift.errors import FrameliftError\n"
        "from framelift.weights.presets import load_preset\n"
        "from framelift.weights.resolve import component_folder\n"
        "try: component_folder(load_preset('sd-x4-upscaler'), 'unet', network=True)\n"
        "except FrameliftError as error: print(error, '|', int(error.exit_code))\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "could not be downloaded" in done.stdout
    assert "--weights-dir" in done.stdout
    assert done.stdout.strip().endswith("| 4")


def test_importing_loads_no_torch():
    program = (
        "import sys, framelift, framelift.methods, framelift.weights.presets\n"
        "import framelift.training.settings, framelift.methods.image_ldm.settings\n"
        "assert 'torch' not in sys.modules\n"
        "assert set(framelift.__all__) >= {'load', 'upscale', 'methods'}\n"
        "assert framelift.methods.list_methods()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_published_sizes():
    """The UNet's 473 M as in StableVSR's paper; its "32 M" decoder is one of 32.97 M."""
    networks = outline("sd-x4-upscaler")
    assert all(p.is_meta for network in networks.values() for p in network.parameters())

    def millions(network: torch.nn.Module) -> float:
        return sum(p.numel() for p in network.parameters()) / 1e6

    assert millions(networks["unet"]) == pytest.approx(473.4, abs=0.05)
    assert millions(networks["vae"].decoder) == pytest.approx(32.97, abs=0.005)
    assert millions(networks["vae"]) == pytest.approx(55.3, abs=0.05)
    assert millions(networks["text_encoder"]) == pytest.approx(340.4, abs=0.05)


@pytest.mark.parametrize("name", ["sateco", "stcdit", "pseudo-text"])
def test_a_preset_without_weights_says_what_to_do(name):
    """Its file is there for scripts/bundle.py; it is not listed, and names no damage."""
    if name in {preset.name for preset in list_presets()}:
        pytest.skip("its weights are shipped")
    with pytest.raises(UsageError, match="No trained weights are shipped") as raised:
        load_preset(name)
    assert "--preset" in str(raised.value)
