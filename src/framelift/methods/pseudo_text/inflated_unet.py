"""The image upscaler's UNet inflated to clips: Upscale-A-Video's (Zhou et al., CVPR 2024).

diffusers' UNet works on every frame by itself; what is added sees time: a `TemporalModule` behind
every block, and in every transformer a residual block over time and temporal attention. All of it
is the identity at initialisation, so that the network then equals the image UNet frame by frame.
Its interface is that of diffusers' `UNet3DConditionModel`.
"""

import inspect
from typing import Any, Literal

import torch
from diffusers import ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from torch import Tensor, nn

from framelift.methods.pseudo_text.temporal import (
    OfClips,
    TemporalAttention,
    TemporalModule,
    TemporalResnetBlock,
    set_frames,
    share_statistics,
    zeroed,
)


class ClipTransformerBlock(BasicTransformerBlock, OfClips):
    """diffusers' block with attention over time between cross-attention and feed-forward."""

    def __init__(self, dim: int, heads: int, head_channels: int, **options: Any) -> None:
        super().__init__(dim, heads, head_channels, **options)
        self.attn_temporal = TemporalAttention(dim, heads, head_channels)
        self.norm_temporal = nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`x` `[B·T, h·w, C]`, `context` `[B·T, N, D]`."""
        x = x + self.attn1(self.norm1(x), context if self.only_cross_attention else None)
        x = x + self.attn2(self.norm2(x), context)  # pyright: ignore[reportOptionalCall]
        tracks = x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # [B, h·w, T, C]
        moved = self.attn_temporal(self.norm_temporal(tracks.flatten(0, 1)))
        x = x + moved.unflatten(0, tracks.shape[:2]).transpose(1, 2).flatten(0, 1)
        return x + self.ff(self.norm3(x))  # pyright: ignore[reportOptionalCall]


class ClipTransformer(Transformer2DModel):
    """diffusers' transformer behind a residual block over time, with blocks that see time."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        of = self.config
        self.resblock_temporal = TemporalResnetBlock(
            of["in_channels"], 3, of["norm_num_groups"], None
        )
        zeroed(self.resblock_temporal.conv2)
        self.transformer_blocks = nn.ModuleList(
            ClipTransformerBlock(
                self.inner_dim,
                of["num_attention_heads"],
                of["attention_head_dim"],
                cross_attention_dim=of["cross_attention_dim"],
                attention_bias=of["attention_bias"],
                only_cross_attention=of["only_cross_attention"],
                upcast_attention=of["upcast_attention"],
            )
            for _ in range(of["num_layers"])
        )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> tuple[Tensor]:
        """As diffusers' blocks call it; `[B·T, C, h, w]`."""
        x = self.resblock_temporal(hidden_states)
        size = x.shape[-2:]
        tokens = self.norm(x)
        if not self.use_linear_projection:
            tokens = self.proj_in(tokens)
        tokens = tokens.flatten(2).transpose(1, 2)
        if self.use_linear_projection:
            tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states)
        if self.use_linear_projection:
            return (x + self.proj_out(tokens).transpose(1, 2).unflatten(2, size),)
        return (x + self.proj_out(tokens.transpose(1, 2).unflatten(2, size)),)


class InflatedUNet(UNet2DConditionModel, ModelMixin):
    """Denoiser of clips `[B, C, T, h, w]`; the LR frames are further channels of its input.

    The options of the image UNet are `UNet2DConditionModel`'s. `down_temporal_idx` and
    `up_temporal_idx` number the blocks that a `TemporalModule` follows, None: all;
    `temporal_spatial` are its spatial residual blocks. `statistics` of group norms are those of a
    frame, or of the clip, as in the released weights.
    """

    ignore_for_config = ["image"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        down_temporal_idx: tuple[int, ...] | None = None,
        mid_temporal: bool = True,
        up_temporal_idx: tuple[int, ...] | None = None,
        temporal_spatial: bool = True,
        statistics: Literal["frame", "clip"] = "frame",
        **image: Any,
    ) -> None:
        super().__init__(**image)
        channels, groups = self.config["block_out_channels"], self.config["norm_num_groups"]
        time = self.time_embedding.linear_2.out_features
        blocks: list[Any] = [*self.down_blocks, self.mid_block, *self.up_blocks]
        for block in blocks:
            if getattr(block, "has_cross_attention", False):
                block.attentions = nn.ModuleList(
                    ClipTransformer(**_public(old.config)) for old in block.attentions
                )

        def behind(width: int, wanted: bool) -> TemporalModule | None:
            return TemporalModule(width, groups, time, temporal_spatial) if wanted else None

        def chosen(index: tuple[int, ...] | None, at: int) -> bool:
            return index is None or at in index

        self.down_temp_blocks = nn.ModuleList(
            behind(c, chosen(down_temporal_idx, i)) or nn.Module() for i, c in enumerate(channels)
        )
        self.mid_temp_block = behind(channels[-1], mid_temporal) or nn.Module()
        self.up_temp_blocks = nn.ModuleList(
            behind(c, chosen(up_temporal_idx, i)) or nn.Module()
            for i, c in enumerate(reversed(channels))
        )
        if statistics == "clip":
            share_statistics(self)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        """Arguments that a configuration may hold: those of the image UNet as well."""
        kinds = (input_class, UNet2DConditionModel)
        return {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """The output `[B, c, T, h, w]` for `sample` `[B, C, T, h, w]` and a text `[B, N, D]`.

        `timestep` and `class_labels` (the LR frames' noise level) are 0-d or have one value a clip.
        """
        clips, _, frames = sample.shape[:3]
        set_frames(self, frames)
        time = self.time_embedding(self._time(sample, timestep))
        if self.class_embedding is not None:
            if class_labels is None:
                raise ValueError("this UNet wants to be told the noise level of the LR frames")
            time = time + self.class_embedding(class_labels.expand(clips)).to(time.dtype)
        time = time.repeat_interleave(frames, dim=0)
        context = encoder_hidden_states.repeat_interleave(frames, dim=0)
        x: Any = self.conv_in(sample.transpose(1, 2).flatten(0, 1))
        skips = [x]
        for block, behind in zip(self.down_blocks, self.down_temp_blocks, strict=True):
            x, made = block(x, time, **_text(block, context))
            skips += made
            x = _after(behind, x, time)
        mid: Any = self.mid_block
        x = _after(self.mid_temp_block, mid(x, time, **_text(mid, context)), time)
        for block, behind in zip(self.up_blocks, self.up_temp_blocks, strict=True):
            depth = len(block.resnets)  # pyright: ignore[reportArgumentType]
            skips, own = skips[:-depth], skips[-depth:]
            size = skips[-1].shape[-2:] if skips else None  # odd sides do not halve evenly
            x = block(x, tuple(own), time, upsample_size=size, **_text(block, context))
            x = _after(behind, x, time)
        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))  # pyright: ignore[reportOptionalCall]
        x = x.unflatten(0, (clips, frames)).transpose(1, 2)
        return UNet3DConditionOutput(sample=x) if return_dict else (x,)

    def _time(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        return self.time_proj(t).to(sample.dtype)


def _after(module: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    return module(x, time) if isinstance(module, TemporalModule) else x


def _text(block: Any, context: Tensor) -> dict[str, Tensor]:
    seen = getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": context} if seen else {}


def _public(config: Any) -> dict[str, Any]:
    return {k: v for k, v in config.items() if not k.startswith("_")}
