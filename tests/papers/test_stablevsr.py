"""StableVSR's tables and figures through the real command's function, on small clips."""

from dataclasses import replace

import cv2
import pytest

from framelift.evaluation.settings import ReproduceSettings
from framelift.papers.items import Size, load_item
from framelift.papers.reproduce import reproduce

SMALL = Size(crop=48, frames=3)


@pytest.fixture
def make(tmp_path, data):
    def make(name, metrics=("psnr",), **changes):
        item = replace(load_item(name), reduced=SMALL, **changes)
        settings = ReproduceSettings(
            data=(f"folder={data}",), metrics=metrics, device="cpu", threads=1
        )
        return reproduce(item, settings, tmp_path / "made")

    return make


@pytest.mark.parametrize(("name", "rows"), [("stablevsr/table2", 5), ("stablevsr/table-4", 5)])
def test_tables_run_every_row(make, name, rows):
    made = make(name, metrics=("psnr", "we"))
    ours = next(block.ours for block in made.blocks if block.ours)
    assert "| ground truth |" in made.markdown()
    assert ours.pop("ground truth")["we"] > 0
    assert len(ours) == rows
    values = [row["psnr"] for row in ours.values()]
    assert len(set(values)) == rows  # every setting changes something
    assert all(15 < value < 60 for value in values)


@pytest.mark.parametrize(("name", "columns"), [("fig3", 4), ("fig4", 3), ("fig7", 5)])
def test_figures_of_the_guidance(make, name, columns):
    made = make(f"stablevsr/{name}", metrics=())
    picture = cv2.imread(str(made.files[0]))
    assert picture.shape[1] == columns * 96 + (columns - 1) * 4
    assert picture.std() > 10


def test_steps_curve_has_a_point_for_every_row(make):
    item = load_item("stablevsr/fig6")
    made = make("stablevsr/fig6", rows=item.rows[:3])
    assert [row.settings["steps"] for row in item.rows[:3]] == [1, 2, 4]
    assert len(next(b.ours for b in made.blocks if b.ours)) == 3
    assert cv2.imread(str(made.files[0])).std() > 5
