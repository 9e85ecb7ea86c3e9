"""What an evaluation leaves: tables that parse, pictures that show what they say."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from framelift.errors import UsageError
from framelift.evaluation.pictures import BAR, DETAIL, GAP, ZOOM, most_detail
from framelift.evaluation.report import Results, number
from framelift.files import read_json


def picture(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def test_the_files_agree_with_the_results(tmp_path, run):
    results = run(methods=("bicubic", "nearest"), metrics=("psnr", "we"))
    out = tmp_path / "out"
    record = read_json(out / "results.json")
    assert record["mean"]["nearest"]["psnr"] == results.mean("nearest", "psnr")
    assert record["metrics"]["psnr"]["protocol"]["color"] == "RGB"
    assert len(record["frames"]["town"]["methods"]["bicubic"]["psnr"]) == 3
    assert record["settings"]["seed"] == 0
    with (out / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["clip"] for row in rows] == ["river"] * 3 + ["town"] * 3 + ["mean"] * 3
    assert float(rows[3]["psnr"]) == results.values["town"]["bicubic"]["psnr"]
    assert rows[2]["method"] == "ground truth"
    assert rows[2]["psnr"] == ""
    assert float(rows[2]["we"]) == results.truth["river"]["we"]
    lines = (out / "results.md").read_text().splitlines()
    assert lines[0] == "| method | PSNR (dB) ↑ | WE (10⁻³) → | s a frame |"
    assert lines[2].startswith(f"| bicubic | {results.mean('bicubic', 'psnr'):.2f} |")
    assert any("centre" not in line and "×4 by bi" in line for line in lines)


def test_the_best_of_each_column(capsys):
    values = {"a": {"psnr": 30.0, "we": 2.0}, "b": {"psnr": 31.0, "we": 0.1}}
    results = Results(
        {"psnr": "higher", "we": "reference"}, ("a", "b"), {"clip": values},
        {"clip": {"psnr": None, "we": 1.9}}, {},
    )  # fmt: skip
    assert results._best(list(results.rows()))["clip", "psnr"] == "b"
    assert results._best(list(results.rows()))["clip", "we"] == "a"
    results.show()
    assert "ground truth" in capsys.readouterr().out


def test_numbers():
    values = (None, 23.776, float("inf"), float("nan"))
    assert [number(v, 2) for v in values] == ["–", "23.78", "∞", "nan"]


def test_names_that_look_like_markup(capsys):
    values = {"clip [red]": {"[bold]x": {"psnr": 30.0}}}
    Results({"psnr": "higher"}, ("[bold]x",), values, {"clip [red]": {}}, {}).show()
    shown = capsys.readouterr().out
    assert "clip [red]" in shown
    assert "[bold]x" in shown


def test_clips_of_any_script_keep_their_own_pictures(tmp_path, data, run):
    (data / "river").rename(data / "日本 é")
    (data / "town").rename(data / "中国")
    run(pictures=2)
    names = {path.name for path in (tmp_path / "out/pictures").iterdir()}
    assert names == {"日本_é.png", "日本_é_profile.png", "中国.png", "中国_profile.png"}


def test_the_pictures(tmp_path, run, data):
    run(methods=("nearest", "lanczos"), crop_at="8,12")
    details = picture(tmp_path / "out/pictures/river.png")
    side = 64  # the clip's height is below DETAIL
    assert side < DETAIL
    panel = side * ZOOM
    overview = 80 * ZOOM
    assert details.shape == (BAR + panel, overview + 5 * panel + 5 * GAP, 3)
    truth = cv2.imread(str(data / "river/00000001.png"))[..., ::-1][:, 12:76]
    shown = details[BAR:, -panel:][::ZOOM, ::ZOOM]
    assert np.array_equal(shown, truth)
    lr, nearest = (details[BAR:, overview + GAP + i * (panel + GAP) :][:, :panel] for i in (0, 2))
    assert np.array_equal(lr, nearest)
    profile = picture(tmp_path / "out/pictures/river_profile.png")
    assert profile.shape[1] == 80 * (512 // 80)
    last = profile[-1].reshape(80, -1, 3)[:, 0]
    assert np.array_equal(last, cv2.imread(str(data / "river/00000002.png"))[32, :, ::-1])


def test_most_detail_is_found():
    flat = np.full((60, 90, 3), 128, np.uint8)
    flat[30:46, 50:66] = np.random.default_rng(0).integers(0, 255, (16, 16, 3))
    y, x = most_detail(flat, 18)
    assert abs(y - 29) <= 1
    assert abs(x - 49) <= 1


def test_a_place_is_read_or_refused(run):
    with pytest.raises(UsageError, match="not a place"):
        run(crop_at="here")
