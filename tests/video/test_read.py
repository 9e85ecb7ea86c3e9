import itertools
from fractions import Fraction as F

import av
import numpy as np
import pytest
from support import HDR, MASTERING, moving, patches

from framelift.errors import InputError
from framelift.types import ColorTags
from framelift.video.probe import probe
from framelift.video.read import VideoReader


def read(path, **settings):
    reader = VideoReader(path, **settings)
    frames = [(f.pts, f.duration, f.repaired, f.rgb()) for f in reader]
    return frames, reader


@pytest.mark.parametrize("name", ["cfr.mp4", "cfr.mkv", "cfr.mov", "cfr.avi", "cfr.ts", "cfr.webm"])
def test_constant_rate(clips, name):
    codec = {"avi": "mpeg4", "webm": "libvpx-vp9"}.get(name[-3:], "libx264")
    codec = "libvpx-vp9" if name.endswith("webm") else codec
    frames, reader = read(clips(name, codec=codec))
    assert len(frames) == 24
    seconds = [float(p * reader.info.time_base) for p, *_ in frames]
    np.testing.assert_allclose(np.diff(seconds), 1 / 24, atol=0.0011)
    assert all(a + d == b for (a, d, *_), (b, *_) in itertools.pairwise(frames))
    assert not reader.report.truncated
    assert reader.report.repaired == []
    assert np.abs(frames[5][3].astype(int) - moving(5)).mean() < 6


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_variable_rate_with_start_offset(clips, name):
    pts = [523 + t for t in np.cumsum([0, 40, 17, 100, 33, 40, 40, 250, 10, 60]).tolist()]
    frames, reader = read(clips(name, frames=10, pts=pts, time_base=F(1, 1000)))
    assert [p for p, *_ in frames] == pts
    assert reader.info.start_pts == 523
    assert not reader.report.truncated


def test_two_passes_are_identical(clips):
    reader = VideoReader(clips("cfr.mp4"))
    first = [(f.pts, f.rgb().tobytes()) for f in reader]
    assert [(f.pts, f.rgb().tobytes()) for f in reader] == first
    assert reader.report.frames == 24


def test_timestamps_are_rebuilt_where_a_raw_stream_has_none(clips):
    frames, reader = read(clips("raw.h264"))
    assert len(frames) == 24
    assert len({b - a for (a, *_), (b, *_) in itertools.pairwise(frames)}) == 1
    assert any("rebuilt" in w for w in reader.report.warnings)


def test_ten_bits_arrive_as_uint16_over_the_full_scale(clips):
    path = clips(
        "ten.mkv",
        codec="ffv1",
        pix_fmt="yuv444p10le",
        frames=2,
        picture=lambda i, s: patches(i, s, 16),
        tags=ColorTags(1, 1, 1, 1),
    )
    frames, reader = read(path)
    assert reader.info.bit_depth == 10
    assert frames[1][3].dtype == np.uint16
    assert np.abs(frames[1][3].astype(int) - patches(1, depth=16)).max() < 2 * 257


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("color_range", [1, 2])
def test_matrix_and_range_are_honoured(clips, matrix, color_range):
    path = clips(
        f"color{matrix}{color_range}.mkv",
        codec="ffv1",
        frames=1,
        picture=patches,
        tags=ColorTags(matrix, color_range, 1, 1),
    )
    frames, reader = read(path)
    assert (reader.info.color.matrix, reader.info.color.range) == (matrix, color_range)
    inner = np.s_[7::16, 7::16]
    assert np.abs(frames[0][3].astype(int) - patches(0))[inner].max() <= 2


def test_unspecified_colour_is_decided_by_size(clips):
    frames, reader = read(clips("sd.mkv", codec="ffv1", frames=1, picture=patches))
    assert reader.info.color == ColorTags()
    assert np.abs(frames[0][3].astype(int) - patches(0))[7::16, 7::16].max() <= 2


@pytest.mark.parametrize("pix_fmt", ["gray", "bgr0", "yuvj420p", "yuv422p", "yuv410p", "gbrp16le"])
def test_pixel_formats(clips, pix_fmt):
    codec = "mjpeg" if pix_fmt == "yuvj420p" else "ffv1"

    def picture(i, s):
        return np.repeat(patches(i, s)[..., :1], 3, 2) if pix_fmt == "gray" else patches(i, s)

    tags = ColorTags(2, 2) if pix_fmt in ("gray", "yuvj420p") else ColorTags()
    path = clips(
        f"{pix_fmt}.mkv",
        codec=codec,
        pix_fmt=pix_fmt,
        frames=1,
        picture=picture,
        tags=tags,
        options={"qmin": "1", "qmax": "1"} if codec == "mjpeg" else {},
    )
    frames, _ = read(path)
    scale = 257 if frames[0][3].dtype == np.uint16 else 1
    found = frames[0][3].astype(float) / scale
    assert np.abs(found - picture(0, (48, 64)))[7::16, 7::16].max() <= (
        25 if pix_fmt == "yuv410p" else 3
    )


@pytest.mark.parametrize(
    ("size", "codec", "pix"),
    [((1, 1), "ffv1", "gray16le"), ((47, 63), "ffv1", "yuv420p"), ((1, 1), "png", "rgb24")],
)
def test_odd_and_tiny_sizes(clips, size, codec, pix):
    options = {"level": "3", "slices": "1"} if codec == "ffv1" and size == (1, 1) else {}
    frames, _ = read(
        clips(
            f"odd{size[0]}{codec}.{'mov' if codec == 'png' else 'mkv'}",
            size=size,
            codec=codec,
            pix_fmt=pix,
            frames=3,
            options=options,
        )
    )
    assert [f[3].shape for f in frames] == [(*size, 3)] * 3


def test_one_frame(clips):
    frames, reader = read(clips("one.mp4", frames=1))
    assert len(frames) == 1
    assert frames[0][1] > 0
    assert not reader.report.truncated


@pytest.mark.parametrize(
    "name",
    [
        "a:b.mp4",
        "100%.mp4",
        "-x.mp4",
        "with space.mp4",
        "ünï→文.mp4",
        "%05d.mp4",
        "a'b\"c.mp4",
        "clip#1?.mp4",
    ],
)
def test_strange_names(tmp_path, clips, monkeypatch, name):
    (tmp_path / name).write_bytes(clips("cfr.mp4").read_bytes())
    assert len(read(tmp_path / name)[0]) == 24
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    assert probe(Path(name)).width == 64


def test_thumbnail(clips):
    frame = next(iter(VideoReader(clips("cfr.mp4"))))
    small = frame.thumbnail(16)
    assert small.shape == (12, 16, 3)
    assert small.dtype == np.uint8
    assert abs(small[..., ::-1].mean() - frame.rgb().mean()) < 3


def test_alpha_is_dropped_with_a_warning(clips, tmp_path):
    opaque = clips("alpha.mkv", codec="ffv1", pix_fmt="bgra", frames=2, picture=patches)
    _, reader = read(opaque)
    assert not reader.info.alpha
    assert reader.report.warnings == []
    for first, name in ((255, "later.mkv"), (10, "alpha.mkv")):
        path = tmp_path / name
        with av.open(str(path), "w") as out:
            stream = out.add_stream("ffv1", rate=24)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
            for alpha in (first, 10):
                picture = np.dstack([patches(0), np.full((48, 64), alpha, np.uint8)])
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
            out.mux(stream.encode(None))
        _, reader = read(path)
        assert reader.info.alpha == (first == 10)
        assert sum("alpha" in w for w in reader.report.warnings) == 1


def test_cover_art_is_not_the_video(clips, png):
    for name in ("cover.mp4", "cover.mkv"):
        frames, reader = read(clips(name, cover=png))
        assert (reader.info.width, len(frames)) == (64, 24)


def test_facts(clips):
    info = probe(
        clips(
            "facts.mkv",
            audio=1.0,
            subtitles=[(0.1, 0.5, "hello")],
            chapters=[(0, 0.5, "one"), (0.5, 1, "two")],
            attachment=b"not really a font",
            sar=F(4, 3),
            metadata={"title": "A title"},
        )
    )
    assert info.audio == ("aac",)
    assert info.subtitles == ("subrip",)
    assert info.attachments == ("font.ttf",)
    assert info.chapters == 2
    assert info.sample_aspect_ratio == F(4, 3)
    assert (info.codec, info.bit_depth, info.frames, info.rate) == ("h264", 8, 24, 24)


@pytest.mark.parametrize("degrees", [0, 90, -90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_orientation(clips, degrees, mirrored):
    info = probe(clips(f"rot{degrees}{mirrored}.mp4", frames=2, rotation=(degrees, mirrored)))
    assert info.mirrored == mirrored
    assert (info.rotation - degrees) % 360 in ((0, 180) if mirrored else (0,))


def test_interlaced_is_refused_or_deinterlaced(clips):
    path = clips("interlaced.mkv", options={"flags": "+ildct+ilme", "x264-params": "interlaced=1"})
    with pytest.raises(InputError, match="--deinterlace"):
        VideoReader(path)
    frames, _ = read(path, deinterlace="bwdif")
    assert len(frames) == 24
    assert np.diff([p for p, *_ in frames]).min() > 30
    assert np.abs(frames[5][3].astype(int) - moving(5)).mean() < 12


def test_deinterlacing_leaves_progressive_video_alone(clips):
    plain, _ = read(clips("cfr.mp4"))
    filtered, _ = read(clips("cfr.mp4"), deinterlace="bwdif")
    assert [p for p, *_ in filtered] == [p for p, *_ in plain]
    assert all(np.array_equal(a[3], b[3]) for a, b in zip(plain, filtered, strict=True))


def test_hdr_is_refused_or_kept(clips):
    path = clips(
        "hdr.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        frames=4,
        tags=ColorTags(9, 1, 9, 16),
        options={"x265-params": HDR},
    )
    with pytest.raises(InputError, match="--hdr keep"):
        VideoReader(path)
    frames, reader = read(path, hdr="keep")
    assert frames[0][3].dtype == np.uint16
    assert reader.info.static_hdr == {
        "master-display": MASTERING,
        "max-cll": "1000,400",
    }


def test_change_of_size_is_named(tmp_path, clips):
    a, b = clips("cfr.h264"), clips("small.h264", size=(32, 32))
    path = tmp_path / "both.h264"
    path.write_bytes(a.read_bytes() + b.read_bytes())
    with pytest.raises(InputError, match="64x48 to 32x32"):
        read(path)


def test_second_video_stream_is_named(tmp_path, clips):
    path = tmp_path / "two.mkv"
    with av.open(str(clips("cfr.mp4"))) as source, av.open(str(path), "w") as out:
        copies = [out.add_stream_from_template(source.streams.video[0], opaque=True) for _ in "ab"]
        for packet in source.demux(video=0):
            if packet.size:
                for copy in copies:
                    packet.stream = copy
                    out.mux(packet)
    assert any("first video stream" in w for w in probe(path).warnings)
