"""New SATeCo pipelines from a recipe's configuration, with random weights."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import diffusers
from diffusers import AutoencoderKL, UNet2DConditionModel

from framelift.diffusion.patch_autoencoder import PatchAutoencoderKL
from framelift.errors import UsageError
from framelift.methods.sateco.adapters import TABLE_2, SATeCoAdapters
from framelift.methods.sateco.latent_encoder import LatentEncoder
from framelift.methods.sateco.pipeline import SATeCoPipeline
from framelift.methods.sateco.refiner import VideoRefiner
from framelift.methods.sateco.upscaler import VideoUpscaler

LOADED: dict[str, Any] = {
    "upscaler": VideoUpscaler,
    "latent_encoder": LatentEncoder,
    "unet_guidance": SATeCoAdapters,
    "vae_guidance": SATeCoAdapters,
    "refiner": VideoRefiner,
}


def build_pipeline(
    model: Mapping[str, Any],
    base: SATeCoPipeline | None = None,
    modules: Collection[str] = tuple(LOADED),
) -> SATeCoPipeline:
    """`base`, or a new UNet and VAE, completed by those of `modules` that it lacks.

    The tables of `model` are the arguments of its components' classes; a module with `from`, a
    folder, is loaded from there instead, whether it was missing or not. `variant` is a model of
    Table 2, A to D (default D): what stands in UNet and VAE. `unet_guidance`, `vae_guidance` and
    `latent_encoder` follow the sizes of UNet and VAE; `pipeline` may hold steps, timesteps and
    eta; `scheduler.type` a class of diffusers; a `vae` with a patch_size is a PatchAutoencoderKL.
    """
    variant = model.get("variant", "D")
    if variant not in TABLE_2:
        raise UsageError(f"[model] variant is {variant!r}.", f"Choose {', '.join(TABLE_2)}.")
    in_unet, in_vae = TABLE_2[variant]
    parts = {n: c for n, c in base.components.items() if c is not None} if base else _base(model)
    options = {n: base.config[n] for n in ("timesteps", "steps", "eta")} if base else {}
    unet, vae = parts["unet"], parts["vae"]
    maps = {
        "in_channels": vae.config["latent_channels"],
        "out_channels": tuple(reversed(unet.config["block_out_channels"])),
    }
    new: dict[str, Callable[..., Any]] = {
        "upscaler": VideoUpscaler,
        "latent_encoder": lambda **own: LatentEncoder(**{**maps, **own}),
        "unet_guidance": lambda **own: SATeCoAdapters.for_unet(unet, kind=in_unet, **own),
        "vae_guidance": lambda **own: SATeCoAdapters.for_vae(vae, kind=in_vae, **own),
        "refiner": VideoRefiner,
    }
    for name in modules:
        own = model.get(name, {})
        if "from" in own:
            parts[name] = LOADED[name].from_pretrained(own["from"])
        elif name not in parts:
            parts[name] = new[name](**own)
    return SATeCoPipeline(**parts, **options | dict(model.get("pipeline", {})))


def build_base(model: Mapping[str, Any]) -> SATeCoPipeline:
    """An untrained VAE and UNet without the modules, to be pretrained."""
    return SATeCoPipeline(**_base(model), **dict(model.get("pipeline", {})))


def _base(model: Mapping[str, Any]) -> dict[str, Any]:
    """An untrained VAE and UNet, and a scheduler."""
    own = model["vae"]
    vae: Any = PatchAutoencoderKL(**own) if "patch_size" in own else AutoencoderKL(**_blocks(own))
    channels = vae.config["latent_channels"]
    sizes = {"in_channels": channels, "out_channels": channels}
    unet = UNet2DConditionModel(**{**sizes, **model["unet"]})
    return {"vae": vae, "unet": unet, "scheduler": _scheduler(model.get("scheduler", {}))}


def _blocks(config: Mapping[str, Any]) -> dict[str, Any]:
    """An AutoencoderKL's arguments, with the kinds of blocks that its levels need."""
    levels = len(config["block_out_channels"])
    return {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        **config,
    }


def _scheduler(config: Mapping[str, Any]) -> Any:
    """Stable Diffusion's DDPM, unless told otherwise."""
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", **config}
    name = options.pop("type", "DDPMScheduler")
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if not isinstance(kind, type):
        raise UsageError(f"[model.scheduler] type is {name!r}.", "Name a scheduler of diffusers.")
    if "clip_sample" in inspect.signature(kind).parameters:
        options.setdefault("clip_sample", False)
    return kind(**options)
