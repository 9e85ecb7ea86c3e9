"""LPIPS and DISTS against the numbers of their authors' packages, tLPIPS against its definition."""

import numpy as np
import pytest
import torch

from framelift.errors import InputError, UsageError
from framelift.metrics.measure import measure_clip
from framelift.metrics.registry import build_metrics
from framelift.metrics.settings import MetricSettings

AUTHORS = "runs where the authors' own packages are installed: pip install lpips dists-pytorch"


def as_batch(rgb):
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255


@pytest.mark.usefixtures("trunks")
@pytest.mark.parametrize(
    ("name", "net", "wanted"),
    [
        ("lpips", "alex", 0.23018456995487213),
        ("lpips", "vgg", 0.2190346121788025),
        ("dists", "alex", 0.17614012956619263),
    ],
)
def test_numbers_of_the_authors_packages(score, pair, name, net, wanted):
    """lpips 0.1.4 and DISTS-pytorch 0.1 on this pair, on ImageNet trunks stored in float16."""
    assert score(name, *pair, lpips=net) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.usefixtures("trunks")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_that_of_the_authors_package(score, pair, net):
    lpips = pytest.importorskip("lpips", reason=AUTHORS)
    sr, gt = (as_batch(p) for p in pair)
    wanted = float(lpips.LPIPS(net=net, verbose=False)(sr, gt, normalize=True))
    assert score("lpips", *pair, lpips=net) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.usefixtures("trunks")
def test_dists_is_that_of_the_authors_package(score, pair):
    package = pytest.importorskip("DISTS_pytorch", reason=AUTHORS)
    sr, gt = (as_batch(p) for p in pair)
    assert score("dists", *pair) == pytest.approx(float(package.DISTS()(sr, gt)), abs=1e-6)


@pytest.mark.usefixtures("trunks")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_composition_is_that_of_torchmetrics(score, pair, net):
    from torchmetrics.functional.image import (
        deep_image_structure_and_texture_similarity as dists,
    )
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    small = [p[:64, :80] for p in pair]
    sr, gt = (as_batch(p) for p in small)
    network = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)
    assert score("lpips", *small, lpips=net) == pytest.approx(float(network(sr, gt)), abs=1e-6)
    if net == "vgg":
        with torch.no_grad():
            wanted = float(dists(sr, gt))
        assert score("dists", *small) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.usefixtures("trunks")
def test_equal_frames(score, pair):
    gt = pair[1][:64, :80]
    assert score("lpips", gt, gt) == 0
    assert score("dists", gt, gt) == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("trunks")
def test_tlpips_is_the_difference_of_changes(score, measure, planes):
    gt = [np.repeat(planes[i][:64, :80, None], 3, axis=2) for i in (0, 1, 2)]
    sr = [gt[0], gt[2], gt[2]]
    tensors = [[as_batch(p)[0] for p in clip] for clip in (sr, gt)]
    found = measure(["tlpips"], {"x": tensors[0]}, tensors[1]).values["x"]["tlpips"]
    changes = [
        [score("lpips", clip[t], clip[t - 1]) for t in (1, 2)]  # symmetric in its arguments
        for clip in (sr, gt)
    ]
    wanted = [1000 * abs(ours - truth) for ours, truth in zip(*changes, strict=True)]
    assert found[0] is None
    assert found[1:] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.usefixtures("trunks")
def test_every_frame_passes_the_trunk_once(planes):
    """LPIPS and tLPIPS of two methods over four frames: three pictures at each of four times."""
    metrics = build_metrics(["lpips", "tlpips"], MetricSettings())
    passes = []
    metrics[0]._network._network.net.register_forward_hook(lambda *_: passes.append(1))
    gt = [as_batch(np.repeat(planes[i][:64, :80, None], 3, axis=2))[0] for i in range(4)]
    measure_clip(metrics, {"a": gt[::-1], "b": [f * 0.5 for f in gt]}, gt)
    assert len(passes) == 3 * 4


@pytest.mark.usefixtures("trunks")
def test_frames_too_small_for_the_trunk(score, measure):
    sr, gt = np.zeros((2, 31, 40, 3), np.uint8)
    assert score("lpips", sr, gt) is None
    assert score("dists", sr, gt) is None
    clip = [torch.zeros(3, 31, 40)] * 2
    assert measure(["tlpips"], {"x": clip}, clip).values["x"]["tlpips"] == [None, None]


@pytest.mark.parametrize("name", ["lpips", "tlpips", "dists"])
def test_missing_weights_are_named(monkeypatch, tmp_path, name):
    pytest.importorskip("torchmetrics")
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    for file in ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"):
        (folder / file).write_bytes(b"not weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"alexnet-owt|vgg16"):
        build_metrics([name])


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics.image.lpip", None)
    with pytest.raises(UsageError, match=r"framelift\[eval\]"):
        build_metrics(["lpips"])
