"""Telecined film, interlaced video, and progressive video that is flagged interlaced."""

import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from support import moving

from framelift.errors import InputError
from framelift.video.read import VideoReader

FILM = Fraction(24000, 1001)


@pytest.fixture(scope="module")
def telecined(tmp_path_factory):
    """Film of 48 pictures at 24 frames/s as 60 at 30, and the film itself."""
    if not shutil.which("ffmpeg"):
        pytest.skip("runs where ffmpeg is installed: it makes the telecine")
    folder = tmp_path_factory.mktemp("film")
    raw = b"".join(moving(n, (96, 128)).tobytes() for n in range(48))
    made = {}
    for name, filters, flags in (
        ("film.mkv", "null", []),
        ("flagged.mkv", "telecine=pattern=23,setfield=tff", ["-flags", "+ilme+ildct"]),
        ("unflagged.mp4", "telecine=pattern=23", []),
    ):
        made[name] = folder / name
        subprocess.run(
            [
                *("ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96"),
                *("-r", "24000/1001", "-i", "-", "-vf", f"format=yuv420p,{filters}"),
                *("-c:v", "libx264", "-crf", "4", *flags, made[name]),
            ],
            input=raw,
            check=True,
        )
    return made


def test_film_starts_with_its_sound(telecined, tmp_path):
    """Also where the first picture is the repeated one, which goes."""
    for late in range(5):
        cut = tmp_path / f"{late}.mkv"
        subprocess.run(
            [
                *("ffmpeg", "-v", "error", "-i", telecined["flagged.mkv"], "-c:v", "ffv1"),
                *("-vf", f"trim=start_frame={late},setpts=PTS-STARTPTS,setfield=tff", cut),
            ],
            check=True,
        )
        reader = VideoReader(cut, deinterlace="ivtc")
        assert next(iter(reader)).pts == reader.info.start_pts


@pytest.mark.parametrize("name", ["flagged.mkv", "unflagged.mp4"])
def test_inverse_telecine_gives_the_film_back(telecined, name):
    reader = VideoReader(telecined[name], deinterlace="ivtc")
    assert reader.info.rate == pytest.approx(FILM, rel=1e-4)
    found = list(reader)
    film = list(VideoReader(telecined["film.mkv"]))
    assert len(found) == len(film) == 48
    assert not reader.report.damaged
    seconds = [float((f.pts - found[0].pts) * reader.info.time_base) for f in found]
    np.testing.assert_allclose(seconds, [n / float(FILM) for n in range(48)], atol=0.002)
    assert all(a.pts + a.duration == b.pts for a, b in pairwise(found))
    different = [
        np.abs(a.rgb().astype(int) - b.rgb()).mean() for a, b in zip(found, film, strict=True)
    ]
    assert np.median(different) < 2
    assert max(different[2:-2]) < 4


def test_pictures_flagged_interlaced_can_be_kept(clips):
    options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}
    path = clips("flagged.mkv", options=options)
    with pytest.raises(InputError, match="--deinterlace keep"):
        VideoReader(path)
    reader = VideoReader(path, deinterlace="keep")
    found = list(reader)
    assert len(found) == 24
    assert reader.report.warnings == []
    assert np.abs(found[5].rgb().astype(int) - moving(5)).mean() < 6


def test_marks_of_damage_stay_with_their_pictures(clips):
    from dataclasses import replace

    from framelift.video.decode import Picture
    from framelift.video.deinterlace import deinterlaced

    reader = VideoReader(clips("cfr.mp4"))
    frames = [Picture(f.pts, f._picture) for f in reader]
    frames[10] = replace(frames[10], repaired=True)
    frames[3] = replace(frames[3], corrupt=True)
    for how, ticks in (("bwdif", 1), ("ivtc", 4)):
        found = list(deinterlaced(iter(frames), reader.info, how))
        assert len(found) == (24 if how == "bwdif" else 20)  # 16 of 20, and the 4 of the last cycle
        [repaired] = [p for p in found if p.repaired]
        [corrupt] = [p for p in found if p.corrupt]
        step = frames[1].pts - frames[0].pts
        assert 0 <= repaired.pts / ticks - frames[10].pts < 2 * step
        assert 0 <= corrupt.pts / ticks - frames[3].pts < 2 * step
