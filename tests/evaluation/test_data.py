"""What is degraded, what is taken as published, which frames count."""

from pathlib import Path

import numpy as np
import pytest
from evaluation.clips import read_clip, write_clip, write_frame

from framelift.errors import InputError, UsageError


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


def test_published_low_resolution_clips_are_used(tmp_path, run):
    truth = read_clip(write_clip(tmp_path / "set/GT/river", size=(64, 96)))
    write_clip(tmp_path / "set/LR/river", size=(32, 48))
    low = read_clip(tmp_path / "set/LR/river")
    settings = {"root": tmp_path / "set", "methods": ("nearest",), "metrics": ("psnr",)}
    results = run(**settings, crop=20)
    assert results.record["data"]["river"] == {
        "frames": 3, "measured": None, "size": (20, 20), "scale": 2
    }  # fmt: skip
    large = [np.kron(x[11:21, 19:29], np.ones((2, 2, 1))) for x in low]
    expected = np.mean([psnr(x, t[22:42, 38:58]) for x, t in zip(large, truth, strict=True)])
    assert results.mean("nearest", "psnr") == pytest.approx(expected, abs=1e-9)
    degraded = run(**settings, recipe="bi", scale=2)
    assert degraded.record["data"]["river"]["scale"] == 2
    assert degraded.mean("nearest", "psnr") > results.mean("nearest", "psnr")


def test_low_resolution_of_another_proportion_is_refused(tmp_path, run):
    write_clip(tmp_path / "set/GT/river", size=(64, 96))
    write_clip(tmp_path / "set/LR/river", size=(32, 40))
    with pytest.raises(InputError, match="96×64 is no whole multiple of 40×32"):
        run(root=tmp_path / "set")


def test_a_recipe_that_moves_the_scene_moves_the_ground_truth(tmp_path, run):
    shaken = run(clips=("river",), metrics=("psnr",), recipe="shake")
    frames = tmp_path / "out/frames/river"
    truth, sr = (read_clip(next(frames.glob(f"{name}-*/"))) for name in ("gt", "bicubic"))
    assert not np.array_equal(truth[1], read_clip(tmp_path / "data/river")[1])
    expected = np.mean([psnr(x, t) for x, t in zip(sr, truth, strict=True)])
    assert shaken.mean("bicubic", "psnr") == pytest.approx(expected, abs=1e-9)
    assert run(clips=("river",), metrics=("psnr",), recipe="shake").record["computed"] == {
        "degraded": 0, "upscaled": 0, "measured": 0
    }  # fmt: skip


def test_a_recipe_that_drops_frames_is_refused(tmp_path, run):
    recipe = tmp_path / "drop.toml"
    recipe.write_text('[[stages]]\nop = "observe"\nkeep = [0, 2]\n')
    with pytest.raises(UsageError, match="keeps 2 of the 3 frames"):
        run(recipe=str(recipe))


def test_only_the_centre_frame_of_vimeo_counts(tmp_path, run):
    folder = tmp_path / "vimeo/sequences/00001/0266"
    write_clip(folder, frames=7)
    for index, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"im{index + 1}.png")
    (tmp_path / "vimeo/sep_testlist.txt").write_text("00001/0266\n")
    vimeo = {"dataset": "vimeo90k-t", "root": tmp_path / "vimeo", "metrics": ("psnr", "we")}
    results = run(**vimeo)
    assert results.record["data"]["00001/0266"]["measured"] == (3,)
    values = results.record["frames"]["00001/0266"]["methods"]["bicubic"]
    assert len(values["psnr"]) == len(values["we"]) == 1
    assert values["we"][0] is not None
    write_frame(folder / "im1.png", 255 - read_clip(folder)[0])
    assert run(**vimeo).record["frames"]["00001/0266"]["methods"]["bicubic"] == values
    with pytest.raises(UsageError, match="frames of 00001/0266 that count"):
        run(**vimeo, frames=3)


def test_what_the_settings_forbid(tmp_path, data, run):
    for changes in (
        {"methods": ()}, {"lr": Path("x")}, {"crop": -1}, {"crop": 2},
        {"options": ("colour=y",)}, {"metrics": ("pnsr",)}, {"protocol": "none"},
        {"clips": ("sea",)}, {"sr": (data,)},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            run(**changes)
