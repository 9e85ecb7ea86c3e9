"""`framelift upscale` on real files, through the real command line."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support import decoded, make_video, payloads

from framelift.cli.main import main
from framelift.errors import Exit
from framelift.types import ColorTags
from framelift.video.probe import probe

SMALL = (24, 32)


@pytest.fixture
def run(tiny_pipeline, capsys):
    """Run a command with the tiny pipeline; returns (exit code, stdout, stderr)."""

    def command(*words: object, preset: Path | None = tiny_pipeline) -> tuple[int, str, str]:
        extra = ["--preset", str(preset), "--threads", "1"] if preset else []
        with pytest.raises(SystemExit) as stop:
            main(["upscale", *map(str, words), *extra])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stop.value.code, out, err

    return command


def times(path: Path) -> list[Fraction]:
    with av.open(f"file:{path}") as container:
        return [f.pts * f.time_base for f in container.decode(video=0)]


def everything(path: Path, **settings) -> Path:
    return make_video(
        path, size=SMALL, frames=12, audio=0.5, subtitles=[(0.1, 0.3, "hello")],
        chapters=[(0, 0.25, "one"), (0.25, 0.5, "two")], metadata={"title": "a test"}, **settings,
    )  # fmt: skip


def test_the_main_job(tmp_path, run):
    clip = everything(tmp_path / "clip.mkv")
    code, _, err = run(clip)
    output = tmp_path / "clip_4x.mkv"
    assert code == Exit.OK, err
    info = probe(output)
    assert (info.width, info.height) == (128, 96)
    assert times(output) == times(clip)
    assert payloads(output, "audio") == payloads(clip, "audio")
    assert payloads(output, "subtitle") == payloads(clip, "subtitle")
    assert info.chapters == 2
    with av.open(f"file:{output}") as container:
        assert container.metadata["title"] == "a test"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "clip.mkv", "clip_4x.mkv", "clip_4x.mkv.json",
    ]  # fmt: skip
    record = json.loads((tmp_path / "clip_4x.mkv.json").read_text())
    assert record["frames"] == 12
    assert record["settings"]["seed"] == 0


def test_variable_frame_rate_keeps_its_times(tmp_path, run):
    pts = [0, 40, 50, 200, 333, 334, 900]
    clip = make_video(
        tmp_path / "vfr.mp4", size=SMALL, frames=7, pts=pts, time_base=Fraction(1, 1000)
    )
    assert run(clip)[0] == Exit.OK
    assert times(tmp_path / "vfr_4x.mp4") == times(clip)


def test_depth_colour_rotation_and_pixel_shape_survive(tmp_path, run):
    clip = make_video(
        tmp_path / "clip.mp4", size=SMALL, frames=8, codec="libx265", pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none:bframes=0"}, sar=Fraction(4, 3),
        tags=ColorTags(9, 1, 9, 14),
        rotation=(90, False),
    )  # fmt: skip
    code, _, err = run(clip, "--codec", "hevc", "--height", 64)
    assert code == Exit.OK, err
    before, after = probe(clip), probe(tmp_path / "clip_64p.mp4")
    assert (after.height, after.width) == (48, 64), "64 is the height as shown, turned by 90°"
    kept = ("bit_depth", "color", "rotation", "sample_aspect_ratio")
    assert [getattr(after, k) for k in kept] == [getattr(before, k) for k in kept]


def test_an_exact_height_and_another_scale(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=SMALL, frames=2)
    assert run(clip, "--height", 36)[0] == Exit.OK
    assert (probe(tmp_path / "clip_36p.mp4").width, probe(tmp_path / "clip_36p.mp4").height) == (
        48, 36,
    )  # fmt: skip
    assert run(clip, "--scale", 2)[0] == Exit.OK
    assert probe(tmp_path / "clip_2x.mp4").width == 64


def test_a_range_cuts_the_sound_to_match(tmp_path, run):
    clip = everything(tmp_path / "clip.mkv")
    assert run(clip, "--start", 0.125, "--end", 0.375, "-o", tmp_path / "part.mkv")[0] == Exit.OK
    shown = times(tmp_path / "part.mkv")
    assert len(shown) == 6
    assert shown[0] == 0
    whole, part = payloads(clip, "audio"), payloads(tmp_path / "part.mkv", "audio")
    assert 0 < len(part) < len(whole)
    shifted = [(content, time + 0.125) for content, time in part]
    assert [c for c, _ in shifted] == [c for c, t in whole if t + 0.0215 > 0.125 and t < 0.375]
    assert all(abs(t - dict(whole)[c]) < 0.002 for c, t in shifted), "in step with the pictures"
    assert run(clip, "--frames", "3:9", "-o", tmp_path / "same.mkv")[0] == Exit.OK
    assert np.array_equal(decoded(tmp_path / "part.mkv"), decoded(tmp_path / "same.mkv"))


def test_tiles_and_windows_of_the_user(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=(40, 48), frames=7)
    words = ["--tile", 24, "--tile-overlap", 4, "--window", 3, "--overlap", 1]
    code, out, _ = run(clip, *words, "--json")
    assert code == Exit.OK
    record = json.loads(out)
    assert (record["tiles"], record["settings"]["window"]) == ([24], 3)
    assert len(decoded(tmp_path / "clip_4x.mp4")) == 7


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (33, 17)])
def test_tiny_and_odd_sizes(tmp_path, run, size):
    clip = make_video(tmp_path / "tiny.mkv", size=size, frames=1, codec="ffv1", pix_fmt="yuv444p")
    code, _, err = run(clip, "--codec", "ffv1")
    assert code == Exit.OK, err
    assert decoded(tmp_path / "tiny_4x.mkv", "rgb24")[0].shape[:2] == (4 * size[0], 4 * size[1])


def test_image_sequences_in_and_out(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=SMALL, frames=3, audio=0.1)
    code, _, err = run(clip, "-o", tmp_path / "frames")
    assert code == Exit.OK
    assert "cannot hold aac" in err
    assert len(list((tmp_path / "frames").glob("*.png"))) == 3
    assert run(tmp_path / "frames", "--scale", 1, "-o", tmp_path / "again.mp4")[0] == Exit.OK
    assert len(decoded(tmp_path / "again.mp4")) == 3
    assert run(tmp_path / "frames" / "%05d.png", "--scale", 1)[0] == Exit.OK
    assert len(list((tmp_path / "frames_1x").glob("*.png"))) == 3


@pytest.mark.parametrize("name", ["ü ß 漢字.mp4", "100%.mp4", "a:b.mp4", "-x.mp4", "a'b\"c.mp4"])
def test_strange_names(tmp_path, run, name):
    clip = make_video(tmp_path / name, size=SMALL, frames=1)
    assert run(clip)[0] == Exit.OK
    assert (tmp_path / f"{clip.stem}_4x.mp4").exists()


def test_a_batch_in_which_one_file_is_bad(tmp_path, run):
    folder = tmp_path / "videos"
    folder.mkdir()
    make_video(folder / "a.mp4", size=SMALL, frames=1)
    (folder / "b.mp4").write_text("this is no video")
    make_video(folder / "c.mp4", size=SMALL, frames=1)
    out = tmp_path / "out"
    out.mkdir()
    code, text, err = run(folder, "-o", out, "--json")
    assert code == Exit.BAD_INPUT
    assert "b.mp4" in err
    assert sorted(p.name for p in out.glob("*.mp4")) == ["a_4x.mp4", "c_4x.mp4"]
    assert ["error" in r for r in json.loads(text)] == [False, True, False]


def test_dry_run_writes_nothing(tmp_path, run):
    clip = everything(tmp_path / "clip.mkv")
    code, out, _ = run(clip, "--dry-run", "--json")
    assert code == Exit.OK
    assert json.loads(out)["output_size"] == [128, 96]
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mkv"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--height", "10", "--scale", "2"], "Give only one"),
        (["--frames", "90:99"], "holds no frame"),
        (["--colour", "red"], "--colour"),
        (["--eta", "much"], "eta"),
        (["--scale", "nan"], "above zero"),
        (["--device", "tpu9"], "cannot be used"),
        (["--codec", "prores"], "cannot hold prores"),
        (["-o", "nowhere/out.mp4"], "no folder"),
        (["-o", "clip.xyz"], "known video format"),
    ],
)
def test_wrong_usage(tmp_path, run, monkeypatch, words, complaint):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "clip.mp4", size=SMALL, frames=2)
    if words[0] == "--codec":
        words = [*words, "-o", "out.mp4"]
    code, _, err = run("clip.mp4", *words)
    assert code == Exit.USAGE
    assert complaint in err
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_nothing_is_overwritten_unasked(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=SMALL, frames=1)
    precious = tmp_path / "clip_4x.mp4"
    precious.write_text("precious")
    code, _, err = run(clip)
    assert (code, precious.read_text()) == (Exit.USAGE, "precious")
    assert "--overwrite" in err
    assert run(clip, "-o", clip, "--overwrite")[0] == Exit.USAGE
    assert run(clip, "--overwrite")[0] == Exit.OK
    assert probe(precious).width == 128


def test_an_older_folder_of_images_is_replaced(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=SMALL, frames=2)
    assert run(clip, "-o", tmp_path / "out")[0] == Exit.OK
    (tmp_path / "out/00003.png").write_bytes(b"left over")
    assert run(clip, "-o", tmp_path / "out", "--overwrite")[0] == Exit.OK
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00001.png", "00002.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "out", "out.json"]


def test_an_unknown_preset_is_refused_before_work(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=SMALL, frames=1)
    code, _, err = run(clip, "--preset", "image-ldn", preset=None)
    assert code == Exit.USAGE
    assert "image-ldm" in err


def test_a_slash_makes_a_folder(tmp_path, run):
    clip = make_video(tmp_path / "clip.mp4", size=SMALL, frames=2)
    assert run(clip, "-o", f"{tmp_path}/new/", "--dry-run")[0] == Exit.OK
    assert not (tmp_path / "new").exists()
    assert run(clip, "-o", f"{tmp_path}/new/")[0] == Exit.OK
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "clip_4x.mp4", "clip_4x.mp4.json"
    ]  # fmt: skip
    frames = tmp_path / "frames"
    assert run(clip, "-o", frames)[0] == Exit.OK
    assert run(frames, "-o", f"{tmp_path}/larger/")[0] == Exit.OK
    assert (tmp_path / "larger" / "00002.png").is_file()
