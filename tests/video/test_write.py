import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path

import av
import numpy as np
import pytest
from support import SIZE, cfr, decoded, moving, patches, segments

from framelift.errors import NoRoomError, UsageError
from framelift.types import ColorTags, EncodeSettings
from framelift.video import encoders
from framelift.video.assemble import assemble, finish
from framelift.video.containers import check_output
from framelift.video.images import ImageWriter, assemble_images
from framelift.video.join import presentation_order
from framelift.video.probe import probe
from framelift.video.read import VideoReader
from framelift.video.verify import verify
from framelift.video.write import Segment, SegmentWriter

FAST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}


def quick(codec="h264", **more):
    speed = "fast" if codec == "h264" else FAST.get(codec)
    return EncodeSettings(codec=codec, speed=speed, **more)


def test_available_codecs():
    assert encoders.available_codecs() == ("h264", "hevc", "av1", "ffv1", "prores", "vp9")


CASES = [
    ("h264", ".mp4"),
    ("h264", ".mkv"),
    ("hevc", ".mp4"),
    ("hevc", ".mkv"),
    ("av1", ".mp4"),
    ("av1", ".webm"),
    ("ffv1", ".mkv"),
    ("prores", ".mov"),
    ("vp9", ".webm"),
]


@pytest.mark.parametrize(("codec", "suffix"), CASES)
def test_joining_keeps_every_picture_and_every_time(tmp_path, clips, codec, suffix):
    info, pts, durations = cfr(
        clips("source.mp4", frames=30, rate=F(24000, 1001), time_base=F(1, 90000)), 30
    )
    assert info.time_base == F(1, 90000)
    done = segments(tmp_path / "s", info, pts, durations, encode=quick(codec), cuts=(12, 13))
    _, delay = presentation_order(done)
    kind = "rgb24" if codec == "ffv1" else None
    if codec in ("h264", "hevc"):
        assert delay > 0, "the test needs B-frames"
    output = tmp_path / f"out{suffix}"
    assert finish(done, output, source=None, info=info, encode=quick(codec)) == []
    pieces = [frame for segment in done for frame in decoded(segment.path, kind)]
    joined = decoded(output, kind)
    assert len(joined) == len(pieces) == 30
    assert all(np.array_equal(a, b) for a, b in zip(joined, pieces, strict=True))
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        tick = stream.time_base
        found = sorted(p.pts for p in packets)
        keys = [i for i, p in enumerate(packets) if p.is_keyframe]
        assert {0, 12, 13} <= set(keys)
        assert all(p.dts is None or p.dts <= p.pts for p in packets)
    if suffix in (".mp4", ".mov"):
        assert [p * tick for p in found] == [p * info.time_base for p in pts]
    assert (
        max(abs(p * tick - q * info.time_base) for p, q in zip(found, pts, strict=True)) <= tick / 2
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_and_start_offset_survive(tmp_path, clips, suffix):
    steps = [40, 17, 100, 33, 40, 40, 250, 10, 60, 41]
    pts = [523 + int(t) for t in np.cumsum([0, *steps[:-1]])]
    source = clips("offset.mkv", frames=10, pts=pts, time_base=F(1, 1000))
    reader = VideoReader(source)
    times = [(f.pts, f.duration) for f in reader]
    done = segments(
        tmp_path / "s",
        reader.info,
        [p for p, _ in times],
        [d for _, d in times],
        encode=quick(),
        cuts=(4,),
    )
    output = tmp_path / f"out{suffix}"
    finish(done, output, source=source, info=reader.info, encode=quick())
    again = VideoReader(output)
    assert [f.pts * again.info.time_base * 1000 for f in again] == pts
    assert not again.report.truncated


@pytest.mark.parametrize("rate", [F(24000, 1001), F(25), F(60000, 1001), F(240)])
def test_mp4_times_are_exact_to_the_last_duration(tmp_path, clips, rate):
    source = clips(f"rate{rate.numerator}.mp4", frames=12, rate=rate)
    info, pts, durations = cfr(source, 12)
    done = segments(tmp_path / "s", info, pts, durations, encode=quick(), cuts=(5,))
    output = tmp_path / "out.mp4"
    finish(done, output, source=source, info=info, encode=quick())
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == 12 / rate
        assert stream.average_rate == rate


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_one_frame(tmp_path, clips, suffix):
    info, pts, durations = cfr(clips("one.mp4", frames=1), 1)
    done = segments(tmp_path / "s", info, pts, durations, encode=quick())
    finish(
        done,
        tmp_path / f"one{suffix}",
        source=clips("one.mp4", frames=1),
        info=info,
        encode=quick(),
    )
    reader = VideoReader(tmp_path / f"one{suffix}")
    assert len(list(reader)) == 1
    assert not reader.report.truncated


SHORT = """
import sys
from pathlib import Path
from support import cfr, segments
from framelift.types import EncodeSettings
folder, source, frames = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
segments(folder, *cfr(source, frames), encode=EncodeSettings(codec="hevc", speed="ultrafast"))
"""


@pytest.mark.parametrize("frames", [1, 2])
def test_short_segments_whose_decode_times_x265_leaves_unset(tmp_path, clips, frames):
    """glibc is told to fill new memory, so that the unset times lie after the presentation."""
    arguments = [str(tmp_path / "out"), str(clips("a.mkv")), str(frames)]
    subprocess.run(
        [sys.executable, "-c", SHORT, *arguments],
        env={**os.environ, "MALLOC_PERTURB_": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    assert len(decoded(tmp_path / "out" / "000000.mkv")) == frames


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1", "vp9"])
@pytest.mark.parametrize("depth", [8, 10])
def test_the_same_frames_give_the_same_bytes(tmp_path, clips, codec, depth):
    info = replace(probe(clips("cfr.mp4")), bit_depth=depth)
    made = []
    for name in "ab":
        with_threads = SegmentWriter(
            tmp_path / f"{name}.mkv", width=64, height=48, info=info, encode=quick(codec), threads=2
        )
        for i in range(6):
            with_threads.write(patches(i, depth=depth), i, 1)
        made.append(with_threads.close())
    packets = []
    for segment in made:
        with av.open(str(segment.path)) as container:
            packets.append([bytes(p) for p in container.demux(video=0)])
    assert packets[0] == packets[1]


def test_h264_does_not_change_from_run_to_run(tmp_path, clips):
    """As it did with mbtree, now and then."""
    noise = np.random.default_rng(0).normal(0, 8, (12, *SIZE, 3))

    def grainy(index, size):
        return np.clip(moving(index) + noise[index], 0, 255).astype(np.uint8)

    info, pts, durations = cfr(clips("cfr.mp4"), 12)
    settings = EncodeSettings(codec="h264")
    made = set()
    for attempt in range(40):
        folder = tmp_path / str(attempt)
        (segment,) = segments(folder, info, pts, durations, encode=settings, picture=grainy)
        with av.open(str(segment.path)) as container:
            made.add(b"".join(bytes(p) for p in container.demux(video=0)))
    assert len(made) == 1


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_colour_round_trip(tmp_path, clips, matrix, color_range, codec):
    tags = ColorTags(matrix, color_range, 9 if matrix == 9 else 1, 1)
    info = replace(probe(clips("cfr.mp4")), color=tags)
    encode = quick(codec, crf=1)
    done = segments(tmp_path / "s", info, [0], [512], encode=encode, picture=patches)
    output = tmp_path / "out.mp4"
    finish(done, output, source=None, info=info, encode=encode)
    reader = VideoReader(output)
    assert reader.info.color == tags
    found = next(iter(reader)).rgb().astype(int)
    assert np.abs(found - patches(0))[7::16, 7::16].max() <= 2


def test_unspecified_colour_is_written_out_and_keeps_the_source_matrix(tmp_path, clips):
    info = replace(probe(clips("cfr.mp4")), height=480)
    assert info.color == ColorTags()
    done = segments(
        tmp_path / "s", info, [0], [512], encode=quick(), size=(720, 96), picture=patches
    )
    finish(done, tmp_path / "out.mp4", source=None, info=info, encode=quick())
    assert probe(tmp_path / "out.mp4").color == ColorTags(6, 1, 6, 6)


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        ("h264", "yuv420p10le"),
        ("hevc", "yuv420p10le"),
        ("av1", "yuv420p10le"),
        ("prores", "yuv422p10le"),
        ("vp9", "yuv420p"),
    ],
)
def test_ten_bits(tmp_path, clips, codec, pixel_format):
    info = replace(probe(clips("cfr.mp4")), bit_depth=10)
    writer = SegmentWriter(
        tmp_path / "ten.mkv", width=64, height=48, info=info, encode=quick(codec), threads=1
    )
    writer.write(patches(0, depth=16), 0, 1)
    assert bool(writer.warnings) == (codec == "vp9")
    path = writer.close().path
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == pixel_format


LOSSLESS = [("ffv1", 8), ("ffv1", 16), ("h264", 8), ("hevc", 8), ("vp9", 8)]


@pytest.mark.parametrize(("codec", "depth"), LOSSLESS)
def test_lossless_is_exact(tmp_path, clips, codec, depth):
    def noise(index, size):
        rng = np.random.default_rng(index)
        return rng.integers(0, 2**depth, (*size, 3)).astype(np.uint16 if depth > 8 else np.uint8)

    info = replace(probe(clips("cfr.mp4")), bit_depth=depth)
    encode = quick(codec, lossless=True)
    done = segments(
        tmp_path / "s", info, [0, 512, 1024], [512] * 3, encode=encode, cuts=(2,), picture=noise
    )
    output = tmp_path / "out.mkv"
    finish(done, output, source=None, info=info, encode=encode)
    frames = [f.rgb() for f in VideoReader(output)]
    assert all(np.array_equal(frames[i], noise(i, SIZE)) for i in range(3))


@pytest.mark.parametrize("size", [(49, 65), (48, 65), (49, 64), (1, 1), (2, 2), (3, 17)])
@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_odd_sizes(tmp_path, clips, codec, size):
    info = replace(probe(clips("cfr.mp4")), width=1, height=1)
    writer = SegmentWriter(
        tmp_path / "odd.mkv",
        width=size[1],
        height=size[0],
        info=info,
        encode=quick(codec),
        threads=1,
    )
    writer.write(patches(0, size), 0, 512)
    writer.write(patches(1, size), 512, 512)
    done = [writer.close()]
    finish(done, tmp_path / "out.mkv", source=None, info=info, encode=quick(codec))
    expected = (0, 0) if codec == "ffv1" else (size[1] % 2, size[0] % 2)
    assert writer.padding == expected
    assert bool(writer.warnings) == any(expected)
    found = [f.rgb() for f in VideoReader(tmp_path / "out.mkv")]
    assert found[1].shape == (size[0] + expected[1], size[1] + expected[0], 3)
    if codec == "ffv1":
        assert np.array_equal(found[1], patches(1, size))


def test_hevc_refuses_frames_that_x265_does_not_survive(clips):
    info = probe(clips("cfr.mp4"))
    with pytest.raises(UsageError, match="not reliable at 200x34"):
        encoders.plan(EncodeSettings(codec="hevc"), info, 200, 34)


def test_impossible_settings(tmp_path, clips):
    info = probe(clips("cfr.mp4"))

    def refused(match, codec="h264", size=(64, 48), **more):
        with pytest.raises(UsageError, match=match) as caught:
            SegmentWriter(
                tmp_path / "no.mkv",
                width=size[0],
                height=size[1],
                info=info,
                encode=EncodeSettings(codec=codec, **more),
                threads=1,
            )
        assert caught.value.remedy

    refused("not available", codec="h266")
    refused("no speed", speed="warp")
    refused("no speed", codec="ffv1", speed="fast")
    refused("quality level", crf=99)
    refused("quality level", codec="ffv1", crf=3)
    refused("lossless", codec="av1", lossless=True)
    refused("pixel format", pixel_format="yuv420p16le")
    refused("pixel format", codec="av1", pixel_format="nonsense")
    refused("not reliable at 4x4", codec="hevc", size=(4, 4))
    assert not (tmp_path / "no.mkv").exists()
    for name, codec in (("a.webm", "h264"), ("a.mp4", "ffv1"), ("a.xyz", "h264"), ("a", "h264")):
        with pytest.raises(UsageError):
            check_output(tmp_path / name, codec)


def test_a_damaged_or_foreign_segment_is_named(tmp_path, clips):
    info, pts, durations = cfr(clips("cfr.mp4"), 6)
    good = segments(tmp_path / "a", info, pts, durations, encode=quick(), cuts=(3,))
    other = segments(
        tmp_path / "b", info, pts[:3], durations[:3], encode=EncodeSettings(speed="ultrafast")
    )
    short = [good[0], Segment(good[1].path, [*good[1].pts, 9999], [*good[1].durations, 1])]
    for bad in (short, [good[0], other[0]]):
        with pytest.raises(Exception, match="damaged or was encoded differently"):
            finish(bad, tmp_path / "out.mp4", source=None, info=info, encode=quick())
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".mp4"] == []


def test_verify_notices(tmp_path, clips):
    info, pts, durations = cfr(clips("cfr.mp4"), 6)
    done = segments(tmp_path / "a", info, pts, durations, encode=quick())
    assemble(done, tmp_path / "out.mp4", source=None, info=info, encode=quick())
    verify(tmp_path / "out.mp4", 6, pts, info.time_base)
    with pytest.raises(Exception, match="6 frames instead of 7"):
        verify(tmp_path / "out.mp4", 7, [*pts, 9999], info.time_base)
    with pytest.raises(Exception, match="frame 2 is at"):
        verify(tmp_path / "out.mp4", 6, [*pts[:2], pts[2] + 1, *pts[3:]], info.time_base)
    data = (tmp_path / "out.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) - 900])
    with pytest.raises(Exception, match=r"cut\.mp4 is wrong"):
        verify(tmp_path / "cut.mp4", 6, pts, info.time_base)


def test_abort_leaves_nothing(tmp_path, clips):
    info = probe(clips("cfr.mp4"))
    writer = SegmentWriter(
        tmp_path / "x.mkv", width=64, height=48, info=info, encode=quick(), threads=1
    )
    writer.write(moving(0), 0, 1)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def fill(writer):
    for index in range(5):
        noise = np.random.default_rng(index).integers(0, 255, (480, 640, 3), np.uint8)
        writer.write(noise, index, 1)


def test_a_limit_on_file_sizes(tmp_path, clips):
    import resource

    info = probe(clips("cfr.mp4"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = SegmentWriter(
        tmp_path / "x.mkv", width=640, height=480, info=info, encode=quick("ffv1"), threads=1
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(NoRoomError, match="ulimit -f"):
            fill(writer)
        writer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [8, 16])
def test_png_sequence_round_trip(tmp_path, clips, depth):
    def noise(index, size):
        rng = np.random.default_rng(index)
        return rng.integers(0, 2**depth, (*size, 3)).astype(np.uint16 if depth > 8 else np.uint8)

    info, pts, durations = cfr(clips("cfr.mp4"), 12)
    done = segments(
        tmp_path / "s",
        info,
        pts,
        durations,
        encode=EncodeSettings(),
        cuts=(5, 6),
        picture=noise,
        size=(31, 17),
        writer=ImageWriter,
    )
    assemble_images(done, tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{i:05d}.png" for i in range(1, 13)]
    for path in (tmp_path / "out", tmp_path / "out" / "%05d.png"):
        reader = VideoReader(path, rate=F(30))
        frames = list(reader)
        assert reader.info.rate == 30
        assert [f.pts * reader.info.time_base for f in frames] == [F(i, 30) for i in range(12)]
        assert all(np.array_equal(f.rgb(), noise(f.index, (31, 17))) for f in frames)
    assert len(list(VideoReader(tmp_path / "out" / "00003.png"))) == 1
    assert len(list((tmp_path / "s" / "000000").iterdir())) == 5


def test_image_sequences(tmp_path, clips):
    from pathlib import Path

    from framelift.errors import InputError

    info = probe(clips("cfr.mp4"))
    for index, name in enumerate(["f1.png", "f2.png", "f10.png"]):
        writer = ImageWriter(tmp_path / "w", width=8, height=8, info=info)
        writer.write(np.full((8, 8, 3), 10 * index, np.uint8), 0, 1)
        writer.close()
        (tmp_path / "w" / "00001.png").rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._f1.png").write_text("x")
    assert [f.rgb()[0, 0, 0] for f in VideoReader(tmp_path)] == [0, 10, 20]
    reader = VideoReader(tmp_path / "f%d.png")
    assert [f.rgb()[0, 0, 0] for f in reader] == [0, 10, 20]
    assert any("7 numbers are missing" in w for w in reader.info.warnings)
    with pytest.raises(InputError, match="No file matches"):
        probe(tmp_path / "g%05d.png")
    (tmp_path / "f3.png").write_bytes((tmp_path / "f2.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"f3\.png"):
        list(VideoReader(tmp_path))
    writer = ImageWriter(tmp_path / "w", width=9, height=8, info=info)
    writer.write(np.zeros((8, 9, 3), np.uint8), 0, 1)
    (tmp_path / "w" / "00001.png").replace(tmp_path / "f3.png")
    with pytest.raises(InputError, match=r"f3\.png is 9x8"):
        list(VideoReader(Path(tmp_path)))
