"""Finished clips against ground truth: videos and folders, matched by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from evaluation.clips import read_clip, write_clip, write_frame
from support import make_video

from framelift.errors import InputError, UsageError
from framelift.evaluation.evaluate import evaluate
from framelift.evaluation.settings import EvaluateSettings


@pytest.fixture
def results(tmp_path: Path, data: Path) -> Path:
    """Each clip with another constant added: PSNR is known."""
    for number, name in enumerate(("river", "town"), start=1):
        (tmp_path / "sr" / name).mkdir(parents=True)
        for index, frame in enumerate(read_clip(data / name)):
            low = np.clip(frame, 40, 200)
            write_frame(data / name / f"{index:08d}.png", low)
            write_frame(tmp_path / "sr" / name / f"{index:05d}.png", low + 2 * number)
    return tmp_path / "sr"


def measure(tmp_path: Path, *sr: Path, **changes):
    settings = {"gt": tmp_path / "data", "metrics": ("psnr",), "device": "cpu"} | changes
    return evaluate(EvaluateSettings(sr=sr, **settings), tmp_path / "out")


def test_folders_of_frames(tmp_path, results):
    found = measure(tmp_path, results)
    for number, name in enumerate(("river", "town"), start=1):
        known = 10 * np.log10(255**2 / (2 * number) ** 2)
        assert found.values[name]["sr"]["psnr"] == pytest.approx(known, abs=1e-9)
    assert measure(tmp_path, results).record["computed"] == {"measured": 0}


def test_videos_as_framelift_names_them(tmp_path):
    lossless = {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {"qp": "0"}}
    (tmp_path / "data").mkdir()
    (tmp_path / "sr").mkdir()
    make_video(tmp_path / "data/clip.mp4", frames=4)
    make_video(tmp_path / "sr/clip_4x.mkv", frames=4, **lossless)
    found = measure(tmp_path, tmp_path / "sr")
    assert 30 < found.values["clip"]["sr"]["psnr"] < 60
    single = measure(tmp_path, tmp_path / "sr/clip_4x.mkv", gt=tmp_path / "data/clip.mp4")
    assert single.mean("clip_4x.mkv", "psnr") == found.mean("sr", "psnr")


def test_several_methods_and_a_low_resolution_clip(tmp_path, results):
    shutil.copytree(results, tmp_path / "perfect", dirs_exist_ok=True)
    for name in ("river", "town"):
        shutil.rmtree(tmp_path / "perfect" / name)
        shutil.copytree(tmp_path / "data" / name, tmp_path / "perfect" / name)
        write_clip(tmp_path / "lr" / name, size=(16, 20))
    found = measure(
        tmp_path, results, Path(f"ours={tmp_path / 'perfect'}"), lr=tmp_path / "lr",
        metrics=("psnr", "we"), options=("we_flow=lr",),
    )  # fmt: skip
    assert found.methods == ("sr", "ours")
    assert found.mean("ours", "psnr") == float("inf")
    assert found.truth["river"]["we"] == found.values["river"]["ours"]["we"]
    assert '"inf"' in (tmp_path / "out/results.json").read_text()


def test_without_ground_truth_only_what_needs_none(tmp_path, results):
    with pytest.raises(UsageError, match="psnr needs ground truth"):
        measure(tmp_path, results, gt=None)
    with pytest.raises(UsageError, match="without --sr"):
        EvaluateSettings(gt=tmp_path / "data")


def test_mismatches_say_what_is_wrong(tmp_path, results):
    (results / "town").rename(results / "village")
    with pytest.raises(InputError, match=r"no clip 'town'; it holds river, village"):
        measure(tmp_path, results)
    (results / "village").rename(results / "town")
    next((results / "town").iterdir()).unlink()
    with pytest.raises(InputError, match=r"town: ground truth has 3 frames, sr has 2"):
        measure(tmp_path, results)
    assert measure(tmp_path, results, frames=2).record["data"]["town"]["frames"] == 2
    shutil.rmtree(results / "town")
    write_clip(results / "town", size=(64, 84))
    with pytest.raises(InputError, match=r"ground truth is 80×64, sr is 84×64"):
        measure(tmp_path, results)
    with pytest.raises(InputError, match="does not exist"):
        measure(tmp_path, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no clip 'sea'"):
        measure(tmp_path, results, clips=("sea",))
    write_clip(tmp_path / "lr/river", size=(17, 20))
    with pytest.raises(InputError, match="whole multiple"):
        measure(tmp_path, results, lr=tmp_path / "lr", clips=("river",))


def test_what_degrade_and_upscale_make_of_a_clip_is_found(tmp_path, results):
    for name in ("river", "town"):
        (results / name).rename(results / f"{name}_lr_4x")
        write_clip(tmp_path / "lr" / f"{name}_lr", size=(16, 20))
    found = measure(tmp_path, results, lr=tmp_path / "lr")
    assert found.record["data"]["town"]["scale"] == 4


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_an_output_that_cannot_be_made(tmp_path, results, name):
    (tmp_path / "file").write_text("mine")
    settings = EvaluateSettings(sr=(results,), gt=tmp_path / "data", metrics=("psnr",))
    with pytest.raises(UsageError, match="cannot be made"):
        evaluate(settings, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_refused_run_leaves_no_folder(tmp_path, results):
    with pytest.raises(UsageError, match="There is no metric"):
        measure(tmp_path, results, metrics=("psnrr",))
    with pytest.raises(UsageError, match="names no folder"):
        measure(tmp_path, Path("ours="))
    assert not (tmp_path / "out").exists()
