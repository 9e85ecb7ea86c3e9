"""Tiny components of the real classes, with random weights."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from support import small_vae
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 1e-4, "beta_end": 0.02}


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    """Single letters, alone and at a word's end, and CLIP's two special tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=12)


@pytest.fixture(scope="session")
def components(tokenizer) -> dict:
    """The parts of the published ×4 upscaler, shrunk."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=7,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        only_cross_attention=(True, False),
        cross_attention_dim=24,
        attention_head_dim=4,
        num_class_embeds=1000,
        use_linear_projection=True,
        layers_per_block=1,
        norm_num_groups=8,
    )
    vae = small_vae()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=12,
        bos_token_id=len(tokenizer) - 2,
        eos_token_id=len(tokenizer) - 1,
        pad_token_id=len(tokenizer) - 1,
    )
    return {
        "vae": vae.eval(),
        "unet": unet.eval(),
        "text_encoder": CLIPTextModel(config).eval(),
        "tokenizer": tokenizer,
        "scheduler": DDIMScheduler(
            **BETAS,
            clip_sample=False,
            prediction_type="v_prediction",
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        "low_res_scheduler": DDPMScheduler(**BETAS),
    }


@pytest.fixture(scope="session")
def small_unet() -> UNet2DConditionModel:
    """A UNet without text or noise level, for the block transform codec."""
    torch.manual_seed(2)
    return UNet2DConditionModel(
        in_channels=30,
        out_channels=24,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        norm_num_groups=8,
    ).eval()


@pytest.fixture
def clip() -> torch.Tensor:
    """Three frames `[3, 3, 16, 24]` in [0, 1]."""
    return torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))
