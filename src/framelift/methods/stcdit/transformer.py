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
    bias_of,
)
from framelift.methods.stcdit.block import AnchorGate, extend_block

LORA_TARGETS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
ADDED = ("lora_A", "lora_B", "afr", "acfm", "anchor_gate", "lq_patch_embedding", "lq_projection")
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

    _no_split_modules = ["AnchoredWanBlock"]  # noqa: RUF012
    _repeated_blocks = ["AnchoredWanBlock"]  # noqa: RUF012
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
        joint = anchors == "self"
        for block in self.blocks:
            extend_block(
                block,
                AnchorGate(num_attention_heads) if joint and gated else None,
                AnchorConvFusion(ffn_dim, fusion) if joint and fusion != "none" else None,
            )
        if anchors != "none":
            self.afr = (AnchorFrameRefinement if refine else PlainPatches)(out_channels, dim)
            self.afr.copy_patches(self.patch_embedding)
        if lq_patches:
            frames, rows, columns = patch_size
            patch = (frames, rows, columns)
            self.lq_patch_embedding = nn.Conv3d(out_channels, dim, patch, stride=patch)
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
        made: Any = cls(**{**config, **guidance})
        weights = base.state_dict()
        plain = {key: key.replace(".base_layer", "") for key in made.state_dict()}
        made.load_state_dict(
            {k: weights[p] for k, p in plain.items() if p in weights}, strict=False
        )
        made.copy_patches()
        if made.dtype != base.dtype:
            nn.Module.to(made, base.dtype)
        return made

    @torch.no_grad()
    def copy_patches(self) -> None:
        """Let AFR and the LQ patches begin with the base's patches."""
        if self.config["anchors"] != "none":
            self.afr.copy_patches(self.patch_embedding)
        if self.config["lq_patches"]:
            channels = self.lq_patch_embedding.in_channels
            self.lq_patch_embedding.weight.copy_(self.patch_embedding.weight[:, :channels])
            bias_of(self.lq_patch_embedding).copy_(bias_of(self.patch_embedding))

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
        given = (text, modulation, rope, at, size)
        checkpoint: Any = self._gradient_checkpointing_func
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                v, a = checkpoint(block, v, a, *given)
            else:
                v, a = block(v, a, *given)
        shift, scale = (self.scale_shift_table.to(temb.device) + temb.unsqueeze(1)).chunk(2, dim=1)
        v = (self.norm_out(v.float()) * (1 + scale) + shift).type_as(v)
        output = self._unpatch(self.proj_out(v), f, size)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _call(self, name: str, number: int) -> Any:
        """What calls a block's module of that name, None where there is none.

        No module: what offloads a block would take the modules among its arguments along.
        """
        modules: Any = getattr(self, name, None)
        return None if modules is None else modules[number].__call__

    def _checkpoint(self, block: nn.Module, *given: Any) -> Any:
        function: Any = self._gradient_checkpointing_func
        return function(block, *given)

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

    def _unpatch(self, tokens: Tensor, f: int, size: tuple[int, int]) -> Tensor:
        patch = self.config["patch_size"]
        x = tokens.reshape(len(tokens), f // patch[0], *size, *patch, -1)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
