"""What a picture carries besides its pixels: read, and either carried on or named."""

import re
import sys
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, get_args

from av import VideoFrame
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from framelift.types import Codec, VideoInfo
from framelift.video.listing import Listed

CAPTIONS = "closed captions"
MASTERING = "mastering display"
LIGHT = "content light level"
SPHERICAL = "spherical projection (360°)"
STEREO = "stereo 3D packing"
CROP = "crop rectangle"
_DOLBY = "Dolby Vision metadata"
_WORDS = {
    Type.A53_CC: CAPTIONS,
    Type.MASTERING_DISPLAY_METADATA: MASTERING,
    Type.CONTENT_LIGHT_LEVEL: LIGHT,
    Type.SPHERICAL: SPHERICAL,
    Type.STEREO3D: STEREO,
    Type.AFD: "active format description",
    Type.PANSCAN: "pan and scan window",
    Type.GOP_TIMECODE: "timecode inside the pictures",
    Type.S12M_TIMECODE: "timecode inside the pictures",
    Type.ICC_PROFILE: "ICC colour profile",
    Type.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
    Type.DOVI_RPU_BUFFER: _DOLBY,
    Type.DOVI_METADATA: _DOLBY,
    Type.AMBIENT_VIEWING_ENVIRONMENT: "ambient viewing environment",
    Type.FILM_GRAIN_PARAMS: "film grain parameters",
    Type.SEI_UNREGISTERED: "user data inside the pictures",
}
_LATER = {28: "LCEVC enhancement", 29: "view numbers", 30: "3D display data", 31: "EXIF data"}
_LISTED = {
    "spherical mapping": SPHERICAL,
    "stereo 3d": STEREO,
    "dovi configuration record": _DOLBY,
    "mastering display metadata": MASTERING,
    "content light level metadata": LIGHT,
    "a53 closed captions": CAPTIONS,
    "icc profile": _WORDS[Type.ICC_PROFILE],
    "ambient viewing environment": _WORDS[Type.AMBIENT_VIEWING_ENVIRONMENT],
    "frame cropping": CROP,
    "smpte st 12-1": _WORDS[Type.S12M_TIMECODE],
    "lcevc nal data": _LATER[28],
    "3d reference displays info": _LATER[30],
    "exif metadata": _LATER[31],
}
# What tells how the old file was coded, and the turning, which has its own place.
_SPENT = {
    *(Type.DISPLAYMATRIX, Type.MOTION_VECTORS, Type.VIDEO_ENC_PARAMS, Type.VIDEO_HINT),
    *("display matrix", "cpb properties", "quality stats", "param change", "fallback track"),
    *("palette", "new extradata", "skip samples"),
}
_BANNERS = (
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),  # x264's settings, as user data
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),  # x265's
)
CARRIED: dict[str, tuple[Codec, ...]] = {
    CAPTIONS: ("h264", "hevc"),
    MASTERING: ("h264", "hevc", "av1"),
    LIGHT: ("h264", "hevc", "av1"),
}


def read_side_data(frame: VideoFrame) -> tuple[list[tuple[Type, bytes]], set[str]]:
    """A decoded frame's side data, and names for the kinds that PyAV does not know."""
    names: set[str] = set()
    while True:
        try:
            sides: Any = frame.side_data
        except ValueError as error:  # one unknown kind hides all the others
            number = re.match(r"\d+", str(error))
            if number is None or len(names) > len(_LATER):
                return [], names
            names.add(_LATER.get(int(number[0]), f"side data of kind {number[0]}"))
            frame = _without(frame, number[0])
            continue
        return [(side.type, bytes(side)) for side in sides], names


def _without(frame: VideoFrame, kind: str) -> VideoFrame:
    """The frame without its side data of libav's number `kind`."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    delete = graph.add("sidedata", f"mode=delete:type={kind}")
    graph.link_nodes(source, delete, graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def tiny(frame: VideoFrame) -> VideoFrame:
    """A gray picture of 2x2 pixels with all the side data of `frame`."""
    return reshaped(frame, 2, 2, "gray")


def reshaped(frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
    """A picture of another size and format with the side data of `frame`; its pixels mean nothing.

    PyAV cannot attach side data to a frame, but scaling keeps it.
    """
    return VideoReformatter().reformat(
        frame,
        width=width,
        height=height,
        format=pixel_format,
        src_colorspace=1,
        dst_colorspace=1,
        interpolation="POINT",
        threads=1,
    )


def carried_by(frame: VideoFrame, listed: Listed = Listed()) -> set[str]:  # noqa: B008 (frozen)
    """Names of everything a frame and its stream carry beside the picture."""
    sides, names = read_side_data(frame)
    for kind, content in sides:
        banner = kind is Type.SEI_UNREGISTERED and content[:16] in _BANNERS
        if kind not in _SPENT and not banner:
            names.add(_WORDS.get(kind, kind.name.lower().replace("_", " ")))
    for line in listed.side_data:
        words = re.split(r"[:,]", line.lower())[0].strip()
        if words not in _SPENT:
            names.add(_LISTED.get(words, words))
    return names


def losses(names: Iterable[str], info: VideoInfo, codec: Codec | None) -> list[str]:
    """A warning for each of `names` that `info`'s video loses as one of `codec` (None: images)."""
    warnings = []
    stays = keeps_stream_data(info.side_data, info, codec)
    for name in sorted(names):
        able = CARRIED.get(name, ())
        if codec in able or (stays and name in (SPHERICAL, STEREO)):
            continue
        if name in (SPHERICAL, STEREO) and keeps_stream_data(info.side_data, info, info.codec):
            able = (info.codec,) if info.codec in get_args(Codec) else ()
        offer = f"; {' and '.join(able)} can keep it" if able else ""
        warnings.append(f"The picture's {name} is not carried over{offer}.")
    return warnings


def keeps_stream_data(names: Iterable[str], info: VideoInfo, codec: str | None) -> bool:
    """Whether the side data of the stream can be copied: same codec, nothing in pixels or Dolby's.

    Only the copy of all parameters brings it along, which takes a codec that stays.
    """
    found = set(names)
    return info.codec == codec and bool(found & {SPHERICAL, STEREO}) and not found & {CROP, _DOLBY}


def dolby_vision(listed: Listed, sides: dict[Type, bytes]) -> int | None:
    """The Dolby Vision profile of a stream whose pictures only Dolby Vision can show, else None.

    `listed` tells profile and compatibility (0: the base layer is of no other standard). Streams
    without that record, as raw ones, have it in their first picture: there only profile 5 has
    the RPU profile 0 and a base layer of full range.
    """
    for line in listed.side_data:
        if record := re.match(r"DOVI.*profile: (\d+).*compatibility id: (\d+)", line):
            return int(record[1]) if int(record[2]) == 0 else None
    if content := sides.get(Type.DOVI_METADATA):
        start = int.from_bytes(content[:8], sys.byteorder)
        header = content[start : start + 11]
        return 5 if len(header) == 11 and header[4] == 0 and header[10] else None
    return None
