"""Files that are not what they should be."""

from fractions import Fraction as F

import av
import numpy as np
import pytest

from framelift.errors import InputError
from framelift.video.probe import probe
from framelift.video.read import VideoReader


def cut(path, tmp_path, share):
    data = path.read_bytes()
    out = tmp_path / path.name
    out.write_bytes(data[: int(len(data) * share)])
    return out


FAST = {"movflags": "+faststart"}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", ["long.mkv", "long.mp4", "long.avi"])
def test_truncation_is_detected(clips, tmp_path, name, share):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    whole = clips(name, frames=72, audio=3.0, codec=codec)
    if name.endswith("mp4"):
        fast = tmp_path / "fast.mp4"
        remux(whole, fast)
        whole = fast
    assert complete(whole)
    reader = VideoReader(cut(whole, tmp_path, share))
    count = sum(1 for _ in reader)
    assert 0 < count < 72
    assert reader.report.truncated
    assert reader.report.expected_seconds == pytest.approx(3, abs=0.1)
    assert reader.report.got_seconds < 2.9


def remux(source, target):
    options = FAST if target.suffix == ".mp4" else {}
    with av.open(str(source)) as i, av.open(str(target), "w", container_options=options) as o:
        copies = {s.index: o.add_stream_from_template(s, opaque=True) for s in i.streams}
        for packet in i.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                o.mux(packet)


def complete(path):
    reader = VideoReader(path)
    count = sum(1 for _ in reader)
    assert not reader.report.truncated, reader.report
    return count


@pytest.mark.parametrize("name", ["sound.mkv", "sound.mp4", "sound.avi", "sound.ts", "sound.flv"])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0])
def test_intact_files_are_not_called_truncated(clips, name, seconds):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    assert complete(clips(f"{seconds}{name}", audio=seconds, codec=codec)) == 24


def test_a_matroska_file_without_duration_tags_and_longer_audio_is_intact(clips, tmp_path):
    whole = clips("3.0sound.mkv", audio=3.0)
    data = whole.read_bytes().replace(b"DURATION", b"XURATION")
    (tmp_path / "tagless.mkv").write_bytes(data)
    assert complete(tmp_path / "tagless.mkv") == 24
    late = clips("late.mkv", pts=[5000 + 42 * i for i in range(24)], time_base=F(1, 1000))
    (tmp_path / "late.mkv").write_bytes(late.read_bytes().replace(b"DURATION", b"XURATION"))
    assert complete(tmp_path / "late.mkv") == 24
    long = clips("long.mkv", frames=72, audio=3.0).read_bytes().replace(b"DURATION", b"XURATION")
    (tmp_path / "cut.mkv").write_bytes(long[: len(long) // 2])
    reader = VideoReader(tmp_path / "cut.mkv")
    assert sum(1 for _ in reader) < 72
    assert reader.report.truncated


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_damaged_packets_cost_frames_not_the_video(clips, tmp_path, suffix):
    whole = clips("sixty.mkv", frames=60, options={"g": "12"})
    path = tmp_path / f"noise.{suffix}"
    hit = noisy(whole, path, every=9)
    reader = VideoReader(path)
    frames = [(f.index, f.pts, f.repaired, f.rgb()) for f in reader]
    report = reader.report
    assert len(frames) == 60
    assert hit > 0
    assert report.bad_packets > 0
    assert report.repaired == [i for i, _, repaired, _ in frames if repaired]
    assert report.repaired
    for i in report.repaired:
        good = frames[i - 1] if i else next(f for f in frames if not f[2])
        assert np.array_equal(frames[i][3], good[3])
    intact = VideoReader(whole)
    times = [float(f.pts * intact.info.time_base) for f in intact]
    assert [float(f[1] * reader.info.time_base) for f in frames] == pytest.approx(times, abs=0.001)
    assert [f.rgb().tobytes() for f in reader] == [f[3].tobytes() for f in frames]
    assert any("damaged" in w for w in report.warnings)


def noisy(source, target, every):
    """Overwrite the head of every n-th packet."""
    hit = 0
    with av.open(str(source)) as i, av.open(str(target), "w") as o:
        copy = o.add_stream_from_template(i.streams.video[0], opaque=True)
        for number, packet in enumerate(i.demux(video=0)):
            if not packet.size:
                continue
            if number % every == every - 1:
                data = bytes(packet)
                broken = av.Packet(data[:5] + b"\xff" * (len(data) - 5))
                broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                broken.duration = packet.duration
                packet, hit = broken, hit + 1
            packet.stream = copy
            o.mux(packet)
    return hit


def test_noise_filter(clips, tmp_path):
    whole = clips("sixty.mkv", frames=60, options={"g": "12"})
    path = tmp_path / "noise.mkv"
    with av.open(str(whole)) as i, av.open(str(path), "w") as o:
        copy = o.add_stream_from_template(i.streams.video[0], opaque=True)
        noise = av.bitstream.BitStreamFilterContext("noise=amount=20", i.streams.video[0])
        for packet in i.demux(video=0):
            for changed in noise.filter(packet) if packet.size else ():
                changed.stream = copy
                o.mux(changed)
    reader = VideoReader(path)
    assert sum(1 for _ in reader) == 60
    assert len(reader.report.repaired) >= reader.report.bad_packets > 0


def test_first_packet_damaged(clips, tmp_path):
    path = tmp_path / "start.mkv"
    noisy(clips("allkey.mkv", options={"g": "1"}), path, every=1000)
    data = []
    with av.open(str(clips("allkey.mkv"))) as i, av.open(str(path), "w") as o:
        copy = o.add_stream_from_template(i.streams.video[0], opaque=True)
        for number, packet in enumerate(i.demux(video=0)):
            if packet.size:
                if number == 0:
                    broken = av.Packet(b"\0\0\0\1" * 20)
                    broken.pts, broken.dts = packet.pts, packet.dts
                    broken.is_keyframe = True
                    broken.time_base, packet = packet.time_base, broken
                packet.stream = copy
                o.mux(packet)
    reader = VideoReader(path)
    data = [f.rgb() for f in reader]
    assert len(data) == 24
    assert reader.report.repaired == [0]
    assert np.array_equal(data[0], data[1])


def harmed(path, tmp_path, how, start=0.4, share=0.2):
    """Zero a piece of a file, cut it out or put noise there."""
    data = path.read_bytes()
    a, b = int(len(data) * start), int(len(data) * (start + share))
    noise = np.random.default_rng(3).bytes(b - a)
    out = tmp_path / f"{how}-{path.name}"
    out.write_bytes(data[:a] + {"zeros": bytes(b - a), "cut": b"", "noise": noise}[how] + data[b:])
    return out


@pytest.mark.parametrize("how", ["zeros", "cut", "noise"])
@pytest.mark.parametrize("share", [0.04, 0.2])
@pytest.mark.parametrize("name", ["hole.mkv", "hole.ts", "hole.flv", "hole.avi", "mute.mkv"])
def test_holes_are_filled_and_told(clips, tmp_path, name, how, share):
    if name.endswith("avi") and how == "cut":
        pytest.skip("cutting makes the index of AVI wrong, so that nothing tells where a hole is")
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    sound = None if name.startswith("mute") else 3.0
    options = {"g": "12"}
    whole = clips(name, frames=75, audio=sound, codec=codec, options=options, rate=F(25))
    intact = VideoReader(whole)
    times = [f.pts for f in intact]
    assert not intact.report.damaged
    reader = VideoReader(harmed(whole, tmp_path, how, share=share))
    found = {f.pts: f.repaired for f in reader}
    report = reader.report
    assert report.damaged
    assert report.warnings
    assert abs(len(found) - 75) <= 1
    step = times[1] - times[0]
    assert max(np.diff(sorted(found))) < 2.1 * step
    assert sum(found.values()) == len(report.repaired) > 0
    assert found.keys() <= set(times)


def test_a_hole_in_a_variable_rate_is_told_but_not_filled(clips, tmp_path):
    gaps = np.random.default_rng(0).integers(20, 120, 74).tolist()
    pts = [0, *np.cumsum(gaps).tolist()]
    name, options = "vfr-hole.mkv", {"g": "12"}
    whole = clips(name, frames=75, pts=pts, time_base=F(1, 1000), audio=5.0, options=options)
    assert complete(whole) == 75
    assert not (intact := VideoReader(whole)).report.damaged
    assert [f.pts for f in intact] == pts
    reader = VideoReader(harmed(whole, tmp_path, "zeros"))
    found = [f.pts for f in reader if not f.repaired]
    assert 30 < len(found) < 75
    assert set(found) <= set(pts)
    assert reader.report.damaged
    assert reader.report.holes


@pytest.mark.parametrize("suffix", ["mkv", "ts", "flv", "mp4"])
def test_a_pause_is_no_hole(clips, suffix):
    """A screen recording that stands still while its sound goes on."""
    pts = [40 * i + (2000 if i > 40 else 0) for i in range(60)]
    base = {"ts": 90, "mp4": 90}.get(suffix, 1)
    path = clips(
        f"pause.{suffix}",
        frames=60,
        pts=[p * base for p in pts],
        time_base=F(1, 1000 * base),
        rate=F(25),
        audio=4.5,
    )
    assert complete(path) == 60
    reader = VideoReader(path)
    frames = [f.pts for f in reader]
    assert not reader.report.damaged
    assert max(np.diff(frames)) * reader.info.time_base == pytest.approx(2.04, abs=0.002)


def test_pictures_that_the_decoder_patched_are_told(clips, tmp_path):
    whole = clips("flips.mp4", frames=30, options={"g": "10"}, size=(64, 96)).read_bytes()
    with av.open(str(clips("flips.mp4"))) as container:
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    patched = 0
    for seed in range(12):
        rng, data = np.random.default_rng(seed), bytearray(whole)
        for place, size in (spans[k] for k in rng.choice(len(spans), 4)):
            data[place + int(rng.integers(size // 2, size))] ^= int(rng.integers(1, 256))
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(data)
        marked = judged(path)
        reader = VideoReader(path)
        assert sum(1 for _ in reader) == 30
        report = reader.report
        assert report.damaged or not marked
        assert set(report.corrupt).isdisjoint(report.repaired)
        patched += bool(report.corrupt)
    assert patched > 0


def judged(path):
    """How many pictures a plain decoder marks as corrupt."""
    marked = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        for packet in container.demux(stream):
            try:
                marked += sum(f.is_corrupt for f in packet.decode())
            except av.error.FFmpegError:
                continue
    return marked


def refusal(path):
    with pytest.raises(InputError) as caught:
        probe(path)
    assert caught.value.remedy.endswith(".")
    return caught.value.problem


def test_refusals(tmp_path, clips):
    assert "does not exist" in refusal(tmp_path / "no.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "empty" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("Dear diary, ünï\n" * 30)
    assert "text file" in refusal(tmp_path / "text.mp4")
    (tmp_path / "zero.mp4").write_bytes(bytes(5000))
    assert "not a video" in refusal(tmp_path / "zero.mp4")
    (tmp_path / "folder").mkdir()
    assert "no images" in refusal(tmp_path / "folder")
    whole = clips("sound1.mp4", frames=24, audio=1.0).read_bytes()
    (tmp_path / "nomoov.mp4").write_bytes(whole[: len(whole) // 2])
    assert "moov" in refusal(tmp_path / "nomoov.mp4")
    assert "only sound" in refusal(clips("tune.m4a", video=False, audio=1.0))
    assert "only sound" in refusal(clips("tune.mka", video=False, audio=1.0))


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "oldconcat": "file '{}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
    "dash": "<?xml version='1.0'?><MPD><BaseURL>{}</BaseURL></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "txt"])
def test_playlists_are_not_followed(tmp_path, clips, kind, suffix):
    path = tmp_path / f"list.{suffix}"
    path.write_text(PLAYLISTS[kind].format(clips("cfr.mp4")))
    assert "playlist" in refusal(path)


@pytest.mark.parametrize(
    "name",
    [
        "concat:{0}|{0}",
        "http://127.0.0.1:9/x.mp4",
        "subfile,,start,0,end,0,,:{0}",
        "data:video/mp4;base64,AAAA",
    ],
)
def test_protocols_are_not_followed(clips, name):
    from pathlib import Path

    told = refusal(Path(name.format(clips("cfr.mp4"))))
    assert "does not exist" in told or "only local files are read" in told
