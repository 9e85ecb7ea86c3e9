"""A small ViT of one's own, by masked autoencoding (He et al., CVPR 2022), for the bundled preset.

transformers' `ViTMAEForPreTraining` is trained on the low-resolution frames; its encoder's weights
are those of a `ViTModel`, which the pipeline keeps. The published preset takes google's ViT.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining, ViTModel

from framelift.config import from_mapping
from framelift.diffusion.draw import normal
from framelift.methods.base import Batch, StageRequest
from framelift.methods.pseudo_text.build import build_pipeline
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline


@dataclass(frozen=True)
class MaskedAutoencoderSettings:
    """The decoder beside the ViT, and what is hidden from the encoder."""

    mask_ratio: float = 0.75
    """Share of the patches that are hidden."""
    decoder_channels: int = 128
    """Width of the decoder."""
    decoder_depth: int = 2
    """Layers of the decoder."""
    normalised: bool = True
    """Predict every patch in units of its own mean and deviation."""


class MaskedAutoencoderObjective:
    """Loss of hidden patches; frames of a clip are pictures of their own."""

    def __init__(self, pipeline: PseudoTextPipeline, settings: MaskedAutoencoderSettings) -> None:
        self._pipeline = pipeline
        vit: Any = pipeline.vit
        shared = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        config = {name: getattr(vit.config, name) for name in (*shared, "image_size", "patch_size")}
        self.network = ViTMAEForPreTraining(
            ViTMAEConfig(
                **config,
                mask_ratio=settings.mask_ratio,
                norm_pix_loss=settings.normalised,
                decoder_hidden_size=settings.decoder_channels,
                decoder_num_hidden_layers=settings.decoder_depth,
                decoder_num_attention_heads=vit.config.num_attention_heads,
                decoder_intermediate_size=4 * settings.decoder_channels,
            )
        )

    @property
    def trained(self) -> nn.Module:
        return self.network

    @property
    def pipeline(self) -> PseudoTextPipeline:
        """With the encoder's present weights in its ViT."""
        vit: Any = self._pipeline.vit
        encoder: Any = self.network.vit
        vit.load_state_dict({**vit.state_dict(), **_common(encoder, vit)})
        return self._pipeline

    def to(self, device: torch.device) -> None:
        """The ViT receives its weights at the end; nothing else is needed."""

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing depends on the data."""

    def loss(
        self, network: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the hidden patches."""
        pixels = batch.lr.flatten(0, 1) * 2 - 1
        of: Any = self.network.config
        patches = (of.image_size // of.patch_size) ** 2
        order = normal((len(pixels), patches), pixels.device, generator)
        loss = network(pixels, noise=order).loss
        return loss, {"patches": loss.detach()}

    @torch.no_grad()
    def show(self, batch: Batch, columns: int = 12) -> Tensor:
        """Frames, what the encoder sees of them, what the decoder makes of that `[3, H, W]`."""
        pixels = batch.lr.flatten(0, 1)[:columns].to(self.network.device) * 2 - 1
        made: Any = self.network(pixels)
        target = self.network.patchify(pixels)
        drawn = made.logits
        if self.network.config.norm_pix_loss:
            variance, mean = torch.var_mean(target, -1, keepdim=True)
            drawn = drawn * (variance + 1e-6).sqrt() + mean
        hidden = made.mask[..., None]
        rows = [target, target * (1 - hidden), drawn * hidden + target * (1 - hidden)]
        pictures = [(self.network.unpatchify(row) + 1) / 2 for row in rows]
        return torch.cat([torch.cat(list(p), dim=-1) for p in pictures], dim=-2).clamp(0, 1)


def _common(encoder: nn.Module, vit: ViTModel) -> dict[str, Tensor]:
    """The encoder's weights by the ViT's names, which are the same but for the ViT's pooler."""
    weights, wanted = encoder.state_dict(), vit.state_dict()
    missing = [n for n in wanted if n not in weights and not n.startswith("pooler.")]
    assert not missing, f"this version of transformers names them differently: {missing}"
    return {name: weights[name].to(own.device) for name, own in wanted.items() if name in weights}


def build(request: StageRequest) -> MaskedAutoencoderObjective:
    """The objective of `vit`."""
    settings = from_mapping(MaskedAutoencoderSettings, request.objective, "[objective]")
    base = request.pipeline if isinstance(request.pipeline, PseudoTextPipeline) else None
    return MaskedAutoencoderObjective(build_pipeline(request.model, base), settings)
