"""The video DiT of STCDiT: Wan's transformer, extended by anchors.

Tokens of the anchors lie behind those of the video: self-attention sees them together, with time
indices that follow the video's; text is for the video alone; both pass the feed-forward network,
where ACFM joins them. The base is frozen; LoRA (peft), AFR, ACFM and the LQ patches are trained.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers import WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from framelift.methods.stcdit.anchors import (
    AnchorConvFusion,
    AnchorFrameRefinement,
    Fusion,
    PlainPatches,
)

LORA_TARGETS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
ADDED = ("lora_A", "lora_B", "afr", "acfm", "anchor_gates", "lq_patch_embedding", "lq_projection")
"""Last names of the modules that are trained."""


class AnchoredWanTransformer(WanTransformer3DModel):
    """Wan's transformer with the modules of STCDiT.

    Its own arguments: `lora_rank` r (α = r; 0 for no LoRA); `anchors`, where anchors are attended
    to (Table 3; "none" leaves them out); `refine`, whether AFR makes their tokens; `fusion`, what
    joins them with the video in feed-forward networks; `gated`, whether what video tokens take from
    anchors begins at nothing (a factor a head; the paper's joint attention has none);
    `lq_patches`, whether LQ latents are added as patches (the tiny model) instead of being part of
    the input (the large one).
    """

    _keep_in_fp32_modules = [*WanTransformer3DModel._keep_in_fp32_modules]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        lora_rank: int = 128,
        anchors: Literal["self", "cross", "none"] = "self",
        refine: bool = True,
        fusion: Fusion = "acfm",
        gated: bool = False,
        lq_patches: bool = False,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        dim = num_attention_heads * attention_head_dim
        if anchors != "none":
            self.afr = (AnchorFrameRefinement if refine else PlainPatches)(out_channels, dim)
            self.afr.copy_patches(self.patch_embedding)
        if anchors == "self" and fusion != "none":
            self.acfm = nn.ModuleList(AnchorConvFusion(ffn_dim, fusion) for _ in range(num_layers))
        if anchors == "self" and gated:
            gates = (torch.zeros(num_attention_heads) for _ in range(num_layers))
            self.anchor_gates = nn.ParameterList(gates)
        if lq_patches:
            self.lq_patch_embedding = nn.Conv3d(out_channels, dim, patch_size, stride=patch_size)
            self.lq_projection = nn.Linear(dim, dim)
            nn.init.zeros_(self.lq_projection.weight)
            nn.init.zeros_(self.lq_projection.bias)
        if lora_rank:
            lora = LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=LORA_TARGETS)
            inject_adapter_in_model(lora, self)

    @classmethod
    def from_base(cls, base: WanTransformer3DModel, **guidance: Any) -> "AnchoredWanTransformer":
        """The base's weights, and new modules that have no effect."""
        config = {k: v for k, v in base.config.items() if not k.startswith("_")}
        made = cls(**{**config, **guidance})
        weights = base.state_dict()
        plain = {key: key.replace(".base_layer", "") for key in made.state_dict()}
        made.load_state_dict(
            {k: weights[p] for k, p in plain.items() if p in weights}, strict=False
        )
        made.copy_patches()
        return made if made.dtype == base.dtype else made.to(base.dtype)

    @torch.no_grad()
    def copy_patches(self) -> None:
        """Let AFR and the LQ patches begin with the base's patches."""
        if self.config["anchors"] != "none":
            self.afr.copy_patches(self.patch_embedding)
        if self.config["lq_patches"]:
            channels = self.lq_patch_embedding.in_channels
            self.lq_patch_embedding.weight.copy_(self.patch_embedding.weight[:, :channels])
            self.lq_patch_embedding.bias.copy_(self.patch_embedding.bias)

    def added(self) -> dict[str, nn.Module]:
        """What is trained, by name; everything else is the base's."""
        return {n: m for n, m in self.named_modules() if n.rpartition(".")[2] in ADDED}

    def added_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of `added`, by name."""
        return {
            f"{name}.{own}": parameter
            for name, module in self.added().items()
            for own, parameter in module.named_parameters()
        }

    def merge_lora(self) -> None:
        """Add the LoRA products to the base's weights; the network computes the same, faster."""
        for module in self.modules():
            if isinstance(module, LoraLayer) and not module.merged:
                module.merge()  # pyright: ignore[reportCallIssue]

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        anchors: Tensor | None = None,
        anchor_frames: Sequence[int] = (),
        lq: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """The velocity `[B, c, f, h, w]` for the base's input `[B, C, f, h, w]`.

        `anchors` `[B, c, k, h, w]` are latents of the frames `anchor_frames` (indices below f);
        `lq` `[B, c, f, h, w]` are the LQ latents for a network with `lq_patches`. `timestep` `[B]`
        is 1000 σ.
        """
        _, _, f, height, width = hidden_states.shape
        _, rows, columns = self.config["patch_size"]
        size = (height // rows, width // columns)
        v = self._patches(hidden_states, lq)
        a = self._anchor_tokens(anchors)
        temb, modulation, text, _ = self.condition_embedder(timestep, encoder_hidden_states, None)
        modulation = modulation.unflatten(1, (6, -1))
        if self.config["anchors"] == "cross":
            text, a = torch.cat([text, a.to(text.dtype)], dim=1), a[:, :0]
        k = a.shape[1] // (size[0] * size[1])
        at = torch.tensor(anchor_frames, dtype=torch.long, device=v.device)
        rope = self.rope(hidden_states.new_empty(1, 1, f + k, height, width))
        for i in range(len(self.blocks)):
            given = (i, v, a, text, modulation, rope, at, size)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                v, a = self._gradient_checkpointing_func(self._block, *given)
            else:
                v, a = self._block(*given)
        shift, scale = (self.scale_shift_table.to(temb.device) + temb.unsqueeze(1)).chunk(2, dim=1)
        v = (self.norm_out(v.float()) * (1 + scale) + shift).type_as(v)
        output = self._unpatch(self.proj_out(v), f, size)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _patches(self, hidden_states: Tensor, lq: Tensor | None) -> Tensor:
        v = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()
        if lq is not None:
            patches = self.lq_patch_embedding(lq).flatten(2).transpose(1, 2)
            v = v + self.lq_projection(patches)
        return v

    def _anchor_tokens(self, anchors: Tensor | None) -> Tensor:
        if anchors is None or self.config["anchors"] == "none":
            dim = self.patch_embedding.out_channels
            weight = self.patch_embedding.weight
            batch = 1 if anchors is None else len(anchors)
            return weight.new_empty(batch, 0, dim)
        return self.afr(anchors)

    def _block(
        self,
        index: int,
        v: Tensor,
        a: Tensor,
        text: Tensor,
        modulation: Tensor,
        rope: tuple[Tensor, Tensor],
        anchor_frames: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """One block: Wan's, with anchors `a` behind the video `v` where there are any."""
        block: Any = self.blocks[index]
        count = v.shape[1]
        table = block.scale_shift_table + modulation.float()
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.chunk(6, dim=1)
        x = torch.cat([v, a.to(v.dtype).expand(len(v), -1, -1)], dim=1)
        inputs = (block.norm1(x.float()) * (1 + scale) + shift).type_as(x)
        x = (x.float() + self._attention(index, inputs, rope, count) * gate).type_as(x)
        v, a = x[:, :count], x[:, count:]
        v = v + block.attn2(block.norm2(v.float()).type_as(v), text, None, None)
        x = torch.cat([v, a], dim=1)
        inputs = (block.norm3(x.float()) * (1 + ffn_scale) + ffn_shift).type_as(x)
        made = self._feed_forward(index, inputs, count, anchor_frames, size)
        x = (x.float() + made.float() * ffn_gate).type_as(x)
        return x[:, :count], x[:, count:]

    def _attention(self, index: int, x: Tensor, rope: tuple[Tensor, Tensor], count: int) -> Tensor:
        """Joint self-attention of video and anchors.

        With gates, video tokens go from attention among themselves (gate 0) to the joint one (1).
        """
        attention: Any = self.blocks[index].attn1
        if x.shape[1] == count or not self.config["gated"] or self.config["anchors"] != "self":
            return attention(x, None, None, rope)
        gate = self.anchor_gates[index]
        return gated_attention(attention, x, rope, count, gate)

    def _feed_forward(
        self, index: int, x: Tensor, count: int, anchor_frames: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Wan's feed-forward network with ACFM between its first layer and the activation."""
        first, dropout, last = self.blocks[index].ffn.net
        h = first.proj(x)
        if x.shape[1] > count and hasattr(self, "acfm"):
            parts = self.acfm[index](h[:, :count], h[:, count:], anchor_frames, size)
            h = torch.cat(parts, dim=1)
        return last(dropout(first.gelu(h)))

    def _unpatch(self, tokens: Tensor, f: int, size: tuple[int, int]) -> Tensor:
        patch = self.config["patch_size"]
        x = tokens.reshape(len(tokens), f // patch[0], *size, *patch, -1)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def gated_attention(
    attention: Any, x: Tensor, rope: tuple[Tensor, Tensor], count: int, gate: Tensor
) -> Tensor:
    """Wan's self-attention, whose first `count` tokens see the rest as `gate` [heads] lets them.

    At 0 they do not see it, at 1 this is `attention` itself.
    """
    heads = (attention.heads, -1)
    q = rotate(attention.norm_q(attention.to_q(x)).unflatten(2, heads), rope)
    k = rotate(attention.norm_k(attention.to_k(x)).unflatten(2, heads), rope)
    q, k, v = (t.transpose(1, 2) for t in (q, k, attention.to_v(x).unflatten(2, heads)))
    q, k = q.to(v.dtype), k.to(v.dtype)
    joint = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    among = (t[:, :, :count] for t in (q, k, v))
    alone = torch.nn.functional.scaled_dot_product_attention(*among)
    g = gate.to(v.dtype)[None, :, None, None]
    video = alone + g * (joint[:, :, :count] - alone)
    out = torch.cat([video, joint[:, :, count:]], dim=2).transpose(1, 2).flatten(2)
    return attention.to_out[1](attention.to_out[0](out))


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding of `x` `[B, N, heads, d]`, neighbours paired, as Wan's."""
    cos, sin = rope[0][..., 0::2], rope[1][..., 1::2]
    x1, x2 = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1)
    return turned.flatten(-2).type_as(x)
