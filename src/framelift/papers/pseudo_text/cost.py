"""Table 4.6: time a frame and parameters, the thesis' and ours."""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from framelift.methods.load import outline
from framelift.methods.pseudo_text.adapter import PseudoTextAdapter
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.settings import PseudoTextSettings
from framelift.methods.pseudo_text.sft_vae import SFTAutoencoderKL
from framelift.papers.pseudo_text.parts import clips, load, read_setup
from framelift.papers.reproduce import Request
from framelift.papers.reproduction import Reproduction, Table

PRINTED = {"unet, upscale": 691.04, "unet, ali": 1410.0, "vae, SFT": 113.78, "vit": 86.57}
PRINTED["adapter"] = 2.14
TIMES = (
    ("Real-ESRGAN", "1", "0.08"),
    ("SwinIR-GAN", "1", "0.12"),
    ("LDM", "200", "5.25"),
    ("StableSR", "200", "15.16"),
    ("pseudo-text, ali", "30", "30.099"),
    ("pseudo-text, upscale", "30", "8.632"),
)
NETWORKS = ("vit", "adapter", "unet", "vae")


def cost(request: Request) -> Reproduction:
    """Seconds a frame on this machine beside the thesis', and the parameters of every part."""
    setup, pipeline = read_setup(request), load(request)
    _, hr, lr = clips(request)[0]
    rows = [(f"{title}, thesis", steps, seconds) for title, steps, seconds in TIMES]
    measured = {}
    usual = pipeline.config["steps"]
    for title, settings in {
        "control: no diffusion": PseudoTextSettings(diffusion=False),
        "condition off": PseudoTextSettings(condition=False),
        "condition on": PseudoTextSettings(),
    }.items():
        seconds = min(_seconds(pipeline, lr, settings) for _ in range(setup.repeats))
        measured[title] = seconds
        steps = str(usual) if settings.diffusion else "0"
        rows.append((f"{title}, ours", steps, f"{seconds:.3f}"))
    size = "×".join(map(str, hr.shape[-2:]))
    times = Table(
        f"Time; ours for {len(lr)} frames of {size} on {pipeline._execution_device}",
        ("method", "steps", "s a frame"),
        tuple(rows),
    )
    published, ours = published_sizes(), _sizes(pipeline)
    heads = ("part", "thesis, M", "published part here, M", "preset, M")
    parts = Table(
        "Parameters",
        heads,
        tuple(
            (name, f"{printed:.2f}", f"{published[name]:.2f}", _of_preset(name, ours))
            for name, printed in PRINTED.items()
        ),
    )
    record = {"seconds": measured, "published": published, "preset": ours}
    notes = (request.item.notes,)
    return Reproduction(request.item, tables=(times, parts), notes=notes, record=record)


def published_sizes() -> dict[str, float]:
    """Millions of parameters of the published parts, counted without their weights."""
    image, found = outline("sd-x4-upscaler"), outline("pseudo-text-modelscope")
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "unet, upscale": InflatedUNet(**_arguments(image["unet"])),
            "unet, ali": found["unet"],
            "vae, SFT": SFTAutoencoderKL(**_arguments(image["vae"])),
            "vit": found["vit"],
            "adapter": PseudoTextAdapter(),
        }
    return {name: _millions(network) for name, network in networks.items()}


def _arguments(network: Any) -> dict[str, Any]:
    return {name: value for name, value in network.config.items() if not name.startswith("_")}


def _sizes(pipeline: PseudoTextPipeline) -> dict[str, float]:
    return {name: _millions(getattr(pipeline, name)) for name in NETWORKS}


def _of_preset(name: str, ours: dict[str, float]) -> str:
    part, _, kind = name.partition(", ")
    return "-" if kind == "ali" else f"{ours[part]:.2f}"


def _millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def _seconds(pipeline: PseudoTextPipeline, lr: Tensor, settings: PseudoTextSettings) -> float:
    begin = perf_counter()
    pipeline(lr, settings=settings).cpu()
    return (perf_counter() - begin) / len(lr)
