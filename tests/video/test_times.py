"""When pictures and sound are shown: order, clocks that start anywhere, wrap or jump."""

import itertools
from fractions import Fraction as F

import av
import numpy as np
import pytest
from support import decoded, ffmpeg, patches, payloads, segments, shifted

from framelift.types import EncodeSettings
from framelift.video.assemble import finish
from framelift.video.read import VideoReader

QUICK = EncodeSettings(speed="fast")
WRAP = 2**33 / 90000  # seconds after which the clock of a transport stream starts again
BFRAMES = {"bf": "2", "b-adapt": "0", "sc_threshold": "0"}


def read(path):
    reader = VideoReader(path)
    frames = [(f.pts, f.duration, f.repaired, f.rgb()) for f in reader]
    return frames, reader


def lift(source, output):
    """Stand in for the engine: other pictures at the same times, everything else copied."""
    reader = VideoReader(source)
    times = [(f.pts, f.duration) for f in reader]
    pts, durations = zip(*times, strict=True)
    folder = output.with_suffix(".segments")
    done = segments(folder, reader.info, pts, durations, encode=QUICK, cuts=(len(pts) // 3,))
    return finish(done, output, source=source, info=reader.info, encode=QUICK)


def times(path, kind):
    return [t for _, t in payloads(path, kind)]


def shows(rgb, index):
    """Whether a picture is the one of this index, and of no other near it."""
    far = [np.abs(rgb.astype(int) - patches(index + d)).mean() for d in (0, -2, -1, 1, 2)]
    return far[0] < 0.5 * min(far[1:])


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("b.avi", "libx264"),
        ("x.avi", "mpeg4"),
        ("m.avi", "mpeg2video"),
        ("b.h264", "libx264"),
        ("b.264", "libx264"),
        ("b.hevc", "libx265"),
        ("b.m2v", "mpeg2video"),
        ("b.mpg", "mpeg2video"),
    ],
)
def test_every_picture_comes_in_its_turn(clips, name, codec):
    options = {"x265-params": "log-level=none:bframes=3"} if codec == "libx265" else BFRAMES
    rate = F(25)
    path = clips(name, codec=codec, options=options, picture=patches, rate=rate)
    frames, reader = read(path)
    assert len(frames) == 24
    assert not reader.report.damaged
    assert all(shows(rgb, i) for i, (*_, rgb) in enumerate(frames))
    seconds = [float(p * reader.info.time_base) for p, *_ in frames]
    assert np.allclose(np.diff(seconds), 1 / 25, atol=1e-4)


def test_packed_b_frames_of_divx(tmp_path, clips):
    """Two pictures in one packet, a placeholder in the next: as DivX 5 wrote AVI."""
    source = clips("p.m4v.avi", codec="mpeg4", options=BFRAMES, picture=patches, rate=F(25))
    packed = tmp_path / "packed.avi"
    with av.open(str(source)) as old, av.open(str(packed), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0], opaque=True)
        vops = [bytes(p) for p in old.demux(video=0) if p.size]
        kinds = [v[v.index(b"\0\0\1\xb6") + 4] >> 6 for v in vops]
        chunks: list[bytes] = []
        place = 0
        while place < len(vops):
            pair = place + 1 < len(vops) and kinds[place] != 2 and kinds[place + 1] == 2
            chunks += (
                [vops[place] + vops[place + 1], b"\0\0\1\xb6\x4a\x7f"] if pair else [vops[place]]
            )
            place += 1 + pair
        vol = chunks[0].index(b"\0\0\1\xb6")
        chunks[0] = chunks[0][:vol] + b"\0\0\1\xb2DivX503b1393p" + chunks[0][vol:]
        for number, data in enumerate(chunks):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = F(1, 25), copy, number == 0
            new.mux(packet)
    frames, reader = read(packed)
    assert len(frames) == 24
    assert not reader.report.damaged
    assert all(shows(rgb, i) for i, (*_, rgb) in enumerate(frames))


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_dropped_frames_of_avi_stay_dropped(clips, codec):
    pts = [*range(10), *range(14, 28)]
    name = f"drop-{codec}.avi"
    frames, reader = read(clips(name, codec=codec, pts=pts, time_base=F(1, 25), rate=F(25)))
    assert len(frames) == 24
    assert not reader.report.damaged
    assert frames[-1][0] - frames[0][0] == 27


@pytest.mark.parametrize("start", [40000, WRAP - 0.5, WRAP - 0.02, 5000.25])
@pytest.mark.parametrize("name", ["late.ts", "late.mkv", "late.mp4"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_clock_that_starts_anywhere(tmp_path, clips, start, name, suffix):
    source = shifted(clips("sound.mkv", audio=1.0), tmp_path / name, start)
    output = tmp_path / f"out{suffix}"
    lift(source, output)
    picture, sound = times(output, "video"), times(output, "audio")
    assert -0.1 < min(picture) < 0.2
    assert max(picture) < 1.5
    before = times(clips("sound.mkv"), "video"), times(clips("sound.mkv"), "audio")
    assert min(sound) - min(picture) == pytest.approx(min(before[1]) - min(before[0]), abs=0.003)
    assert len(sound) == len(before[1])
    assert len(decoded(output)) == 24


def test_chapters_and_subtitles_move_with_the_pictures(tmp_path, clips):
    source = clips(
        "told.mkv",
        frames=24,
        pts=[90_000 + 40 * i for i in range(24)],
        time_base=F(1, 1000),
        subtitles=[(90.2, 90.6, "hello")],
        chapters=[(90.0, 90.5, "one"), (90.5, 91.0, "two")],
    )
    output = tmp_path / "out.mkv"
    lift(source, output)
    assert times(output, "subtitle") == [pytest.approx(0.2, abs=0.002)]
    with av.open(str(output)) as new:
        starts = [float(c["start"] * c["time_base"]) for c in new.chapters()]
    assert starts == pytest.approx([0, 0.5], abs=0.002)


@pytest.mark.parametrize("start", [0.0, 0.523, 1.4])
def test_small_offsets_stay(tmp_path, clips, start):
    source = shifted(clips("sound.mkv", audio=1.0), tmp_path / "in.mkv", start)
    lift(source, tmp_path / "out.mkv")
    for kind in ("video", "audio"):
        found = times(tmp_path / "out.mkv", kind)
        assert sorted(found) == pytest.approx(sorted(times(source, kind)), abs=0.0011)


@pytest.mark.parametrize("starts", [(0, 0), (0, 5000), (5000, 0), (40000, 40100, 7)])
@pytest.mark.parametrize("form", ["ts", "vob"])
def test_joined_recordings_keep_sound_and_picture_together(tmp_path, clips, starts, form):
    codec = "mpeg2video" if form == "vob" else "libx264"
    whole = clips(f"part-{form}.mkv", codec=codec, audio=1.0, rate=F(25))
    if form == "vob":  # no AAC there
        whole = tmp_path / "mp2.mkv"
        remake_sound(clips(f"part-{form}.mkv"), whole)
    parts = [shifted(whole, tmp_path / f"{i}.{form}", s) for i, s in enumerate(starts)]
    joined = tmp_path / f"joined.{form}"
    joined.write_bytes(b"".join(p.read_bytes() for p in parts))
    frames, reader = read(joined)
    assert len(frames) == 24 * len(starts)
    assert not reader.report.damaged
    assert any("clock" in w for w in reader.report.warnings)
    output = tmp_path / "out.mkv"
    lift(joined, output)
    picture, sound = sorted(times(output, "video")), times(output, "audio")
    assert max(sound) - min(sound) > 0.95 * len(starts)
    assert min(np.diff(sound)) > 0.015
    assert max(np.diff(sound)) < 0.15
    each = len(sound) // len(starts)
    lead = [sound[each * k] - picture[24 * k] for k in range(len(starts))]
    assert lead == pytest.approx([lead[0]] * len(starts), abs=0.03)


def remake_sound(source, target):
    """Copy the pictures and encode the sound as MP2."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        video = new.add_stream_from_template(old.streams.video[0], opaque=True)
        sound = new.add_stream("mp2", rate=48000)
        packets = []
        for packet in old.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream = video
                packets.append(packet)
            elif packet.stream.type == "audio":
                for frame in packet.decode():
                    packets += sound.encode(frame)
        packets += sound.encode(None)
        new.mux(sorted(packets, key=lambda p: p.dts * p.time_base))


def test_the_last_picture_lasts_as_long_as_the_file_says(clips):
    pts = [3000 * i + (900_000 if i > 8 else 0) for i in range(12)]
    frames, _ = read(
        clips("late-pause.mp4", frames=12, pts=pts, time_base=F(1, 90000), options=BFRAMES)
    )
    assert [p for p, *_ in frames] == pts
    assert frames[-1][1] <= 2 * 3000
    assert all(a + d == b for (a, d, *_), (b, *_) in itertools.pairwise(frames))


def test_something_foreign_behind_a_transport_stream(tmp_path, clips):
    head = clips("head.ts", codec="mpeg2video", audio=1.0, rate=F(25)).read_bytes()
    tail = clips("tail.avi", codec="mjpeg", pix_fmt="yuvj420p", rate=F(25)).read_bytes()
    source = tmp_path / "in.ts"
    source.write_bytes(head + tail)
    output = tmp_path / "out.mkv"
    lift(source, output)
    assert len(decoded(output)) >= 24
    assert len(times(output, "audio")) >= 0.9 * len(times(clips("head.ts"), "audio"))


FILM = "testsrc2=s=64x48:r=24000/1001:d=1"
ODD = {
    "film.mpg": ("-f", "lavfi", "-i", FILM, "-c:v", "mpeg2video", "-bf", "2"),
    "opengop.ts": (
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", "-c:v", "libx264"),
        *("-x264-params", "open-gop=1:keyint=10:bframes=3"),
    ),
    "delays.gif": (
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=1"),
        *("-vf", "setpts='PTS+if(gt(N,4),2/TB,0)'"),
    ),
    "altref.avi": (
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", "-c:v", "libvpx"),
        *("-auto-alt-ref", "1", "-lag-in-frames", "16"),
    ),
    "old.wmv": ("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", "-c:v", "wmv2"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_but_intact(tmp_path, name):
    path = tmp_path / name
    ffmpeg(*ODD[name], path)
    frames, reader = read(path)
    assert len(frames) == len(decoded(path))
    assert not reader.report.damaged
    assert np.diff([p for p, *_ in frames]).min() > 0


def test_a_recording_cut_between_key_frames(tmp_path):
    whole, cut = tmp_path / "whole.ts", tmp_path / "cut.ts"
    refresh = ("-x264-params", "intra-refresh=1:keyint=20")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:d=2", "-c:v", "libx264", *refresh, whole)
    ffmpeg("-ss", "0.5", "-i", whole, "-c", "copy", cut)
    frames, reader = read(cut)
    assert len(frames) == len(decoded(cut))
    assert not reader.report.damaged
