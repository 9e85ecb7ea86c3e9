"""Everything of the source that must arrive beside the picture."""

from dataclasses import replace
from fractions import Fraction as F

import av
import numpy as np
import pytest
from support import HDR, cfr, decoded, payloads, segments

from framelift.types import EncodeSettings
from framelift.video.assemble import finish
from framelift.video.probe import probe
from framelift.video.read import VideoReader

QUICK = EncodeSettings(speed="fast")
LINES = [(0.1, 0.4, "first"), (0.5, 0.9, "second ünï")]
CHAPTERS = [(0.0, 0.5, "one"), (0.5, 1.0, "two")]


def upscale(source, output, *, frames=24, encode=QUICK, **more):
    """Stand in for the engine: same pictures, new encode, everything else copied."""
    info, pts, durations = cfr(source, frames)
    info = replace(info, **more.pop("info", {}))
    folder = output.with_suffix(".segments")
    done = segments(folder, info, pts, durations, encode=encode, cuts=(frames // 3,))
    return finish(done, output, source=source, info=info, encode=encode, **more)


def full(clips, name):
    return clips(
        name,
        audio=1.2,
        subtitles=LINES if name.endswith("mkv") else (),
        chapters=CHAPTERS,
        attachment=b"font bytes" * 50 if name.endswith("mkv") else None,
        metadata={"title": "A title", "artist": "Some one"},
        sar=F(4, 3),
    )


@pytest.mark.parametrize("source", ["full.mkv", "full.mp4"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_audio_packets_are_byte_identical(tmp_path, clips, source, suffix):
    source = full(clips, source)
    output = tmp_path / f"out{suffix}"
    upscale(source, output)
    before, after = payloads(source, "audio"), payloads(output, "audio")
    assert [data for data, _ in before] == [data for data, _ in after]
    assert [t for _, t in before] == pytest.approx([t for _, t in after], abs=0.0011)
    assert len(decoded(output)) == 24


def test_everything_survives_in_matroska(tmp_path, clips):
    source, output = full(clips, "full.mkv"), tmp_path / "out.mkv"
    assert upscale(source, output, metadata={"comment": "made by a test"}) == []
    assert payloads(output, "subtitle") == payloads(source, "subtitle")
    with av.open(str(source)) as old, av.open(str(output)) as new:
        assert [s.type for s in new.streams] == [s.type for s in old.streams]
        assert new.chapters() == old.chapters()
        assert new.streams.attachments[0].data == old.streams.attachments[0].data
        assert new.streams.attachments[0].metadata == old.streams.attachments[0].metadata
        assert new.metadata["title"] == "A title"
        assert {k.lower(): v for k, v in new.metadata.items()}["comment"] == "made by a test"
        assert new.streams.video[0].metadata["language"] == "deu"
        assert [s.disposition for s in new.streams] == [s.disposition for s in old.streams]
    assert probe(output).sample_aspect_ratio == F(4, 3)


def test_mp4_names_what_it_cannot_hold(tmp_path, clips):
    source, output = full(clips, "full.mkv"), tmp_path / "out.mp4"
    warnings = "\n".join(upscale(source, output, metadata={"framelift_seed": "7"}))
    assert "subrip" in warnings
    assert "font.ttf" in warnings
    assert "framelift_seed" in warnings
    info = probe(output)
    assert (info.audio, info.subtitles, info.chapters) == (("aac und",), (), 2) or info.audio
    assert info.sample_aspect_ratio == F(4, 3)
    with av.open(str(output)) as new:
        assert [c["metadata"]["title"] for c in new.chapters()] == ["one", "two"]
        assert new.metadata["title"] == "A title"
    again = tmp_path / "again.mp4"
    assert upscale(output, again) == []
    assert probe(again).chapters == 2


@pytest.mark.parametrize("name", ["cover.mp4", "cover.mkv"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_art_is_copied(tmp_path, clips, png, name, suffix):
    source, output = clips(name, cover=png), tmp_path / f"out{suffix}"
    assert upscale(source, output) == []
    with av.open(str(output)) as new:
        covers = [
            s for s in new.streams.video if s.disposition & av.stream.Disposition.attached_pic
        ]
        assert len(covers) == 1
        assert next(bytes(p) for p in new.demux(covers[0]) if p.size) == png
    assert len(list(VideoReader(output))) == 24


@pytest.mark.parametrize("degrees", [0, 90, -90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_orientation_is_copied(tmp_path, clips, degrees, mirrored, suffix):
    source = clips(f"turn{degrees}{mirrored}.mp4", frames=8, rotation=(degrees, mirrored))
    output = tmp_path / f"out{suffix}"
    warnings = upscale(source, output, frames=8)
    old, new = probe(source), probe(output)
    if warnings:
        assert suffix == ".mkv"
        assert mirrored
        assert "rotation" in warnings[0]
    else:
        assert (new.rotation % 360, new.mirrored) == (old.rotation % 360, old.mirrored)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixel_shape_is_kept_or_named(tmp_path, clips, codec, suffix):
    source, output = clips("sar.mp4", frames=8, sar=F(16, 11)), tmp_path / f"out{suffix}"
    speed = {"av1": "12", "vp9": "8"}.get(codec, "ultrafast")
    warnings = upscale(source, output, frames=8, encode=EncodeSettings(codec=codec, speed=speed))
    kept = probe(output).sample_aspect_ratio == F(16, 11)
    assert kept or (codec in ("av1", "vp9") and suffix == ".mkv")
    assert kept == (not warnings)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", ["full.mkv", "full.mp4"])
def test_a_range_starts_at_zero_with_its_own_sound(tmp_path, clips, name, suffix):
    source = full(clips, name)
    reader = VideoReader(source)
    frames = [f for f in reader if 6 <= f.index < 18]
    info = reader.info
    start, end = frames[0].pts, frames[-1].pts + frames[-1].duration
    done = segments(
        tmp_path / "s",
        info,
        [f.pts for f in frames],
        [f.duration for f in frames],
        encode=QUICK,
        cuts=(5,),
    )
    output = tmp_path / f"out{suffix}"
    finish(done, output, source=source, info=info, encode=QUICK, span=(start, end))
    again = VideoReader(output)
    times = [f.pts * again.info.time_base for f in again]
    wanted = [(f.pts - start) * info.time_base for f in frames]
    assert max(abs(float(a - b)) for a, b in zip(times, wanted, strict=True)) < 0.001
    begin, stop = float(start * info.time_base), float(end * info.time_base)
    before = [
        (d, t - begin)
        for d, t in payloads(source, "audio")
        if t + 1024 / 48000 > begin and t < stop
    ]
    after = payloads(output, "audio")
    assert abs(len(before) - len(after)) <= 1
    common = [pair for pair in before if pair[0] in {d for d, _ in after}]
    assert len(common) >= len(before) - 1
    at = dict(after)
    assert all(at[d] == pytest.approx(t, abs=0.002) for d, t in common)
    with av.open(str(output)) as new:
        marks = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
            for c in new.chapters()
        ]
    assert np.allclose(marks, [(0, 0.5 - begin), (0.5 - begin, stop - begin)], atol=0.01)
    if suffix == ".mkv" and name.endswith("mkv"):
        lines = payloads(output, "subtitle")
        assert [d.decode() for d, _ in lines] == ["first", "second ünï"]
        assert [t for _, t in lines] == pytest.approx([0, 0.5 - begin], abs=0.002)


def test_static_hdr_survives(tmp_path, clips):

    from framelift.types import ColorTags

    source = clips(
        "hdr.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        frames=4,
        tags=ColorTags(9, 1, 9, 16),
        options={"x265-params": HDR},
    )
    for codec, suffix in (("hevc", ".mp4"), ("hevc", ".mkv"), ("av1", ".mp4")):
        output = tmp_path / f"{codec}{suffix}"
        speed = "12" if codec == "av1" else "ultrafast"
        upscale(source, output, frames=4, encode=EncodeSettings(codec=codec, speed=speed))
        old, new = probe(source), probe(output)
        assert new.color == old.color
        assert new.bit_depth == 10
        assert new.static_hdr == old.static_hdr, (codec, suffix)


def test_second_sound_track_longer_than_the_picture(tmp_path, clips):
    source, output = clips("3.0sound.mkv", audio=3.0), tmp_path / "out.mkv"
    assert upscale(source, output) == []
    assert payloads(output, "audio") == payloads(source, "audio")
    reader = VideoReader(output)
    assert len(list(reader)) == 24
    assert not reader.report.truncated


@pytest.mark.parametrize("name", ["ts.ts", "flv.flv", "avi.avi"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_other_sources(tmp_path, clips, name, suffix):
    source = clips(name, audio=1.0, codec="mpeg4" if name.endswith("avi") else "libx264")
    reader = VideoReader(source)
    frames = [(f.pts, f.duration) for f in reader]
    done = segments(
        tmp_path / "s", reader.info, *map(list, zip(*frames, strict=True)), encode=QUICK
    )
    output = tmp_path / f"out{suffix}"
    finish(done, output, source=source, info=reader.info, encode=QUICK)
    again = VideoReader(output)
    assert len(list(again)) == 24
    gap = payloads(source, "audio")[0][1] - float(reader.info.start_pts * reader.info.time_base)
    new = payloads(output, "audio")[0][1] - float(again.info.start_pts * again.info.time_base)
    assert gap == pytest.approx(new, abs=0.0021)
    assert len(payloads(output, "audio")) == len(payloads(source, "audio"))
