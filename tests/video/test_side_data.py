"""What a picture carries besides its pixels: nothing of it vanishes unnamed."""

import re
import struct

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from support import HDR, cfr, make_video, segments

from framelift.errors import InputError
from framelift.types import EncodeSettings
from framelift.video.assemble import finish
from framelift.video.listing import listing
from framelift.video.probe import probe
from framelift.video.read import VideoReader
from framelift.video.side_data import CAPTIONS, SPHERICAL, STEREO, losses, read_side_data
from framelift.video.write import SegmentWriter

FAST = {"av1": "12"}


def quick(codec):
    return EncodeSettings(codec=codec, speed=FAST.get(codec, "ultrafast"))


def upscale(source, output, codec, frames=6):
    info, pts, durations = cfr(source, frames)
    done = segments(output.with_suffix(".parts"), info, pts, durations, encode=quick(codec))
    return finish(done, output, source=source, info=info, encode=quick(codec))


def box(name, content, full=False):
    content = bytes(4) + content if full else content
    return struct.pack(">I4s", 8 + len(content), name) + content


def with_boxes(source, output, extra, entry=None):
    """Put boxes behind the last one of an mp4 file's only sample description."""
    data = bytearray(source.read_bytes())
    start = data.find(b"stsd") + 12
    size = struct.unpack(">I", data[start : start + 4])[0]
    data[start + size : start + size] = extra
    parents = [
        data.find(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    ]
    assert parents[0] > data.find(b"mdat"), "the index has to lie behind the data"
    for place in [start, *parents]:
        length = struct.unpack(">I", data[place : place + 4])[0] + len(extra)
        data[place : place + 4] = struct.pack(">I", length)
    if entry:
        data[start + 4 : start + 8] = entry
    output.write_bytes(data)
    return output


def captioned(path, codec="libx264"):
    """A video every picture of which has closed captions (CEA-708 in user data)."""
    raw = path.with_suffix(".h264")
    with av.open(str(raw), "w", format="h264") as out:
        stream = out.add_stream(codec, rate=25, options={"x264-params": "slices=1:bframes=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(10):
            rgb = np.full((48, 64, 3), 20 * index, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))
    text = b"\xb5\x00\x31GA94\x03\xc2\xff\xfc\x94\x20\xfc\x48\x49\xff"
    sei = b"\0\0\0\1\x06" + bytes([4, len(text)]) + text + b"\x80"
    data = raw.read_bytes()
    starts = [m.start() for m in re.finditer(b"\0\0\1", data)]
    units = [data[a:b].rstrip(b"\0") for a, b in zip(starts, [*starts[1:], None], strict=True)]
    new = b"".join((sei if u[3] & 31 in (1, 5) else b"") + b"\0" + u for u in units)
    raw.write_bytes(new)
    with av.open(str(raw), options={"framerate": "25"}) as old, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(old.streams.video[0], opaque=True)
        for number, packet in enumerate(p for p in old.demux() if p.size):
            packet.pts = packet.dts = round(number / 25 / packet.time_base)
            packet.stream = copy
            out.mux(packet)
    return path


def captions_of(path):
    with av.open(str(path)) as container:
        sides = [dict(read_side_data(f)[0]).get(Type.A53_CC) for f in container.decode(video=0)]
    return sides


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_closed_captions_are_carried_picture_by_picture(tmp_path, codec, suffix):
    source = captioned(tmp_path / "captions.ts")
    reader = VideoReader(source)
    assert CAPTIONS in reader.info.side_data
    writer = SegmentWriter(
        tmp_path / "part.mkv", width=64, height=48, info=reader.info, encode=quick(codec)
    )
    rgb = []
    for frame in reader:
        rgb.append(frame.rgb())
        writer.write(rgb[-1], frame.pts, frame.duration, frame.captions())
    output = tmp_path / f"out{suffix}"
    arguments = {"source": source, "info": reader.info, "encode": quick(codec)}
    assert finish([writer.close()], output, **arguments) == []
    before = captions_of(source)
    assert before[0] is not None
    assert captions_of(output) == before
    for got, wanted in zip(VideoReader(output), rgb, strict=True):
        assert np.abs(got.rgb().astype(int) - wanted).mean() < 4


def test_captions_that_a_codec_does_not_carry_are_named(tmp_path):
    info = probe(captioned(tmp_path / "captions.ts"))
    for codec in ("av1", "ffv1", "prores", "vp9", None):
        (warning,) = losses(info.side_data, info, codec)
        assert CAPTIONS in warning
        assert "h264 and hevc" in warning
    assert losses(info.side_data, info, "h264") == []


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_mastering_data_is_carried(tmp_path, clips, codec, suffix):
    source = clips(
        "mastered.mkv",
        codec="libx265",
        frames=6,
        pix_fmt="yuv420p10le",
        options={"x265-params": HDR},
    )
    assert upscale(source, tmp_path / f"out{suffix}", codec) == []
    old, new = probe(source), probe(tmp_path / f"out{suffix}")
    assert old.static_hdr
    assert new.static_hdr == old.static_hdr


@pytest.fixture
def spherical(tmp_path):
    projection = box(b"prhd", struct.pack(">iii", 90 << 16, 0, 0), full=True)
    projection += box(b"equi", bytes(16), full=True)
    extra = box(b"st3d", bytes([2]), full=True) + box(
        b"sv3d", box(b"svhd", b"camera\0", full=True) + box(b"proj", projection)
    )
    plain = make_video(tmp_path / "plain.mp4", frames=6)
    return with_boxes(plain, tmp_path / "sphere.mp4", extra)


def listed(path):
    with av.open(str(path)) as container:
        return listing(container)[0].side_data


def test_projection_and_packing_are_carried_by_the_same_codec(tmp_path, spherical):
    assert set(probe(spherical).side_data) == {SPHERICAL, STEREO}
    assert upscale(spherical, tmp_path / "out.mkv", "h264") == []
    assert listed(tmp_path / "out.mkv") == listed(spherical)
    assert upscale(spherical, tmp_path / "out.mp4", "h264") == []
    boxes = (tmp_path / "out.mp4").read_bytes()
    assert box(b"st3d", bytes([2]), full=True) in boxes
    assert struct.pack(">iii", 90 << 16, 0, 0) in boxes


def test_projection_and_packing_are_named_where_another_codec_is_written(tmp_path, spherical):
    info = probe(spherical)
    warnings = losses(info.side_data, info, "hevc")
    assert len(warnings) == 2
    assert all("h264 can keep it" in w for w in warnings)


def test_dolby_vision_without_a_base_layer_is_refused(tmp_path, clips):
    plain = make_video(
        tmp_path / "p.mp4",
        codec="libx265",
        frames=4,
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none"},
    )
    for profile, compatible in ((5, 0), (8, 1), (8, 4)):
        record = bytes([1, 0]) + struct.pack(">HB", profile << 9 | 6 << 3 | 5, compatible << 4)
        source = with_boxes(plain, tmp_path / "dv.mp4", box(b"dvcC", record + bytes(19)))
        info = probe(source)
        assert info.dolby_vision == (None if compatible else profile)
        assert any("Dolby Vision" in w for w in losses(info.side_data, info, "hevc"))
        if compatible:
            VideoReader(source)
            continue
        for hdr in ("refuse", "keep"):
            with pytest.raises(InputError, match="Dolby Vision of profile 5"):
                VideoReader(source, hdr=hdr)


def test_side_data_that_pyav_does_not_know_is_named_and_hides_nothing(tmp_path):
    """PyAV's list ends before EXIF, and asking for any side data then fails."""
    import PIL.Image

    picture = PIL.Image.new("RGB", (64, 48))
    exif = picture.getexif()
    exif[272], exif[274] = "Camera", 6
    picture.save(tmp_path / "tagged.jpg", exif=exif)
    info = probe(tmp_path / "tagged.jpg")
    assert "EXIF data" in info.side_data
    with av.open(str(tmp_path / "tagged.jpg")) as container:
        kinds = dict(read_side_data(next(container.decode(video=0)))[0])
    assert Type.DISPLAYMATRIX in kinds


def test_every_kind_that_pyav_knows_has_a_fate(tmp_path, clips):
    """A kind that nobody has thought of is named after libav's own name."""
    info = probe(clips("plain8.mp4", frames=8))
    assert info.side_data == ()
    assert losses(["regions of interest"], info, "h264") == [
        "The picture's regions of interest is not carried over."
    ]
