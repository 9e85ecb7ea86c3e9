"""`framelift degrade`: real files in, real files out."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import decoded, make_video, payloads

from framelift.cli.main import main
from framelift.degrade import Degradation
from framelift.errors import Exit


def run(*words):
    with pytest.raises(SystemExit) as caught:
        main(["degrade", *map(str, words)])
    return caught.value.code


def expected(clip, recipe, **settings):
    """The recipe on the decoded frames, as uint8 `[T, h, w, 3]`."""
    frames = torch.from_numpy(np.stack(decoded(clip, "rgb24"))).permute(0, 3, 1, 2) / 255
    low = Degradation(recipe, **settings)(frames, clip.stem)
    return (low * 255).round().byte().permute(0, 2, 3, 1).numpy()


def left_over(folder: Path):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


@pytest.fixture
def clip(tmp_path):
    """Twelve frames at uneven times, stored as RGB, with sound."""
    pts = [0, 2, 3, 7, 8, 9, 12, 13, 15, 16, 18, 20]
    return make_video(
        tmp_path / "clip.mkv",
        frames=12,
        codec="libx264rgb",
        pix_fmt="rgb24",
        options={"crf": "0"},
        time_base=Fraction(1, 20),
        pts=pts,
        audio=1.0,
    )


def times(path):
    import av

    with av.open(str(path)) as container:
        return [round(float(f.pts * f.time_base), 3) for f in container.decode(video=0)]


def test_bi_by_default(clip, capsys):
    assert run(clip) == Exit.OK
    output = clip.with_name("clip_lr.mkv")
    result = np.stack(decoded(output, "rgb24"))
    assert result.shape == (12, 12, 16, 3)
    assert np.array_equal(result, expected(clip, "bi"))
    assert times(output) == times(clip)
    assert payloads(output, "audio") == payloads(clip, "audio")
    record = json.loads((clip.parent / "clip_lr.mkv.json").read_text())
    assert (record["recipe"]["name"], record["seed"], record["scale"]) == ("bi", 0, 4)
    assert record["frames"] == 12
    assert left_over(clip.parent) == []


def test_realworld_is_what_the_record_says(clip, capsys):
    output = clip.with_name("bad.mkv")
    assert (
        run(clip, "--recipe", "realworld", "--seed", 5, "--scale", 2, "-o", output, "--json") == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["drawn"] == Degradation("realworld", 2, 5).describe("clip")
    assert record == json.loads((clip.parent / "bad.mkv.json").read_text())
    result = np.stack(decoded(output, "rgb24"))
    assert result.shape == (12, 24, 32, 3)
    low = expected(clip, "realworld", scale=2, seed=5)
    assert np.mean(result != low) < 1e-3


def test_folder_of_images_both_ways(clip, capsys):
    first = clip.with_name("frames")
    assert run(clip, "--recipe", "bd", "--scale", 2, "-o", first) == Exit.OK
    assert "cannot hold aac" in capsys.readouterr().err
    files = sorted(first.iterdir())
    assert [f.name for f in files] == [f"{n:05d}.png" for n in range(1, 13)]
    written = np.stack([cv2.imread(str(f))[..., ::-1] for f in files])
    assert np.array_equal(written, expected(clip, "bd", scale=2))
    assert (clip.parent / "frames.json").exists()
    assert run(first, "--scale", 2, "-q") == Exit.OK
    assert len(list(clip.with_name("frames_lr").iterdir())) == 12
    assert run(first, "--scale", 2, "-q", "--overwrite") == Exit.OK
    assert left_over(clip.parent) == []


def test_an_older_folder_of_images_is_replaced(clip, tmp_path):
    older = tmp_path / "older"
    assert run(clip, "-o", older, "-q") == Exit.OK
    for number in range(13, 20):
        (older / f"{number:05d}.png").write_bytes(b"left over")
    before = sorted(p.name for p in tmp_path.iterdir())
    assert run(clip, "-o", older, "--overwrite", "-q") == Exit.OK
    assert len(list(older.iterdir())) == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_masked_frames_keep_their_times(clip, tmp_path):
    recipe = tmp_path / "mask.toml"
    recipe.write_text('scale = 2\n[[stages]]\nop = "observe"\nkeep = [1, 3, 10]\n')
    output = tmp_path / "mask.mkv"
    assert run(clip, "--recipe", recipe, "-o", output, "-q") == Exit.OK
    assert times(output) == [times(clip)[i] for i in (1, 3, 10)]


def test_other_encodings(clip, tmp_path):
    assert run(clip, "-o", tmp_path / "small.mp4", "--crf", 30, "-q") == Exit.OK
    assert decoded(tmp_path / "small.mp4")[0].shape[0] == 18  # 4:2:0
    assert run(clip, "-o", tmp_path / "exact.mkv", "--codec", "ffv1", "-q") == Exit.OK
    result = np.stack(decoded(tmp_path / "exact.mkv", "rgb24"))
    assert np.array_equal(result, expected(clip, "bi"))


def test_refusals(clip, tmp_path, capsys):
    faulty = tmp_path / "faulty.toml"
    faulty.write_text('[[stages]]\nop = "blur"\nsigmma = [1.0, 2.0]\n')
    wide = tmp_path / "wide.toml"
    wide.write_text('[[stages]]\nop = "blur"\n')
    taken = tmp_path / "taken.mkv"
    taken.write_bytes(b"precious")
    before = sorted(p.name for p in tmp_path.iterdir())
    for words, code, message in (
        ((tmp_path / "none.mp4",), Exit.BAD_INPUT, "does not exist"),
        ((clip, "--recipe", "realwrld"), Exit.BAD_INPUT, "Did you mean 'realworld'"),
        ((clip, "--recipe", faulty), Exit.USAGE, "Did you mean 'sigma'"),
        ((clip, "--recipe", wide), Exit.USAGE, "ends at 64x48"),
        ((clip, "-o", taken), Exit.USAGE, "--overwrite"),
        ((clip, "-o", clip), Exit.USAGE, "the input itself"),
        ((clip, "-o", tmp_path / "x.avi"), Exit.USAGE, "known video format"),
        ((clip, "-o", tmp_path / "x.webm"), Exit.USAGE, "cannot hold h264"),
        ((clip, "--scale", 50), Exit.BAD_INPUT, "cannot be shrunk"),
        ((clip, "--scale", 0), Exit.USAGE, "scale"),
        ((clip, "-o", tmp_path / "no" / "x.mkv"), Exit.USAGE, "no folder"),
        ((clip, "-o", tmp_path / f"{'long' * 60}.mkv"), Exit.USAGE, "too long"),
        ((clip, "-o", tmp_path / ("x" * 300)), Exit.USAGE, "too long"),
        ((clip, "--pixel-format", "rosy"), Exit.USAGE, "cannot store the pixel format rosy"),
    ):
        assert run(*words, "-q") == code, words
        assert message in " ".join(capsys.readouterr().err.split()), words
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert taken.read_bytes() == b"precious"
    assert run(clip, "-o", taken, "--overwrite", "-q") == Exit.OK
    assert len(decoded(taken)) == 12
