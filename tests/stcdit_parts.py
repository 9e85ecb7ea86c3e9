"""STCDiT's components of the real classes, tiny, with random weights."""

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from framelift.methods.stcdit.build import build_base, build_vae, extend
from framelift.methods.stcdit.pipeline import STCDiTPipeline

VAE = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 8,
    "is_residual": True,
    "attention": False,
}
SCHEDULER = FlowMatchEulerDiscreteScheduler(shift=5.0)  # its tables are numbers on the CPU
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "ffn_dim": 32,
    "num_layers": 2,
    "freq_dim": 16,
}
TINY_INPUT = {"in_channels": 4}  # the tiny model's: noisy latents alone


def pipeline(guidance: dict[str, Any] | None = None, **options: Any) -> STCDiTPipeline:
    """A base, or that with STCDiT's modules; outputs are not zero, as they are before training."""
    torch.manual_seed(0)
    base = options.pop("base", {})
    settings = {"tile": [6, 8, 8], "steps": 2} | options
    made = STCDiTPipeline(build_vae(VAE), SCHEDULER, **settings)
    transformer = build_base(made, {**TRANSFORMER, **base})
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    if guidance is not None:
        transformer = extend(transformer, {"lora_rank": 4, **guidance})
    made.register_modules(transformer=transformer.eval())
    return made


def disturb(network: torch.nn.Module, std: float = 0.05) -> None:
    """Open what is zero at first."""
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.normal_(0, std, generator=generator)
