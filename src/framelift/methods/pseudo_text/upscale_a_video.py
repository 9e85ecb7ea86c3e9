"""Upscale-A-Video's released files as a preset of ours (Zhou et al., CVPR 2024).

They are no repository of the hub: its README names a folder to download, whose networks are pickled
state dicts beside configurations of the authors' own classes. `convert` writes them as safetensors
with ours, and a preset.toml that takes the ViT from the hub:

    python -m framelift.methods.pseudo_text.upscale_a_video pretrained_models/upscale_a_video OUT
    framelift upscale clip.mp4 --preset OUT/preset.toml
"""

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from framelift.errors import FrameliftError, InputError, UsageError
from framelift.files import atomic, read_json
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.sft_vae import SFTAutoencoderKL

ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
NOT_OURS = (
    *("temporal_module_config", "dual_cross_attention"),
    *("condition_img", "use_temporal_block"),
)
PRESET = """# Written by framelift.methods.pseudo_text.upscale_a_video. There is no adapter:
# train one by the recipe pseudo_text_paper, or sample with condition=false.
name = "upscale-a-video"
method = "pseudo-text"
kind = "local"
title = "Upscale-A-Video's UNet and decoders"
licence = "NTU S-Lab License 1.0"
licence_url = "https://github.com/sczhou/Upscale-A-Video/blob/master/LICENSE"

[limits]
bytes_per_pixel = 300000

[sampler]
steps = 30
noise_level = 120
finish = "wavelet+nlm"

[components.vit]
type = "transformers.ViTModel"
source = "google/vit-base-patch16-224"
revision = "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"
"""
TYPES = {
    "unet": "framelift.methods.pseudo_text.inflated_unet.InflatedUNet",
    "vae": "framelift.methods.pseudo_text.sft_vae.SFTAutoencoderKL",
    "plain_vae": "framelift.methods.pseudo_text.sft_vae.SFTAutoencoderKL",
    "scheduler": "diffusers.DDIMScheduler",
    "low_res_scheduler": "diffusers.DDPMScheduler",
    "text_encoder": "transformers.CLIPTextModel",
    "tokenizer": "transformers.CLIPTokenizer",
}


def convert(released: Path, target: Path) -> Path:
    """Write every part and preset.toml to `target`, which must be empty; returns that file.

    InputError where a file is missing or does not fit its configuration.
    """
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty.", "Name a folder that is not there yet.")
    parts = {
        "unet": _network(released / "unet", "unet_video", _unet),
        "vae": _network(released / "vae", "vae_video", _vae),
        "plain_vae": _network(released / "vae", "vae_3d", _vae),
        "scheduler": _of_library(DDIMScheduler, released / "scheduler"),
        "low_res_scheduler": _of_library(DDPMScheduler, released / "low_res_scheduler"),
        "text_encoder": _of_library(CLIPTextModel, released / "text_encoder"),
        "tokenizer": _of_library(CLIPTokenizer, released / "tokenizer"),
    }
    for name, part in parts.items():
        part.save_pretrained(target / name)
    lines = [
        f'\n[components.{name}]\ntype = "{kind}"\nsource = "./{name}"\n'
        for name, kind in TYPES.items()
    ]
    with atomic(target / "preset.toml") as part:
        part.write_text(PRESET + "".join(lines), "utf-8")
    return target / "preset.toml"


def _unet(config: Mapping[str, Any]) -> nn.Module:
    return InflatedUNet(**_ours(config), statistics="clip")


def _vae(config: Mapping[str, Any]) -> nn.Module:
    """The guided VAE where `condition_img` is set, else the plain one."""
    guided = bool(config.get("condition_img"))
    options = {
        **_ours(config),
        "condition_channels": config.get("condition_channels", 128) if guided else 0,
        "temporal": "all" if "_plus" in config["up_block_types"][0] else "none",
    }
    return SFTAutoencoderKL(**options, statistics="clip")


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of diffusers' image networks, whose blocks have the same names with 2D."""
    options = {k: v for k, v in config.items() if not k.startswith("_") and k not in NOT_OURS}
    for name in ("down_block_types", "up_block_types"):
        blocks = [b.replace("_plus", "").replace("3D", "2D") for b in options[name]]
        options[name] = tuple(blocks)
    return options


def _network(folder: Path, name: str, make: Any) -> nn.Module:
    """A network from NAME_config.json and NAME.bin; every weight must have its place."""
    network: nn.Module = make(_read(folder / f"{name}_config.json"))
    file = folder / f"{name}.bin"
    try:
        released = torch.load(file, "cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{file} cannot be read: {error}.", "Download it again.") from error
    weights = renamed(released)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"The weights of {file} are not those of its configuration: {error}.",
            "Take both files from the same download.",
        ) from error
    return network.eval()


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released weights under our names.

    Rotary frequencies are computed here; a first convolution of a downsampler that is there under
    two names is taken once; attention of the VAE has the names of today's diffusers.
    """
    found = {}
    for key, value in weights.items():
        if key.endswith("rotary_emb.freqs"):
            continue
        if ".Conv2d_0." in key and key.replace(".Conv2d_0.", ".conv.") in weights:
            continue
        path, _, leaf = key.rpartition(".")
        block, _, last = path.rpartition(".")
        if ".attentions." in f"{block}." and last in ATTENTION:
            key = f"{block}.{ATTENTION[last]}.{leaf}"
        found[key] = value
    return found


def _of_library(kind: Any, folder: Path) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no {kind.__name__}: {error}.", "Check it.") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Download it again.") from error


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m framelift.methods.pseudo_text.upscale_a_video RELEASED OUT")
    try:
        sys.stdout.write(f"{convert(Path(sys.argv[1]), Path(sys.argv[2]))}\n")
    except FrameliftError as error:
        sys.exit(str(error))
