"""The pseudo-text adapter at tiny size: parity, windows in time, switches."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from pseudo_text_parts import IMAGE, VAE, ali, pipeline, vae

from framelift.errors import UsageError
from framelift.methods.load import load_pipeline
from framelift.methods.pseudo_text.adapter import PseudoTextAdapter
from framelift.methods.pseudo_text.inflated_unet import InflatedUNet
from framelift.methods.pseudo_text.pipeline import PseudoTextPipeline
from framelift.methods.pseudo_text.postprocess import postprocess
from framelift.methods.pseudo_text.settings import PostStep, PseudoTextSettings
from framelift.methods.pseudo_text.sft_vae import ClipCodec, SFTAutoencoderKL
from framelift.methods.pseudo_text.temporal import set_frames

KINDS = ("linear-linear", "crossattention-linear-linear", "crossattention-transformer-linear")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shake(network: torch.nn.Module) -> None:
    """Open what is zero at first."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


def test_the_inflated_unet_is_the_image_unet_frame_by_frame():
    unet, image = InflatedUNet(**IMAGE).eval(), UNet2DConditionModel(**IMAGE).eval()
    missing, unexpected = image.load_state_dict(unet.state_dict(), strict=False)
    assert not missing
    assert all("temp" in name for name in unexpected)
    x, text = torch.randn(2, 7, 5, 9, 13), torch.randn(2, 6, 24)  # odd sides do not halve evenly
    t, label = torch.tensor([400, 20]), torch.tensor([120, 7])
    with torch.no_grad():
        made = unet(x, t, text, label).sample
        for clip in range(2):
            for frame in range(5):
                of = slice(clip, clip + 1)
                alone = image(x[of, :, frame], t[of], text[of], label[of]).sample
                torch.testing.assert_close(made[of, :, frame], alone, atol=1e-6, rtol=1e-5)


def test_opened_temporal_modules_see_other_frames():
    unet = InflatedUNet(**IMAGE).eval()
    x, text, label = torch.randn(1, 7, 4, 8, 8), torch.randn(1, 6, 24), torch.tensor([3])
    other = x.clone()
    other[:, :, 3] += 1
    with torch.no_grad():
        before = unet(x, 10, text, label).sample - unet(other, 10, text, label).sample
        shake(unet)
        after = unet(x, 10, text, label).sample - unet(other, 10, text, label).sample
    assert before[:, :, 0].abs().max() < 1e-6
    assert after[:, :, 0].abs().max() > 1e-5


def test_statistics_of_a_clip_are_those_of_all_its_frames():
    unet = InflatedUNet(**IMAGE, statistics="clip").eval()
    frame = torch.randn(1, 7, 1, 8, 8)
    text, label = torch.randn(1, 6, 24), torch.tensor([3])
    with torch.no_grad():
        still = unet(frame.expand(-1, -1, 3, -1, -1), 10, text, label).sample
        torch.testing.assert_close(still[:, :, :1], unet(frame, 10, text, label).sample)
        moving = torch.cat([frame, torch.randn(1, 7, 2, 8, 8)], dim=2)
        assert (unet(moving, 10, text, label).sample[:, :, 0] - still[:, :, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"temporal": "condition"}, {"temporal": "none"}])
def test_the_guided_decoder_without_weight_is_the_plain_one(options):
    guided = vae(**options)
    for name, parameter in guided.named_parameters():
        if "condition_fuse" in name and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    plain = AutoencoderKL(**VAE).eval()
    plain.load_state_dict({k: v for k, v in guided.state_dict().items() if k in plain.state_dict()})
    z, lr = torch.randn(4, 4, 6, 8), torch.rand(4, 3, 6, 8) * 2 - 1
    with torch.no_grad():
        expected = plain.decode(z).sample
        torch.testing.assert_close(ClipCodec(guided, lr, 0.0).decode(z * 0.08333), expected)
        assert (ClipCodec(guided, lr, 1.0).decode(z * 0.08333) - expected).abs().max() > 1e-3


def test_a_residual_decoder_adds_to_the_enlargement():
    guided = vae(residual=True)
    torch.nn.init.zeros_(guided.decoder.conv_out.weight)
    torch.nn.init.zeros_(guided.decoder.conv_out.bias)
    codec = ClipCodec(guided, torch.rand(2, 3, 6, 8) * 2 - 1)
    torch.testing.assert_close(codec.decode(torch.randn(2, 4, 6, 8)), codec.enlarged)


@pytest.mark.parametrize("kind", KINDS)
def test_both_backbones_run_with_every_adapter(kind):
    frames = torch.rand(3, 3, 8, 12)
    for unet in (None, ali()):
        made = pipeline(unet, kind)(frames)
        assert made.shape == (3, 3, 32, 48)
        assert made.min() >= 0
        assert made.max() <= 1


def test_the_text_to_video_unet_is_used_unchanged():
    """What the pipeline computes is a call of diffusers' class with latents and pseudo-text."""
    unet = ali()
    of = pipeline(unet)
    frames = torch.rand(3, 3, 8, 12)
    beside = of.condition(frames * 2 - 1, PseudoTextSettings(), lambda *a: torch.zeros(0))
    assert beside.lr is None
    x = torch.randn(3, 4, 8, 12)
    with torch.no_grad():
        made = of.predict(x, 500, beside)
        expected = unet(x.transpose(0, 1)[None], 500, beside.texts[0]).sample
    torch.testing.assert_close(made, expected[0].transpose(0, 1))


@pytest.mark.parametrize("input_", ["resize", "interpolate"])
def test_the_condition_is_the_adapters_view_and_can_be_off(input_):
    of, frames = pipeline(), torch.rand(2, 3, 8, 24)
    on = of(frames, settings=PseudoTextSettings(vit_input=input_))
    with torch.no_grad():
        of.adapter.mlp[-1].weight += 0.5
    assert (of(frames, settings=PseudoTextSettings(vit_input=input_)) - on).abs().max() > 1e-5
    off = [of(frames, settings=PseudoTextSettings(condition=False, vit_input=input_))]
    with torch.no_grad():
        of.adapter.mlp[-1].weight += 0.5
    off.append(of(frames, settings=PseudoTextSettings(condition=False)))
    torch.testing.assert_close(*off)


def test_windows_meet_inside_every_step_without_a_seam():
    """Where the UNet does not look at time, windows change nothing; where it does, all fits."""
    of = pipeline()
    frames = torch.rand(1, 3, 8, 8).expand(14, -1, -1, -1)
    settings = {"condition": False, "steps": 3}
    whole = of(frames, settings=PseudoTextSettings(unet_window=14, **settings))
    parts = of(frames, settings=PseudoTextSettings(unet_window=8, **settings))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_later_windows_take_half_of_what_they_share():
    of, calls = pipeline(), []

    def denoise(x_t, t, text, lr, label, unet=None):
        calls.append(x_t.shape[2])
        return torch.full_like(x_t, float(len(calls)))

    of.denoise = denoise
    lr = torch.rand(14, 3, 8, 8)
    beside = of.condition(lr, PseudoTextSettings(condition=False), lambda s, n, size: lr)
    made = of.predict(torch.zeros(14, 4, 8, 8), 10, beside)
    assert calls == [8, 8]
    assert made[:, 0, 0, 0].tolist() == [1.0] * 6 + [1.5] * 2 + [2.0] * 6


@pytest.mark.parametrize("init", ["encoder", "encoder-raw"])
def test_noise_through_the_encoder_starts_elsewhere(init):
    of, frames = pipeline(), torch.rand(2, 3, 8, 8)
    made = of(frames, settings=PseudoTextSettings(init=init))
    assert (made - of(frames)).abs().max() > 1e-4


def test_the_control_has_no_diffusion():
    of = pipeline()
    of.unet = None
    made = of(torch.rand(2, 3, 8, 8), settings=PseudoTextSettings(diffusion=False))
    assert made.shape == (2, 3, 32, 32)


def test_missing_parts_are_named():
    of = pipeline()
    of.register_modules(adapter=None)
    assert of(torch.rand(1, 3, 8, 8), settings=PseudoTextSettings(condition=False)).shape[0] == 1
    with pytest.raises(UsageError, match="no adapter"):
        of(torch.rand(1, 3, 8, 8))


def test_every_step_of_postprocessing_keeps_pictures_pictures():
    frames, reference = torch.rand(2, 3, 32, 40), torch.rand(2, 3, 32, 40)
    for step in PostStep.__args__:
        made = postprocess((step,), frames, reference)
        assert made.shape == frames.shape
        assert made.dtype == torch.float32
        assert made.min() >= 0
        assert made.max() <= 1
        assert (made - frames).abs().max() > 1e-3


def test_postprocessing_is_named_in_one_word():
    of, frames = pipeline(), torch.rand(1, 3, 16, 16)
    raw, done = (
        of(frames, settings=PseudoTextSettings(diffusion=False, postprocess=word))
        for word in ("off", "nlm+gaussian")
    )
    expected = postprocess(("nlm", "gaussian"), raw, raw)
    assert (done - expected).abs().max() < 2 / 255
    assert (done - raw).abs().max() > 2 / 255


def test_colour_transfer_takes_the_inputs_colours():
    reference = torch.rand(1, 3, 32, 40) * 0.5 + 0.2
    tinted = reference * 0.8 + torch.tensor([0.15, 0.0, 0.05])[:, None, None]
    made = postprocess(("color-transfer",), tinted, reference)
    before = (tinted.mean((2, 3)) - reference.mean((2, 3))).abs().max()
    assert (made.mean((2, 3)) - reference.mean((2, 3))).abs().max() < 0.2 * before


def test_saved_and_loaded_it_is_the_same(tmp_path):
    of = pipeline()
    frames = torch.rand(2, 3, 8, 8)
    expected = of(frames)
    of.save_pretrained(tmp_path / "folder")
    for again in (
        load_pipeline(tmp_path / "folder"),
        PseudoTextPipeline.from_pretrained(tmp_path / "folder"),
    ):
        torch.testing.assert_close(again(frames), expected, atol=1e-5, rtol=1e-4)


def test_networks_of_clips_can_be_copied_with_their_configuration():
    for network in (InflatedUNet(**IMAGE, statistics="clip"), vae(residual=True)):
        again = type(network).from_config(copy.deepcopy(network.config))
        again.load_state_dict(network.state_dict())
        set_frames(again, 2)


@pytest.mark.parametrize(
    "fault",
    [
        {"steps": 0},
        {"unet_window": 0},
        {"eta": 2.0},
        {"noise_level": -1},
        {"postprocess": "wavelet+nml"},
    ],
)
def test_settings_that_make_no_sense(fault):
    with pytest.raises(UsageError):
        PseudoTextSettings(**fault)


def test_sizes_are_those_of_the_thesis():
    """Table 4.6: UNet 691.04 M, VAE 113.78 M, adapter 2.14 M; ModelScope's UNet 1.41 B."""

    def size(network) -> float:
        return sum(p.numel() for p in network.parameters()) / 1e6

    blocks = ("CrossAttnDownBlock2D",) * 3
    with torch.device("meta"):
        unet = InflatedUNet(
            in_channels=7,
            out_channels=4,
            block_out_channels=(256, 512, 512, 1024),
            down_block_types=("DownBlock2D", *blocks),
            up_block_types=(*(b.replace("Down", "Up") for b in blocks), "UpBlock2D"),
            only_cross_attention=(True, True, True, False),
            cross_attention_dim=1024,
            num_class_embeds=1000,
            use_linear_projection=True,
        )
        guided = SFTAutoencoderKL(
            block_out_channels=(128, 256, 512),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=2,
        )
        assert round(size(unet), 2) == 691.04
        assert round(size(guided), 2) == 113.78
        assert round(size(PseudoTextAdapter()), 2) == 2.14
        assert round(size(UNet3DConditionModel(attention_head_dim=64)) / 1e3, 2) == 1.41
