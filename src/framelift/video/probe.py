"""What a video is, found by opening it and decoding its first picture."""

import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av import VideoFormat, VideoFrame
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition, Stream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from framelift.errors import InputError
from framelift.memory import check_memory, most_pixels
from framelift.types import ColorTags, VideoInfo
from framelift.video import color
from framelift.video.listing import Listed, listing
from framelift.video.open import open_input
from framelift.video.sequence import find_images, first_image, gaps
from framelift.video.side_data import carried_by, dolby_vision, read_side_data
from framelift.video.stills import Still, animation_length, read_header

DEFAULT_RATE = Fraction(24)
ALPHA_DROPPED = "The transparency (alpha channel) is dropped."
_CLAIMS = ("mov", "matroska", "avi", "flv", "asf", "nut", "mxf")  # their headers tell the length


def probe(path: Path, rate: Fraction | None = None, scale: float = 0) -> VideoInfo:
    """Describe a video file, a folder of images, an image pattern or one image.

    `rate` (frames a second) is that of an image sequence, 24 unless given; videos have their own.
    Raises InputError if there is nothing to upscale, NoRoomError if a picture, or its enlargement
    by `scale`, cannot fit in memory; the header tells that before anything is decoded.
    """
    images = find_images(path)
    if images is not None:
        return _probe_images(path, images, rate or DEFAULT_RATE, scale)
    with open_input(path) as container:
        stream = video_stream(container, path, scale)
        return _describe(path, container, stream, _first_picture(container, stream, path))


def video_stream(container: InputContainer, path: Path, scale: float = 0) -> VideoStream:
    """The first video stream that is not cover art; raises InputError if there is none.

    Its decoder refuses pictures that memory cannot hold; `scale` as in `probe`.
    """
    found = pictures(container)
    if not found:
        what = "only sound" if container.streams.audio else "no video"
        raise InputError(f"{path} holds {what}.", "Name a file with a video stream.")
    if found[0].codec_context is None:
        raise InputError(f"The codec of {path} is unknown.", "Convert it to H.264 first.")
    context = found[0].codec_context
    width, height = context.width, context.height
    if container.format.name == "gif":  # not told where its pictures are refused
        with path.open("rb") as file:
            width, height = struct.unpack("<HH", file.read(10)[6:])
    check_memory(path, width, height, scale)
    if not context.is_open:
        context.options = {**context.options, "max_pixels": str(most_pixels())}
    return found[0]


def pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams of a container that are not cover art."""
    return [s for s in container.streams.video if not is_cover(s)]


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a still image attached to the file."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _first_picture(container: InputContainer, stream: VideoStream, path: Path) -> VideoFrame:
    try:
        for packet in container.demux(stream):
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                continue
            if frames:
                return frames[0]
    except av.error.FFmpegError:
        pass
    raise InputError(
        f"Not one picture of {path} could be decoded.", "The file is damaged; copy it again."
    )


def _describe(
    path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame
) -> VideoInfo:
    rate = next(
        (r for r in (stream.guessed_rate, stream.average_rate, stream.base_rate) if r),
        DEFAULT_RATE,
    )
    time_base = stream.time_base or 1 / rate
    duration = _seconds(container, stream, float((frame.pts or 0) * time_base))
    listed = listing(container)
    facts = listed.get(stream.index, Listed())
    sides = dict(read_side_data(frame)[0])
    rotation, mirrored = _orientation(frame, sides)
    info = VideoInfo(
        path=path,
        width=frame.width,
        height=frame.height,
        rate=Fraction(rate),
        time_base=Fraction(time_base),
        frames=stream.frames or (round(duration * rate) if duration else None),
        duration=duration,
        start_pts=frame.pts or 0,
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
        rotation=rotation,
        mirrored=mirrored,
        bit_depth=bit_depth(frame),
        pixel_format=frame.format.name,
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        color=color.tags(frame),
        interlaced=frame.interlaced_frame,
        alpha=is_transparent(frame) or stream.metadata.get("alpha_mode") == "1",
        audio=tuple(label(s, listed.get(s.index)) for s in container.streams.audio),
        subtitles=tuple(label(s, listed.get(s.index)) for s in container.streams.subtitles),
        attachments=tuple(
            s.metadata.get("filename", "unnamed") for s in container.streams.attachments
        ),
        chapters=len(container.chapters()),
        static_hdr=_static_hdr(sides),
        side_data=tuple(sorted(carried_by(frame, facts))),
        dolby_vision=dolby_vision(facts, sides),
    )
    color.check(info.color, path)
    return replace(info, warnings=tuple(_warnings(info, container, listed)))


def _warnings(info: VideoInfo, container: InputContainer, listed: dict[int, Listed]) -> list[str]:
    found = []
    if rest := pictures(container)[1:]:
        names = ", ".join(f"#{s.index} {label(s, listed.get(s.index))}" for s in rest)
        found.append(f"Only the first video stream is upscaled; left out: {names}.")
    if info.alpha:
        found.append(ALPHA_DROPPED)
    return found


def _seconds(container: InputContainer, stream: VideoStream, start: float) -> float | None:
    end, own = claimed_end(container, stream)
    if own and end is not None and end > start:
        return end - start
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def claimed_end(container: InputContainer, stream: VideoStream) -> tuple[float | None, bool]:
    """When the video ends according to the file, in seconds, and whether its own stream says so."""
    if not container.format.name.startswith(_CLAIMS):
        return None, False
    whole = container.duration / av.time_base if container.duration else None
    tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), "")
    if clock := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", tag.strip()):
        own = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
        return (min(own, whole) if whole else own), True
    if container.format.name == "avi" and len(stream.index_entries) < stream.frames / 2:
        return float(stream.frames / (stream.average_rate or DEFAULT_RATE)), True  # index cut off
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base), True
    return whole, False


def label(stream: Stream, listed: Listed | None = None) -> str:
    """A stream in words: codec (else the container's tag for it), language and title."""
    listed = listed or Listed()
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else listed.codec
    codec = codec or listed.tag or "unknown"
    parts = (codec, stream.metadata.get("language"), stream.metadata.get("title"))
    return " ".join(part for part in parts if part and part != "und")


def bit_depth(frame: VideoFrame) -> int:
    """Bits of the deepest colour component."""
    return min(16, max((c.bits for c in frame.format.components if not c.is_alpha), default=8))


def has_alpha(pixel_format: VideoFormat) -> bool:
    """Whether a pixel format stores transparency."""
    return pixel_format.name == "pal8" or any(part.is_alpha for part in pixel_format.components)


def is_transparent(frame: VideoFrame) -> bool:
    """Whether any pixel of a picture is not opaque."""
    if not has_alpha(frame.format):
        return False
    rgba = VideoReformatter().reformat(frame, format="rgba", threads=1)
    return int(rgba.to_ndarray()[..., 3].min()) < 255


def _orientation(frame: VideoFrame, sides: dict[Type, bytes]) -> tuple[int, bool]:
    """Rotation in degrees counter-clockwise and whether the picture is mirrored as well."""
    matrix = sides.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return 0, False
    a, b, _, c, d = memoryview(matrix).cast("i").tolist()[:5]
    return int(frame.rotation), a * d - b * c < 0


def _static_hdr(sides: dict[Type, bytes]) -> dict[str, str]:
    """Mastering display and content light level, written as x265's options."""
    found: dict[str, str] = {}
    mastering = sides.get(Type.MASTERING_DISPLAY_METADATA)
    light = sides.get(Type.CONTENT_LIGHT_LEVEL)
    if mastering is not None:
        numbers = memoryview(mastering[:88]).cast("i").tolist()
        ratios = [n / d if d else 0.0 for n, d in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        if all(numbers[20:22]):
            found |= _mastering(ratios)
    if light is not None:
        values = memoryview(light[:8]).cast("I").tolist()
        found["max-cll"] = f"{values[0]},{values[1]}"
    return found


def _mastering(ratios: list[float]) -> Mapping[str, str]:
    red, green, blue, white = (
        f"({round(x * 50000)},{round(y * 50000)})"
        for x, y in zip(ratios[:8:2], ratios[1:8:2], strict=True)
    )
    darkest, brightest = round(ratios[8] * 10000), round(ratios[9] * 10000)
    text = f"G{green}B{blue}R{red}WP{white}L({brightest},{darkest})"
    return {"master-display": text}


def _probe_images(path: Path, images: list[Path], rate: Fraction, scale: float) -> VideoInfo:
    still = read_header(images[0])
    check_memory(images[0], still.width, still.height, scale)
    rgb, alpha = first_image(images)
    count, time_base = len(images), 1 / rate
    if count == 1 and still.animated:
        count, time_base = still.pictures, Fraction(1, 1000)
        rate = Fraction(1000 * count, animation_length(images[0])).limit_denominator(1001)
    return VideoInfo(
        path=path,
        width=rgb.shape[1],
        height=rgb.shape[0],
        rate=rate,
        time_base=time_base,
        frames=count,
        duration=float(count / rate),
        start_pts=0,
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        mirrored=False,
        bit_depth=still.bit_depth,
        pixel_format="rgb48le" if still.bit_depth > 8 else "rgb24",
        codec=images[0].suffix[1:].lower(),
        container="images",
        color=ColorTags(),
        interlaced=False,
        alpha=alpha,
        is_images=True,
        side_data=("EXIF data",) if still.exif else (),
        warnings=tuple(_image_warnings(images, still, alpha)),
    )


def _image_warnings(images: list[Path], still: Still, alpha: bool) -> list[str]:
    found = [ALPHA_DROPPED] if alpha else []
    if missing := gaps(images):
        found.append(f"{missing} numbers are missing in the sequence; it is read without them.")
    if still.pictures > 1 and not (still.animated and len(images) == 1):
        found.append(f"Only the first of the {still.pictures} pictures in {images[0]} is read.")
    if still.profile and still.bit_depth == 8:
        found.append(f"The colours are converted from {still.profile} to sRGB.")
    elif still.profile:
        found.append(f"The colour profile {still.profile} is dropped: 16 bits are read as sRGB.")
    return found
