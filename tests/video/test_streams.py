"""Streams beside the picture: kept by copy, converted without loss, or named before any work."""

import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path

import av
import numpy as np
import pytest
from support import cfr, make_video, payloads, segments

from framelift.engine.job import plan_job
from framelift.engine.settings import UpscaleSettings
from framelift.errors import InputError
from framelift.types import EncodeSettings
from framelift.video.assemble import finish
from framelift.video.probe import probe
from framelift.video.side import later_timecode
from framelift.video.streams import side_warnings

QUICK = EncodeSettings(speed="ultrafast")
LINES = [(0.1, 0.4, "first <i>line</i>"), (0.5, 0.9, "second ünï")]
ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="runs where ffmpeg is")


def upscale(source, output, frames=8, span=None):
    info, pts, durations = cfr(source, frames)
    if span is not None:
        pts = [p + span[0] for p in pts]
    done = segments(output.with_suffix(".parts"), info, pts, durations, encode=QUICK)
    return finish(done, output, source=source, info=info, encode=QUICK, span=span)


def foreign(path, video, sound, *more):
    """A file of Debian's ffmpeg, for codecs that the wheel does not encode."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=0.5"]
    command += ["-f", "lavfi", "-i", "sine=440:r=48000:d=0.5", "-c:v", video, "-c:a", sound]
    subprocess.run([*command, *more, str(path)], check=True)
    return path


def samples(path):
    with av.open(str(path)) as container:
        kind = container.streams.audio[0].codec_context.format.name
        frames = [f.to_ndarray() for f in container.decode(audio=0)]
    return np.concatenate(frames, axis=1) >> (8 if kind == "s32" else 0)


@ffmpeg
@pytest.mark.parametrize(
    ("name", "video", "sound"),
    [
        ("a.wmv", "wmv2", "wmav1"),
        ("a.wmv", "wmv2", "wmav2"),
        ("a.avi", "mpeg4", "adpcm_ms"),
        ("a.avi", "mpeg4", "adpcm_ima_wav"),
        ("a.avi", "mpeg4", "pcm_alaw"),
        ("a.avi", "mpeg4", "pcm_mulaw"),
    ],
)
def test_matroska_keeps_sound_under_the_tags_of_avi_and_wmv(tmp_path, name, video, sound):
    source, output = foreign(tmp_path / name, video, sound), tmp_path / "out.mkv"
    assert upscale(source, output) == []
    assert [d for d, _ in payloads(output, "audio")] == [d for d, _ in payloads(source, "audio")]
    assert probe(output).audio == (sound,)
    with av.open(str(output)) as container:
        assert sum(f.samples for f in container.decode(audio=0)) > 20_000


@ffmpeg
@pytest.mark.parametrize(
    ("name", "options", "sound"),
    [
        ("a.vob", ("pcm_dvd",), "pcm_s16le"),
        ("b.vob", ("pcm_dvd", "-sample_fmt", "s32"), "pcm_s24le"),
        ("a.m2ts", ("pcm_bluray", "-f", "mpegts"), "pcm_s16le"),
        ("b.m2ts", ("pcm_bluray", "-sample_fmt", "s32", "-f", "mpegts"), "pcm_s24le"),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".mp4"])
def test_disc_sound_becomes_raw_sound_sample_for_sample(tmp_path, name, options, sound, suffix):
    video = "mpeg2video" if name.endswith("vob") else "libx264"
    source, output = foreign(tmp_path / name, video, *options), tmp_path / f"out{suffix}"
    (warning,) = [w for w in upscale(source, output) if "audio" in w]
    assert sound in warning
    assert warning in side_warnings(source, output, "h264")
    assert probe(output).audio[0].split()[0] == sound
    assert np.array_equal(samples(output), samples(source))
    start = payloads(source, "audio")[0][1]
    assert payloads(output, "audio")[0][1] == pytest.approx(start, abs=0.002)


@ffmpeg
def test_what_a_container_cannot_hold_is_offered_another(tmp_path):
    source = foreign(tmp_path / "a.wmv", "wmv2", "wmav2")
    (warning,) = side_warnings(source, tmp_path / "out.mp4", "h264")
    assert "wmav2" in warning
    assert ".mkv" in warning
    assert upscale(source, tmp_path / "out.mp4") == [warning]


@ffmpeg
def test_a_law_becomes_raw_sound_in_mp4(tmp_path):
    source = foreign(tmp_path / "a.avi", "mpeg4", "pcm_alaw")
    assert "pcm_s16le" in upscale(source, tmp_path / "out.mp4")[0]
    assert np.array_equal(samples(tmp_path / "out.mp4"), samples(source))


def texts(path):
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        shown = []
        for packet in container.demux(stream):
            for line in stream.decode(packet) if packet.size else ():
                start, length = packet.pts * packet.time_base, packet.duration * packet.time_base
                shown.append((float(start), float(length), line.dialogue.decode()))
    return shown


@pytest.mark.parametrize("way", [(".mkv", ".mp4"), (".mkv", ".mov"), (".mkv", ".mp4", ".mkv")])
def test_text_subtitles_are_converted_with_their_times(tmp_path, clips, way):
    file = clips("text.mkv", frames=24, subtitles=LINES)
    for number, suffix in enumerate(way[1:]):
        output = tmp_path / f"{number}{suffix}"
        (warning,) = upscale(file, output, 24)
        assert ("mov_text" if suffix != ".mkv" else "subrip") in warning
        file = output
    got = texts(file)
    assert [t for *_, t in got] == [r"first {\i1}line{\i0}", "second ünï"] or [
        t.split("{")[0] for *_, t in got
    ] == ["first ", "second ünï"]
    times = [(start, length) for start, length, _ in got]
    assert np.allclose(times, [(a, b - a) for a, b, _ in LINES], atol=0.002)
    with av.open(str(file)) as container:
        if way[-1] == ".mkv":
            assert b"<i>line</i>" in payloads(file, "subtitle")[0][0]
        assert len(container.streams.subtitles) == 1


@ffmpeg
def test_ass_and_webvtt_are_text_too(tmp_path, clips):
    plain = clips("text.mkv", frames=24, subtitles=LINES)
    for codec in ("ass", "webvtt"):
        source = tmp_path / f"{codec}.mkv"
        command = ["ffmpeg", "-v", "error", "-i", plain, "-c:v", "copy", "-c:s", codec, source]
        subprocess.run([str(part) for part in command], check=True)
        assert upscale(source, tmp_path / f"{codec}.copy.mkv", 24) == []
        (warning,) = upscale(source, tmp_path / f"{codec}.mp4", 24)
        assert codec in warning
        assert [t.split("{")[0] for *_, t in texts(tmp_path / f"{codec}.mp4")] == [
            "first ",
            "second ünï",
        ]


def test_unknown_codecs_are_named_by_the_plan(tmp_path, clips):
    known = clips("known.mkv", frames=8, audio=0.4, subtitles=[(0.1, 0.2, "line")])
    content = known.read_bytes()
    for kind, old, new in (
        ("audio", b"A_AAC", b"A_ZZZ"),
        ("subtitle", b"S_TEXT/UTF8", b"S_TEXT/Z"),
    ):
        source = tmp_path / f"{kind}.mkv"
        assert old in content
        source.write_bytes(content.replace(old, new.ljust(len(old), b"Z")))
        info = probe(source)
        job = plan_job(source, tmp_path / "planned.mkv", info, UpscaleSettings(), 4)
        assert any(f"{kind} stream" in w and "left out" in w for w in job.warnings)
        warnings = upscale(source, tmp_path / f"{kind}.out.mkv")
        assert set(warnings) <= set(job.warnings)
        assert len(probe(tmp_path / f"{kind}.out.mkv").audio) == (kind != "audio")


def tagged(clips, tmp_path, **tags):
    """A QuickTime file with the entries of its timecode track renamed."""
    plain = make_video(tmp_path / "plain.mov", frames=24, audio=1.0)
    source = tmp_path / "timecode.mov"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        copies = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        copies[0].metadata["timecode"] = "01:00:00:00"
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    content = source.read_bytes()
    for before, after in tags.items():
        assert before.encode() in content
        content = content.replace(before.encode(), after.encode())
    source.write_bytes(content)
    return source


def timecodes(path):
    with av.open(str(path)) as container:
        found = [container.metadata, *(s.metadata for s in container.streams)]
        return {v for m in found for k, v in m.items() if k.lower() == "timecode"}


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_the_timecode_is_kept_and_not_called_lost(tmp_path, clips, suffix):
    source, output = tagged(clips, tmp_path), tmp_path / f"out{suffix}"
    with av.open(str(source)) as container:
        assert any(s.type == "data" for s in container.streams), "the source needs the track"
    assert upscale(source, output, 24) == []
    assert timecodes(output) == {"01:00:00:00"}


def test_the_timecode_of_a_range_is_that_of_its_first_frame(tmp_path, clips):
    source, output = tagged(clips, tmp_path), tmp_path / "out.mov"
    step = round(1 / (probe(source).rate * probe(source).time_base))
    upscale(source, output, 8, span=(6 * step, 14 * step))
    assert timecodes(output) == {"01:00:00:06"}


def test_dropped_numbers_are_never_used():
    rate, seen = F(30000, 1001), set()
    for frames in range(0, 20_000):
        timecode = later_timecode("00:00:00;00", frames, rate)
        assert later_timecode(timecode, 0, rate) == timecode
        minute, second, shown = (int(timecode[i : i + 2]) for i in (3, 6, 9))
        assert not (second == 0 and shown < 2 and minute % 10)
        seen.add(timecode)
    assert len(seen) == 20_000
    assert later_timecode("00:09:59;29", 1, rate) == "00:10:00;00"
    assert later_timecode("00:00:59;59", 1, F(60000, 1001)) == "00:01:00;04"
    assert later_timecode("23:59:59:24", 1, F(25)) == "00:00:00:00"
    assert later_timecode("noon", 1, F(25)) is None


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_metadata_tracks_are_never_written_without_description(tmp_path, clips, suffix):
    source = tagged(clips, tmp_path, mhlrtmcd="mhlrmeta", tmcd="mebx")
    output = tmp_path / f"out{suffix}"
    (warning,) = [w for w in upscale(source, output, 24) if "mebx" in w]
    assert "left out" in warning
    content, place = output.read_bytes(), -1
    while (place := content.find(b"stsd", place + 1)) >= 0:
        assert int.from_bytes(content[place - 4 : place]) > 16


def test_side_streams_that_break_off_are_told(tmp_path, clips):
    whole = clips("whole.ts", frames=24, audio=1.0)
    source = tmp_path / "cut.ts"
    source.write_bytes(whole.read_bytes() + bytes(range(256)) * 2000)
    output = tmp_path / "out.mkv"
    upscale(source, output, 24)  # raises nothing, whatever the demuxer makes of the rest
    before, after = payloads(whole, "audio"), payloads(output, "audio")
    assert len(before) > 20
    assert all(
        a.endswith(d) or d.endswith(a)
        for (d, _), (a, _) in zip(before[:20], after[:20], strict=True)
    )


def test_quicktime_keys_survive(tmp_path):
    keys = {
        "com.apple.quicktime.creationdate": "2022-11-09T20:36:38+0300",
        "com.apple.quicktime.location.ISO6709": "+52.5200+013.4050/",
        "title": "A title",
    }
    source = tmp_path / "phone.mov"
    with av.open(
        str(source), "w", container_options={"movflags": "use_metadata_tags"}
    ) as container:
        container.metadata.update(keys)
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for suffix in (".mov", ".mp4", ".mkv"):
        output = tmp_path / f"out{suffix}"
        assert upscale(source, output) == []
        with av.open(str(output)) as container:
            found = {k.lower(): v for k, v in container.metadata.items()}
        assert {k: found.get(k.lower()) for k in keys} == keys


def test_pixel_shape_advice_is_another_choice(tmp_path, clips):
    info, pts, durations = cfr(clips("square.mp4", frames=4), 4)
    odd = replace(info, sample_aspect_ratio=F(70001, 70003))
    done = segments(tmp_path / "s", odd, pts, durations, encode=QUICK)
    source = clips("square.mp4", frames=4)
    for suffix in (".mkv", ".mp4"):
        warnings = finish(done, tmp_path / f"o{suffix}", source=source, info=odd, encode=QUICK)
        advice = [w for w in warnings if "pixel shape" in w]
        assert len(advice) == (suffix == ".mkv")
        assert all("mp4 may" in w and "hevc" not in w for w in advice)


@pytest.mark.parametrize(
    "address", ["https://example.org/a.mp4", "rtsp://camera/1", "file:///a.mp4"]
)
def test_an_address_is_called_one(address):
    with pytest.raises(InputError, match="only local files are read"):
        probe(Path(address))
