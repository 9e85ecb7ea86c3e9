"""Bad input: one clear sentence, a documented exit code, no traceback, nothing half-written."""

import json
from pathlib import Path

import pytest
from support import decoded, make_video

from framelift.cli.main import main
from framelift.errors import Exit

SIZE = (24, 32)


def audio_only(folder: Path) -> Path:
    return make_video(folder / "sound.mp4", video=False, audio=0.5)


def no_index(folder: Path) -> Path:
    """An mp4 without moov."""
    whole = make_video(folder / "whole.mp4", size=SIZE).read_bytes()
    (folder / "whole.mp4").unlink()
    path = folder / "cut.mp4"
    path.write_bytes(whole[: whole.rindex(b"moov") - 4])
    return path


def text(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("Dear diary, this is not a video.\n" * 50)
    return path


def playlist(folder: Path) -> Path:
    hidden = folder / "hidden"
    hidden.mkdir()
    make_video(hidden / "secret.mp4", size=SIZE, frames=2)
    path = folder / "playlist.mp4"
    path.write_text("ffconcat version 1.0\nfile 'hidden/secret.mp4'\n")
    return path


def hls(folder: Path) -> Path:
    path = folder / "stream.mp4"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n")
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def bare_folder(folder: Path) -> Path:
    path = folder / "nothing"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "make", [audio_only, no_index, text, playlist, hls, empty, missing, bare_folder]
)
def test_bad_input(tmp_path, capsys, make, tiny_pipeline):
    path = make(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(["upscale", str(path), "--preset", str(tiny_pipeline)])
    err = capsys.readouterr().err
    assert stop.value.code == Exit.BAD_INPUT
    assert err.startswith("framelift: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2
    assert set(tmp_path.rglob("*")) == before


@pytest.fixture
def truncated(tmp_path) -> Path:
    """The first half of an mp4 whose index comes first."""
    whole = make_video(tmp_path / "whole.mkv", size=SIZE, frames=48, options={"g": "6", "bf": "0"})
    content = whole.read_bytes()
    whole.unlink()
    path = tmp_path / "truncated.mkv"
    path.write_bytes(content[: len(content) // 2])
    return path


def test_a_hole_is_filled_and_said(tmp_path, capsys, tiny_pipeline):
    path = make_video(tmp_path / "hole.ts", size=SIZE, frames=48, options={"g": "6", "bf": "0"})
    data = path.read_bytes()
    start, end = int(len(data) * 0.4), int(len(data) * 0.6)
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    words = ["upscale", str(path), "--preset", str(tiny_pipeline), "--threads", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--strict"])
    assert stop.value.code == Exit.BAD_INPUT
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == Exit.REPAIRED
    assert "holes" in capsys.readouterr().err
    assert len(decoded(tmp_path / "hole_4x.mkv")) == 48
    record = json.loads((tmp_path / "hole_4x.mkv.json").read_text())
    assert record["holes"]
    assert len(record["repaired"]) > 3


def test_truncated_input_is_finished_and_said(tmp_path, capsys, truncated, tiny_pipeline):
    words = ["upscale", str(truncated), "--preset", str(tiny_pipeline), "--threads", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--strict"])
    assert stop.value.code == Exit.BAD_INPUT
    assert "truncated" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["truncated.mkv"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == Exit.REPAIRED
    assert "cut off" in capsys.readouterr().err
    assert 5 < len(decoded(tmp_path / "truncated_4x.mkv")) < 48
