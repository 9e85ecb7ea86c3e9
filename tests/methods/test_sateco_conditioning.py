"""SATeCo's guidance modules on diffusers' own networks: first state, chunks, padding, gradients."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel

from framelift.methods.sateco.adapters import TABLE_2, SATeCoAdapters, encode_with_features
from framelift.methods.sateco.conditioning import SFA, TFA
from framelift.methods.sateco.latent_encoder import LatentEncoder
from framelift.methods.sateco.refiner import VideoRefiner

CHANNELS = (16, 16, 8, 8)


def awake(module):
    """All parameters random, so that no zero initialisation hides a path."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


def small_unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=CHANNELS[::-1],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=6,
    ).eval()


def small_vae():
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4}
    kinds["up_block_types"] = ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(block_out_channels=CHANNELS[::-1], norm_num_groups=4, **kinds).eval()


def adapters(of, **config):
    make = SATeCoAdapters.for_unet if isinstance(of, UNet2DConditionModel) else None
    make = make or SATeCoAdapters.for_vae
    return make(of, heads=2, norm_groups=4, **config)


def encoder():
    return LatentEncoder(width=8, layers=1, out_channels=CHANNELS, groups=4)


@pytest.mark.parametrize(
    ("config", "identity"),
    [
        ({"kind": "zero-convolution"}, True),
        ({"kind": "sfa"}, False),
        ({"kind": "sfa-tfa"}, False),
        ({"kind": "sfa-tfa", "residual": True}, True),
        ({"kind": "sfa-tfa", "residual": True, "norm": "group", "kernel": 3}, True),
    ],
)
def test_first_state_in_unet_and_vae(config, identity):
    unet, vae = small_unet(), small_vae()
    z, t, text = torch.randn(3, 4, 16, 24), torch.tensor(7), torch.randn(3, 5, 6)
    maps = encoder()(z)
    with torch.no_grad():
        plain, picture = unet(z, t, text).sample, vae.decode(z).sample
        _, features = encode_with_features(vae, picture)
        with adapters(unet, **config).guided(unet.up_blocks, maps, 3):
            guided = unet(z, t, text).sample
        with adapters(vae, **config).guided(vae.decoder.up_blocks, features, 3):
            decoded = vae.decode(z).sample
        assert torch.equal(unet(z, t, text).sample, plain)  # nothing stays behind
    for result, without in ((guided, plain), (decoded, picture)):
        assert torch.allclose(result, without, atol=1e-4) == identity
        assert result.isfinite().all()


def test_every_map_reaches_unet_and_vae_and_nothing_else_changes():
    unet, vae = small_unet(), small_vae()
    z, t, text = torch.randn(2, 4, 15, 9), torch.tensor(7), torch.randn(2, 5, 6)
    _, features = encode_with_features(vae, torch.randn(2, 3, 120, 72))
    for network, maps, run in (
        (unet, encoder()(z), lambda: unet(z, t, text).sample),
        (vae, features, lambda: vae.decode(z).sample),
    ):
        modules = awake(adapters(network, residual=True))
        before = {k: v.clone() for k, v in network.state_dict().items()}
        blocks = network.up_blocks if network is unet else network.decoder.up_blocks
        with torch.no_grad(), modules.guided(blocks, maps, 2):
            all_maps = run()
        for n in range(4):
            fewer = [m * (i != n) for i, m in enumerate(maps)]
            with torch.no_grad(), modules.guided(blocks, fewer, 2):
                assert not torch.allclose(run(), all_maps)
        after = network.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)


def test_features_of_the_encoder_fit_the_decoder_and_belong_to_the_usual_code():
    vae = small_vae()
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    distribution, features = encode_with_features(vae, x)
    assert torch.equal(distribution.mean, vae.encode(x).latent_dist.mean)
    sizes = [(c, 32 // f, 48 // f) for c, f in zip(CHANNELS, (8, 4, 2, 1), strict=True)]
    assert [tuple(f.shape[1:]) for f in features] == sizes


def test_guidance_that_does_not_belong_is_refused():
    unet = small_unet()
    modules = adapters(unet)
    guided = modules.guided(unet.up_blocks, [torch.zeros(1)] * 3, 1)
    with pytest.raises(ValueError, match="do not belong together"), guided:
        pass


def test_sfa_is_the_papers_formula():
    sfa = awake(SFA(6, 5))
    f, g = torch.randn(2, 6, 7, 9) * 3 + 1, torch.randn(2, 5, 7, 9)
    mu, sigma = f.mean((2, 3), keepdim=True), f.std((2, 3), keepdim=True, unbiased=False)
    assert torch.allclose(sfa(f, g), sfa.scale(g) * (f - mu) / sigma + sfa.shift(g), atol=1e-4)


def test_tfa_is_attention_over_all_frames_of_a_tubelet():
    tfa = awake(TFA(4, 6, window=4, heads=1))
    f, g = torch.randn(3, 4, 4, 4), torch.randn(3, 6, 4, 4)
    rows = [x.movedim(1, -1).flatten(0, 2) for x in (f, g)]

    def linear(layer, x):
        return F.linear(x, layer.weight.flatten(1), layer.bias)

    q, k, v = linear(tfa.qkv, rows[0]).chunk(3, -1)
    hr = rows[0] + linear(tfa.project, (q @ k.mT / 2).softmax(-1) @ v)
    k, v = linear(tfa.key_value, rows[1]).chunk(2, -1)
    cross = (linear(tfa.query, hr) @ k.mT / 2).softmax(-1) @ v
    expected = (hr + linear(tfa.project_cross, cross)).view(3, 4, 4, 4).movedim(-1, 1)
    assert torch.allclose(tfa(f, g, 3), expected, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("frames", range(1, 8))
def test_chunks_change_nothing_and_padding_does_not_leak(kernel, frames):
    tfa = awake(TFA(4, 4, window=4, heads=2, kernel=kernel, chunk=0)).double()
    f, g = torch.randn(2, 2 * frames, 4, 10, 7, dtype=torch.double)
    whole = tfa(f, g, frames)
    tfa.chunk = 1
    assert torch.allclose(tfa(f, g, frames), whole)
    # the corner tubelet, 2×3 positions, by itself with every position real
    corner = tfa(f[..., 8:, 4:], g[..., 8:, 4:], frames)
    assert torch.allclose(corner, whole[..., 8:, 4:])
    if kernel == 1:
        alone = TFA(4, 4, window=1, heads=2).double()
        alone.load_state_dict(tfa.state_dict())
        one = alone(f[..., 8:9, 4:5], g[..., 8:9, 4:5], frames)
        single = tfa(f[..., 8:9, 4:5], g[..., 8:9, 4:5], frames)
        assert torch.allclose(one, single)


def test_clips_of_a_batch_and_tubelets_do_not_mix_but_frames_do():
    tfa = awake(TFA(4, 4, window=4, heads=2))
    f, g = torch.randn(2, 6, 4, 8, 8)
    changed = f.clone()
    changed[1, :, :4, :4] += torch.randn(4, 4, 4)
    difference = (tfa(f, g, 3) - tfa(changed, g, 3)).abs().amax(1) > 1e-6
    assert difference[:3, :4, :4].all()
    assert difference.sum() == 3 * 16


def test_order_of_frames_does_not_matter_where_convolutions_see_one_position():
    tfa = awake(TFA(4, 4, window=4, heads=2))
    f, g = torch.randn(2, 5, 4, 4, 4)
    assert torch.allclose(tfa(f.flip(0), g.flip(0), 5).flip(0), tfa(f, g, 5), atol=1e-5)


@pytest.mark.parametrize("kind", ["zero-convolution", "sfa", "sfa-tfa"])
def test_every_parameter_receives_a_gradient(kind):
    unet, z_encoder = small_unet().requires_grad_(False), awake(encoder())
    modules = awake(adapters(unet, kind=kind)).train()
    x, z = torch.randn(2, 2, 4, 16, 16)  # smaller ones end in maps of one position
    text = torch.randn(2, 5, 6)
    with modules.guided(unet.up_blocks, z_encoder(z), 2):
        loss = unet(x, 7, text).sample.square().mean()
    loss.backward()
    assert all(p.grad.any() for p in (*modules.parameters(), *z_encoder.parameters()))
    assert all(p.grad is None for p in unet.parameters())


def test_gradient_checkpointing_gives_the_same_gradients():
    modules = awake(SATeCoAdapters(channels=(4, 4), window=4, heads=2, chunk=1)).train()
    f, g = torch.randn(2, 3, 4, 8, 8)
    gradients = []
    for _ in range(2):
        modules.zero_grad()
        modules.blocks[0](f, g, 3).square().mean().backward()
        gradients.append([p.grad for p in modules.blocks[0].parameters()])
        modules.enable_gradient_checkpointing()
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_models_of_table_2_grow():
    vae = small_vae()
    sizes = [
        sum(p.numel() for kind in TABLE_2[m] for p in adapters(vae, kind=kind).parameters())
        for m in "ABCD"
    ]
    assert sizes == sorted(set(sizes))


def test_refiner_is_the_weighted_mean_at_first_and_learns():
    x_u, x_d = torch.rand(2, 2, 3, 6, 6)
    for w in (0.0, 0.5, 1.0):
        refiner = VideoRefiner(w=w, width=4)
        assert torch.allclose(refiner(x_u, x_d), w * x_u + (1 - w) * x_d)
        awake(refiner)(x_u, x_d).sum().backward()
        assert all(p.grad.any() for p in refiner.parameters())
    with pytest.raises(ValueError, match="must lie in 0 to 1"):
        VideoRefiner(w=1.5)


@pytest.mark.parametrize(
    "make", [encoder, lambda: adapters(small_vae()), lambda: VideoRefiner(0.2, 4)]
)
def test_saved_and_loaded(make, tmp_path):
    model = awake(make())
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert model.config["_class_name"] == loaded.config["_class_name"]
    state = loaded.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_everything_runs_where_it_lies():
    """On a device other than the CPU: there, mixing the two is an error."""
    f, g = torch.randn(2, 3, 8, 10, 10, device="meta")
    guidance = SATeCoAdapters(channels=(8,), heads=2).to("meta").blocks[0]
    assert guidance(f, g, 3).is_meta
    assert all(m.is_meta for m in encoder().to("meta")(torch.randn(2, 4, 8, 8, device="meta")))
    x_u, x_d = torch.randn(2, 3, 3, 8, 8, device="meta")
    assert VideoRefiner(width=4).to("meta")(x_u, x_d).is_meta


def test_sizes_at_published_scale():
    """E_z for SD's UNet, the modules in its decoder and in its VAE's (counted, not published)."""

    def millions(model):
        return round(sum(p.numel() for p in model.parameters()) / 1e6, 1)

    with torch.device("meta"):
        for_unet, for_vae = SATeCoAdapters(), SATeCoAdapters(channels=(512, 512, 256, 128))
        sfa_only = SATeCoAdapters(kind="sfa")
        z_encoder = LatentEncoder()
    assert [millions(m) for m in (for_unet, sfa_only, for_vae, z_encoder)] == [
        98.5,
        68.2,
        15.8,
        27.7,
    ]
