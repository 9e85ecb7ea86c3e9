"""The adapter: from what a ViT sees in the LR frames to pseudo-text (section 3.2, Table 4.5)."""

from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

Kind = Literal["linear-linear", "crossattention-linear-linear", "crossattention-transformer-linear"]


class PseudoTextAdapter(ModelMixin, ConfigMixin):
    """Tokens of T frames `[B, T, n, in_channels]` → pseudo-text `[B, T·n, out_channels]`.

    `linear-linear`: two layers for every token. `crossattention-…`: first every token attends to
    those of all frames, with the order of the frames told by sinusoids; then two linear layers, or
    a transformer of `depth` layers and a linear one. The thesis gives 2.14 M parameters for the
    first kind; 768 → 1192 → 1024 has them. The last layer is initialised as usual, not at zero: at
    the thesis' learning rate of 1e-7 it would stay there.
    """

    @register_to_config
    def __init__(
        self,
        kind: Kind = "linear-linear",
        in_channels: int = 768,
        hidden_channels: int = 1192,
        out_channels: int = 1024,
        heads: int = 8,
        depth: int = 2,
    ) -> None:
        super().__init__()
        crossing = kind != "linear-linear"
        self.norm = nn.LayerNorm(in_channels) if crossing else None
        self.cross = (
            nn.MultiheadAttention(in_channels, heads, batch_first=True) if crossing else None
        )
        if kind == "crossattention-transformer-linear":
            layer = nn.TransformerEncoderLayer(
                in_channels, heads, hidden_channels, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.mlp = nn.Sequential(
                nn.TransformerEncoder(layer, depth, enable_nested_tensor=False),
                nn.Linear(in_channels, out_channels),
            )
        else:
            self.mlp = nn.Sequential(
                nn.Linear(in_channels, hidden_channels),
                nn.GELU(),
                nn.Linear(hidden_channels, out_channels),
            )

    def forward(self, tokens: Tensor) -> Tensor:
        """τ of equation 3.2."""
        joined = tokens.flatten(1, 2)
        if self.cross is not None and self.norm is not None:
            placed = (tokens + _order(tokens)[:, None]).flatten(1, 2)
            keys = self.norm(placed)
            joined = joined + self.cross(keys, keys, joined, need_weights=False)[0]
        return self.mlp(joined)


def _order(tokens: Tensor) -> Tensor:
    """Sinusoids `[T, c]` that tell the frames' places in the clip."""
    frames, channels = tokens.shape[1], tokens.shape[-1]
    at = torch.arange(frames, device=tokens.device).float()[:, None]
    rate = 100.0 ** (-torch.arange(channels, device=tokens.device).float() / channels)
    return torch.cat([(at * rate[::2]).sin(), (at * rate[1::2]).cos()], dim=-1).to(tokens.dtype)
