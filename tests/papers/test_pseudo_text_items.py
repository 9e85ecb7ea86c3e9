"""The thesis' tables and figures through the real command's function, with a tiny pipeline."""

from dataclasses import replace

import pytest
import torch
from pseudo_text_parts import pipeline

from framelift.errors import InputError, UsageError
from framelift.evaluation.settings import ReproduceSettings
from framelift.papers.items import Size, list_items, load_item
from framelift.papers.pseudo_text.cost import PRINTED, published_sizes
from framelift.papers.pseudo_text.losses import TEXTS
from framelift.papers.reproduce import reproduce

TABLES = ("table4.1", "table4.2", "table4.3", "table4.4", "table4.5")
FIGURES = ("fig4.3", "fig4.4", "fig4.5", "fig4.6")
CONTROL = "Control: no diffusion"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A pipeline whose UNet reads its text and looks at time."""
    torch.manual_seed(0)
    of = pipeline()
    for parameter in (*of.unet.parameters(), *of.vae.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("preset") / "tiny"
    of.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make(tmp_path, data, preset):
    def make(name, metrics=("psnr",), options=(), setup=None, titles=None, clips=data):
        item = load_item(f"pseudo-text/{name}")
        small = Size(crop=32, frames=3, setup=setup or {})
        rows = [replace(r, method=preset) if r.method == "pseudo-text" else r for r in item.rows]
        rows = [row for row in rows if titles is None or row.title in titles]
        item = replace(item, reduced=small, rows=tuple(rows), preset=preset)
        wanted = ReproduceSettings(
            data=(f"folder={clips}",),
            metrics=metrics,
            options=options,
            device="cpu",
            threads=1,
        )
        return reproduce(item, wanted, tmp_path / name)

    return make


@pytest.mark.parametrize("name", [*TABLES, *FIGURES])
def test_every_row_runs_beside_the_control(make, name):
    """With the settings of the item, but for what would take hundreds of steps."""
    item = load_item(f"pseudo-text/{name}")
    titles = [row.title for row in item.rows if row.method]
    assert CONTROL in titles
    if name == "fig4.5":
        assert [row.settings["steps"] for row in item.rows[2:]] == [3, 10, 30, 100, 200]
        titles = titles[:4]
    made = make(name, titles=titles)
    ours = next(block.ours for block in made.blocks if block.ours)
    assert [title for title in ours if title != "ground truth"] == titles
    values = {title: ours[title]["psnr"] for title in titles}
    assert all(3 < value < 60 for value in values.values())
    if name in ("fig4.3", "fig4.4", "fig4.6", "table4.3"):
        kinds = {v for t, v in values.items() if t not in (CONTROL, "Bicubic", "wavelet")}
        assert len(kinds) >= len(titles) - 3  # every setting changes something
    assert made.markdown().count("|") > 10


def test_published_values_are_kept_apart_from_ours():
    item = load_item("pseudo-text/table4.3")
    ali = [row for row in item.rows if row.title.startswith("ali")]
    assert [row.method for row in ali] == ["", ""]
    assert ali[1].published["udm10"] == {"psnr": 24.253, "ssim": 0.719, "we": 0.114, "lpips": 0.315}
    names = {i.name for i in list_items() if i.name.startswith("pseudo-text/")}
    assert names == {f"pseudo-text/{n}" for n in (*TABLES, *FIGURES, "table4.6", "losses")}


def test_losses_with_four_texts(make, preset):
    made = make("losses", metrics=(), setup={"draws": 3})
    (table,) = made.tables
    assert [row[0] for row in table.rows] == list(TEXTS)
    found = made.record["losses"]
    assert len({round(found[text]["loss"]["value"], 9) for text in TEXTS}) == len(TEXTS)
    for text in TEXTS:
        loss = found[text]["loss"]
        assert loss["low"] <= loss["value"] <= loss["high"]
        gap = found[text]["more_than_own"]["value"]
        own = found["its own tokens"]["loss"]["value"]
        assert gap == pytest.approx(loss["value"] - own, abs=1e-9)
    again = make("losses", metrics=(), options=("draws=3", f"random={preset}"))
    assert again.record["losses"][TEXTS[-1]] == found[TEXTS[-1]]
    assert "trained for it" in again.notes[0]
    with pytest.raises(UsageError, match="no option"):
        make("losses", metrics=(), options=("colour=1",))


def test_a_single_clip_has_no_other(make, data, tmp_path):
    first = min(data.iterdir())
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / first.name).symlink_to(first)
    with pytest.raises(InputError, match="two clips"):
        make("losses", metrics=(), clips=alone)


def test_cost_is_measured_and_counted(make):
    made = make("table4.6", metrics=())
    seconds = made.record["seconds"]
    assert all(value > 0 for value in seconds.values())
    assert made.record["preset"]["unet"] < 1
    times, parts = made.tables
    assert len(times.rows) == 9
    assert [row[0] for row in parts.rows] == list(PRINTED)


def test_published_parts_have_the_printed_sizes():
    found = published_sizes()
    assert found["unet, upscale"] == pytest.approx(PRINTED["unet, upscale"], abs=0.01)
    assert found["vae, SFT"] == pytest.approx(PRINTED["vae, SFT"], abs=0.01)
    assert found["adapter"] == pytest.approx(PRINTED["adapter"], abs=0.01)
    assert found["vit"] == pytest.approx(PRINTED["vit"] - 0.77, abs=0.01)  # without a head
