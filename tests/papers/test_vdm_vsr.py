"""VDM-VSR's figures and tables through the real command's function, with a tiny random prior."""

import gzip
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from framelift.errors import InputError, StoppedError, UsageError
from framelift.evaluation.settings import ReproduceSettings
from framelift.files import read_json
from framelift.methods.vdm_vsr.regression import build_regression
from framelift.papers.items import load_item
from framelift.papers.reproduce import reproduce
from framelift.papers.vdm_vsr.setup import read_setup


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """MNIST's test images, as far as the name of the file goes."""
    root = tmp_path_factory.mktemp("mnist")
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    head = b"".join(int(n).to_bytes(4) for n in (0x803, *images.shape))
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes()))
    return root


@pytest.fixture
def make(tmp_path, mnist, tiny_vdm_vsr):
    """Run an item on tiny clips of four frames of 32², with the tiny prior."""

    def make(name, *options, output="made", full=False, should_stop=lambda: False, events=None):
        settings = ReproduceSettings(
            data=(f"moving-mnist={mnist}",),
            preset=str(tiny_vdm_vsr),
            options=("steps=2", *options),
            full=full,
            device="cpu",
            threads=1,
        )
        on_progress = (lambda event: None) if events is None else events.append
        return reproduce(
            load_item(name),
            settings,
            tmp_path / output,
            on_progress=on_progress,
            should_stop=should_stop,
        )

    return make


def samples(folder):
    """The files of finished samples."""
    return sorted((folder / "cache").rglob("*.json"))


FIG3 = ("vdm-vsr/fig3", "references=2", "counts=1,3,4", "batch=5")


def test_orders_of_frames(make, tmp_path):
    made = make(*FIG3)
    content = read_json(tmp_path / "made/results.json")
    kept = [tuple(read_json(path)["of"]["point"]["kept"]) for path in samples(tmp_path / "made")]
    assert content["computed"] == len(kept)
    assert kept.count((0, 1, 2, 3)) == 2  # all orders share the last point of a reference,
    assert len(kept) <= 2 * 3 * 3 - 2 * 3  # and frame 1 alone begins two of them
    assert {(0,), (0, 1, 2)} < set(kept)
    points = content["points"]
    assert len(points) == 3 * 3
    last = [p["psnr_frame_1"] for p in points if p["frames"] == 4]
    assert last[0] == last[1] == last[2]
    assert all(p["psnr_clip"]["low"] <= p["psnr_clip"]["value"] for p in points)
    claims = [f["claim"] for f in content["findings"]]
    assert len(claims) == 4
    assert {f["verdict"] for f in content["findings"]} <= {"holds", "does not hold", "undecided"}
    text = (tmp_path / "made/results.md").read_text()
    assert "| observed frames | sequential | random | random, frame 1 first |" in text
    assert "Reduced; with --full: references: 8; noise seeds: 10" in text
    assert "Changed by --options" in text
    assert [file.name for file in made.files] == ["fig3.png", "fig3.svg"]
    assert cv2.imread(str(made.files[0])).std() > 5


def test_a_stopped_run_continues_and_a_finished_one_computes_nothing(make, tmp_path):
    events = []
    with pytest.raises(StoppedError):  # in the second batch
        make(*FIG3, should_stop=lambda: len(events) >= 2, events=events)
    kept = {path: path.read_bytes() for path in samples(tmp_path / "made")}
    assert len(kept) == 5
    made = make(*FIG3)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert made.record["computed"] == len(samples(tmp_path / "made")) - 5
    again = make(*FIG3)
    assert again.record["computed"] == 0
    assert again.record["points"] == made.record["points"]
    fresh = make(*FIG3, "batch=3", output="fresh")  # batches decide nothing but rounding
    for ours, theirs in zip(fresh.record["points"], made.record["points"], strict=True):
        assert ours["psnr_clip"]["value"] == pytest.approx(theirs["psnr_clip"]["value"], abs=1e-2)
    changed = make(*FIG3, "step_size=0.2")
    full = ("seeds=1", "orders=sequential", *FIG3[1:])
    assert make(FIG3[0], *full, full=True).record["computed"] == 2 * 3  # with another ζ
    assert make(FIG3[0], *full, "step_size=0.5", full=True).record["computed"] == 2 * 3
    assert changed.record["computed"] == fresh.record["computed"]
    victim = next(iter(kept))
    victim.write_text("damaged")
    with pytest.raises(InputError, match=f"{victim.name} is damaged"):
        make(*FIG3)


def test_progress_counts_frames(make):
    events = []
    made = make("vdm-vsr/fig3", "references=1", "counts=1,2", "orders=sequential", events=events)
    assert [(e.done, e.total) for e in events] == [(4, 8), (8, 8)]
    assert made.record["findings"] == []
    points = made.record["points"]
    assert points[0]["psnr_frame_1"]["low"] is None


def test_blurs(make):
    made = make("vdm-vsr/fig5", "references=2", "counts=1,2,4", "sigmas=0,10", "sensor_noise=0")
    assert [(f["at"], f["claim"].split()[0]) for f in made.record["findings"]] == [
        (scale, claim) for scale in ("×4", "×8") for claim in ("PSNR", "PSNR", "The")
    ]
    assert len(made.tables) == 2 * 2 + 1
    assert made.tables[0].heads == ("observed frames", "σ_h = 0", "σ_h = 10")
    assert made.record["computed"] == 2 * 2 * 2 * 3


def test_a_reconstruction_can_be_observed(make, mnist):
    truth, other = (
        make("vdm-vsr/fig3", "references=1", "counts=1,4", "orders=sequential", f"observe={what}")
        for what in ("truth", "reconstruction")
    )
    assert other.record["computed"] == 2
    assert truth.record["points"] != other.record["points"]
    assert any("autoencoder's reconstruction with noise" in note for note in other.notes)


def test_pictures_of_a_sequence(make):
    made = make("vdm-vsr/fig2", "counts=1,4")
    picture = cv2.imread(str(made.files[0]))
    assert picture.shape == (4 * (24 + 64 + 4) + 3 * 4, 4 * 64 + 3 * 4, 3)
    green = (picture == (60, 150, 30)).all(-1).sum()
    assert green == (1 + 4) * 64 * 4  # a mark for each observed frame
    assert make("vdm-vsr/fig2", "counts=1,4").record["computed"] == 0
    assert [row[0] for row in made.tables[0].rows] == ["1", "4"]
    assert "steps: 2;" in " ".join(made.notes)


def test_pictures_of_observations_need_no_prior(tmp_path, mnist):
    settings = ReproduceSettings(data=(f"moving-mnist={mnist}",), device="cpu")
    made = reproduce(load_item("vdm-vsr/fig4"), settings, tmp_path / "made")
    picture = cv2.imread(str(made.files[0]))
    height = 24 + 128 + 4
    assert picture.shape[0] == 3 * height + 2 * 4
    aliased, blurred = (picture[i * (height + 4) + 24 :][:128].std() for i in (1, 2))
    assert aliased > 1.5 * blurred


def test_the_table_of_moving_mnist(make, tmp_path):
    torch.manual_seed(0)
    small = {"hidden_size": 16, "depth": 1, "num_heads": 2}
    build_regression({"transformer": small}).save_pretrained(tmp_path / "regression")
    made = make("vdm-vsr/mnist", "references=2", f"regression={tmp_path / 'regression'}")
    assert [t.title for t in made.tables] == ["Moving MNIST, ×4", "Moving MNIST, ×8"]
    assert [row[0].split(",")[0] for row in made.tables[0].rows] == [
        "Bicubic",
        "Regression",
        "VDM-VSR",
        "Autoencoder alone",
    ]
    intervals = made.record["intervals"]
    assert intervals["×4"]["Autoencoder alone"] == intervals["×8"]["Autoencoder alone"]
    assert intervals["×4"]["Bicubic"]["psnr"]["value"] > intervals["×8"]["Bicubic"]["psnr"]["value"]
    untrained = intervals["×4"]["Regression, 0.0 M parameters"]  # adds nothing to bicubic yet
    assert untrained["psnr"] == pytest.approx(intervals["×4"]["Bicubic"]["psnr"])
    assert made.record["computed"] == 4
    with pytest.raises(UsageError, match="no regression network 'nothing'"):
        make("vdm-vsr/mnist", "regression=nothing")


def test_options_are_those_of_the_item(make):
    experiment, sampler = read_setup(load_item("vdm-vsr/fig3"), True, ("counts=2", "psld=0.1"))
    assert (experiment.counts, sampler.psld, sampler.steps) == ((2,), 0.1, 1000)
    assert experiment.references * experiment.seeds == 80
    assert read_setup(load_item("vdm-vsr/fig3"), False, ("orders=random",))[0].orders == ("random",)
    for words, message in (
        ("sigma=3", "no option 'sigma'"),
        ("downscale=2", "no option 'downscale'"),
        ("shown=3", "no option 'shown'"),
        ("orders=backwards", "backwards"),
        ("counts=0", "start at 1"),
        ("counts=", "no value"),
        ("counts=3,1", "rising numbers"),
        ("counts=1,5", "up to the prior's 4"),
        ("references=0", "at least 1"),
        ("scales=2 counts=1", "no step size"),
        ("step_size=1e38 counts=1", "diverged"),
    ):
        with pytest.raises(UsageError, match=message):
            make("vdm-vsr/fig3", *words.split())
    with pytest.raises(UsageError, match=r"table1 takes no --preset"):
        make("sateco/table1")


def test_a_preset_of_another_method(mnist, tmp_path, tiny_pipeline):
    settings = ReproduceSettings(data=(f"moving-mnist={mnist}",), preset=str(tiny_pipeline))
    with pytest.raises(UsageError, match="preset of image-ldm"):
        reproduce(load_item("vdm-vsr/fig3"), settings, tmp_path / "made")


@pytest.mark.parametrize(
    "item", ["fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "table1", "mnist"]
)
def test_full_setups_are_the_papers(item):
    item = load_item(f"vdm-vsr/{item}")
    experiment, sampler = read_setup(item, True, ())
    assert read_setup(item, False, ())[0].step_sizes == {}
    assert set(item.reduced.setup) <= set(item.full.setup)
    assert experiment.sensor_noise == 0.01
    assert experiment.observe == "truth"
    assert sampler == replace(sampler, norm="unsquared", psld=0)
    if "steps" in item.full.setup:
        assert sampler.steps == 1000
        assert set(experiment.step_sizes) == {str(scale) for scale in experiment.scales}
