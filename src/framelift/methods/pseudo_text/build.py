"""Pipelines to train: new parts from a recipe's configuration, others from runs before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, UNet3DConditionModel
from transformers import ViTConfig, ViTModel

from framelift.diffusion.codecs import latent_space
from framelift.errors import UsageError
from framelift.methods.pseudo_text.adapter import PseudoTextAdapter
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.sft_vae import SFTAutoencoderKL

OPTIONS = (
    *("steps", "eta", "noise_level", "unet_window", "unet_overlap"),
    *("vit_input", "init", "finish"),
)


def build_pipeline(
    model: Mapping[str, Any], base: PseudoTextPipeline | None = None
) -> PseudoTextPipeline:
    """The parts of `base`, those that `model.parts` takes from other runs, and new ones.

    `parts` maps components to pipeline folders. The tables `vit`, `vae`, `unet`,
    `adapter`, `scheduler` and `low_res_scheduler` are arguments of new components, made where there
    is none yet; an adapter fits its ViT and UNet, a UNet its VAE. `pipeline` holds arguments of
    the pipeline.
    """
    parts: dict[str, Any] = dict(base.components) if base else {}
    measured = None if base is None or base.vae is None else base.vae.config
    for name, place in model.get("parts", {}).items():
        parts[name] = _part(name, place)
        if name.endswith("vae") and measured is not None:  # for the UNet of `base`
            scale = {k: measured.get(k) for k in ("scaling_factor", "shift_factor")}
            parts[name].register_to_config(**scale)
    makers = {
        "vit": lambda: ViTModel(ViTConfig(**model["vit"])),
        "vae": lambda: new_vae(model["vae"]),
        "unet": lambda: _unet(model["unet"], parts),
        "adapter": lambda: new_adapter(model["adapter"], parts),
        "scheduler": lambda: _scheduler(model["scheduler"]),
        "low_res_scheduler": lambda: DDPMScheduler(**model["low_res_scheduler"]),
    }
    for name, make in makers.items():
        if parts.get(name) is None and name in model:
            parts[name] = make()
    options = {n: base.config[n] for n in OPTIONS} if base else {}
    return PseudoTextPipeline(**parts, **{**options, **model.get("pipeline", {})})


def new_vae(config: Mapping[str, Any]) -> SFTAutoencoderKL:
    """A VAE with the kinds of blocks that its levels need."""
    levels = len(config["block_out_channels"])
    blocks = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }
    return SFTAutoencoderKL(**{**blocks, **config})


def _part(name: str, place: str) -> Any:
    """A component of another pipeline."""
    if not Path(place).is_dir():
        raise UsageError(
            f"[model.parts] {name} is {place}, which is not there.",
            "Train that stage first, in this folder, or name where its pipeline lies.",
        )
    found = getattr(PseudoTextPipeline.from_pretrained(place), name, None)
    if found is None:
        raise UsageError(f"The pipeline {place} has no {name}.", "Correct [model.parts].")
    return found


def _unet(config: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
    """An inflated UNet, or ModelScope's with type = "UNet3DConditionModel"."""
    options, channels = dict(config), latent_space(parts["vae"]).channels
    kind = options.pop("type", "InflatedUNet")
    if kind == "UNet3DConditionModel":
        sizes = {"in_channels": channels, "out_channels": channels}
        return UNet3DConditionModel(**{**sizes, **options})
    if kind != "InflatedUNet":
        known = "InflatedUNet, UNet3DConditionModel"
        raise UsageError(f"[model.unet] type is {kind!r}.", f"Known are {known}.")
    return InflatedUNet(**{"in_channels": channels + 3, "out_channels": channels, **options})


def new_adapter(config: Mapping[str, Any], parts: Mapping[str, Any]) -> PseudoTextAdapter:
    sizes = {
        "in_channels": parts["vit"].config.hidden_size,
        "out_channels": parts["unet"].config["cross_attention_dim"],
    }
    return PseudoTextAdapter(**{**sizes, **config})


def _scheduler(config: Mapping[str, Any]) -> Any:
    options = dict(config)
    name = options.pop("type", "DDIMScheduler")
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if not isinstance(kind, type):
        raise UsageError(f"[model.scheduler] type is {name!r}.", "Name a scheduler of diffusers.")
    return kind(**options)


def random_vit(vit: ViTModel, seed: int) -> ViTModel:
    """The same architecture with random weights, for comparison."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(vit)(vit.config).eval()
