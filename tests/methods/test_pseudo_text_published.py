"""Published parts of the pseudo-text adapter in their real layouts, with tiny components."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline
from pseudo_text_parts import IMAGE, LOW_RES, SCHEDULER, VAE, ali
from transformers import ViTConfig, ViTForImageClassification

from framelift.errors import FrameliftError, InputError, UsageError
from framelift.methods.load import load_pipeline, outline
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.settings import PseudoTextSettings
from framelift.methods.pseudo_text.sft_vae import SFTAutoencoderKL
from framelift.methods.pseudo_text.upscale_a_video import ATTENTION, convert

QUICK = PseudoTextSettings(steps=2, condition=False, postprocess="off")


@pytest.fixture
def mirrors(tmp_path):
    """Google's ViT as it lies on the hub: a classifier, without a pooling layer."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(hidden_size=16, image_size=32, patch_size=8, **sizes)
    folder = tmp_path / "mirrors" / "google--vit-base-patch16-224"
    ViTForImageClassification(config).save_pretrained(folder)
    return folder.parent


def released_names(weights: dict) -> dict:
    """What the authors' classes call the same weights, and what theirs have besides."""
    back = {ours: theirs for theirs, ours in ATTENTION.items()}
    found = {"temporal_rotary_emb.freqs": torch.ones(4)}
    for key, value in weights.items():
        for ours, theirs in back.items():
            if "mid_block.attentions" in key and "transformer_blocks" not in key:
                key = key.replace(f".{ours}.", f".{theirs}.")
        found[key] = value
        if ".downsamplers." in key:
            found[key.replace(".conv.", ".Conv2d_0.")] = value
        if key.endswith("attn_temporal.to_q.weight"):
            found[key.replace("to_q.weight", "rotary_emb.freqs")] = torch.ones(4)
    return found


def write(folder, name: str, network, config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(released_names(network.state_dict()), folder / f"{name}.bin")
    (folder / f"{name}_config.json").write_text(json.dumps({"_diffusers_version": "0.9", **config}))


@pytest.fixture
def released(components, tmp_path):
    """Upscale-A-Video's download, as its README and its inference script name the files."""
    torch.manual_seed(1)
    folder = tmp_path / "upscale_a_video"
    networks = {
        "unet_video": InflatedUNet(**IMAGE, statistics="clip"),
        "vae_video": SFTAutoencoderKL(
            **VAE, condition_channels=8, temporal="all", statistics="clip"
        ),
        "vae_3d": SFTAutoencoderKL(**VAE, condition_channels=0, temporal="none", statistics="clip"),
    }
    for network in networks.values():
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    in_3d = {
        **IMAGE,
        "down_block_types": [b.replace("2D", "3D") for b in IMAGE["down_block_types"]],
        "up_block_types": [b.replace("2D", "3D") for b in IMAGE["up_block_types"]],
        "down_temporal_idx": [0, 1],
        "mid_temporal": True,
        "up_temporal_idx": [0, 1],
        "temporal_module_config": {"attention_block_types": ["", ""]},
        "dual_cross_attention": False,
    }
    write(folder / "unet", "unet_video", networks["unet_video"], in_3d)
    down = ["DownEncoderBlock3D"] * 3
    guided = {"condition_img": True, "condition_channels": 8, "use_temporal_block": True}
    plain = {**VAE, "down_block_types": down, "up_block_types": ["UpDecoderBlock3D"] * 3}
    plus = {**plain, "up_block_types": ["UpDecoderBlock3D_plus"] * 3, **guided}
    write(folder / "vae", "vae_video", networks["vae_video"], plus)
    write(folder / "vae", "vae_3d", networks["vae_3d"], plain)
    SCHEDULER.save_pretrained(folder / "scheduler")
    LOW_RES.save_pretrained(folder / "low_res_scheduler")
    for name in ("text_encoder", "tokenizer"):
        components[name].save_pretrained(folder / name)
    return folder, networks


def test_upscale_a_videos_files_become_a_preset(released, mirrors, tmp_path, clip):
    folder, networks = released
    preset = convert(folder, tmp_path / "ours")
    pipeline = load_pipeline(str(preset), weights_dir=mirrors)
    parts = {"unet": "unet_video", "vae": "vae_video", "plain_vae": "vae_3d"}
    for name, released_name in parts.items():
        made, given = getattr(pipeline, name).state_dict(), networks[released_name].state_dict()
        assert made.keys() == given.keys()
        assert all(torch.equal(made[key], given[key]) for key in given), name
    frames = pipeline(clip, settings=QUICK)
    assert frames.shape == (len(clip), 3, 4 * clip.shape[2], 4 * clip.shape[3])
    assert frames.std() > 0
    with pytest.raises(UsageError, match="no adapter"):
        pipeline(clip)
    with pytest.raises(UsageError, match="not empty"):
        convert(folder, tmp_path / "ours")


def test_files_of_another_network_are_refused(released, tmp_path):
    folder, _ = released
    (folder / "vae" / "vae_3d.bin").write_bytes((folder / "unet" / "unet_video.bin").read_bytes())
    with pytest.raises(InputError, match="not those of its configuration"):
        convert(folder, tmp_path / "ours")
    (folder / "vae" / "vae_3d.bin").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        convert(folder, tmp_path / "ours")
    (folder / "vae" / "vae_3d.bin").unlink()
    with pytest.raises(FrameliftError, match="cannot be read"):
        convert(folder, tmp_path / "ours")


def test_modelscopes_text_to_video_model(components, mirrors, clip):
    """diffusers' own pipeline saved, f = 8, and the UNet that sees only latents."""
    blocks = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    vae = AutoencoderKL(**{**VAE, **blocks, "scaling_factor": 0.18215})
    names = ("text_encoder", "tokenizer")
    texts = {name: components[name] for name in names}
    whole = TextToVideoSDPipeline(vae=vae, unet=ali(), scheduler=DDIMScheduler(), **texts)
    whole.save_pretrained(mirrors / "damo-vilab--text-to-video-ms-1.7b")
    pipeline = load_pipeline("pseudo-text-modelscope", weights_dir=mirrors)
    assert not pipeline.sees_lr
    assert pipeline.limits.size_multiple == 2
    frames = pipeline(clip, settings=QUICK)
    assert frames.shape == (len(clip), 3, 4 * clip.shape[2], 4 * clip.shape[3])


def test_published_sizes():
    """Table 4.6: UNet 1.41 B, ViT 86.57 M with a classifier's head; the VAE is ModelScope's own."""
    found = outline("pseudo-text-modelscope")
    millions = {n: sum(p.numel() for p in m.parameters()) / 1e6 for n, m in found.items()}
    assert round(millions["unet"] / 1e3, 2) == 1.41
    assert round(millions["vae"]) == 84
    assert round(millions["vit"], 2) == 85.80
