"""Colour: which matrix and range a picture has, and the way to RGB and back.

Code points are those of ISO/IEC 23091-2, as in `framelift.types.ColorTags`.
"""

from dataclasses import replace

import numpy as np
from av import VideoFormat, VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from framelift.errors import InputError
from framelift.types import ColorTags, VideoInfo

UNSPECIFIED = 2
_SWS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # matrix code point -> swscale's number
_NAMES = {8: "YCgCo", 11: "Y'D'zD'x", 12: "chroma-derived", 13: "chroma-derived", 14: "ICtCp"}
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)


def tags(frame: VideoFrame) -> ColorTags:
    """The colour description a decoded frame carries, nothing guessed."""
    color_range = 2 if frame.format.name.startswith("yuvj") else int(frame.color_range)
    return ColorTags(
        matrix=int(frame.colorspace),
        range=color_range,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )


def is_rgb(pixel_format: str) -> bool:
    """Whether a pixel format stores red, green and blue rather than luma and chroma."""
    return VideoFormat(pixel_format).is_rgb or pixel_format == "pal8"


def check(color: ColorTags, path: object) -> None:
    """Raise InputError for a matrix that cannot be converted to RGB here."""
    if color.matrix in _NAMES:
        raise InputError(
            f"{path} uses the colour matrix {_NAMES[color.matrix]}, which is not supported.",
            "Convert the video to BT.709 or BT.2020 first.",
        )


def resolve(info: VideoInfo, height: int | None = None) -> ColorTags:
    """What unspecified tags of a source mean: the tags its upscaled video must carry.

    YUV sources keep their own matrix and range; without one, 720 lines or more mean BT.709,
    fewer mean BT.601. Images and RGB video become limited-range YUV by the same rule on
    `height`, the lines of the output.
    """
    color = info.color
    if info.is_images or is_rgb(info.pixel_format):
        matrix = _by_size(height or info.height)
        primaries = color.primaries if color.primaries not in (0, UNSPECIFIED) else 1
        transfer = color.transfer if color.transfer not in (0, UNSPECIFIED) else 13
        return ColorTags(matrix, 1, primaries, transfer)
    known = color.matrix in _SWS
    color = replace(
        color,
        matrix=color.matrix if known else _by_size(info.height),
        range=color.range or (2 if info.pixel_format.startswith("yuvj") else 1),
    )
    if known or color.primaries not in (0, UNSPECIFIED) or color.transfer not in (0, UNSPECIFIED):
        return color
    primaries = {1: 1, 5: 5}.get(color.matrix, 6)
    return replace(color, primaries=primaries, transfer=1 if color.matrix == 1 else 6)


def _by_size(height: int) -> int:
    if height >= 720:
        return 1
    return 5 if height in (288, 576) else 6


class ToRGB:
    """Converts decoded frames of one source to RGB arrays [H, W, 3].

    uint8 for sources of up to 8 bits, uint16 over the full scale 0..65535 for deeper ones.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._format = "rgb48le" if info.bit_depth > 8 else "rgb24"
        self._color = resolve(info)
        self._full = VideoReformatter()
        self._small = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """The frame as an RGB array."""
        picture = self._full.reformat(
            frame, format=self._format, interpolation=_EXACT, threads=1, **self._source(frame)
        )
        return np.ascontiguousarray(picture.to_ndarray())

    def thumbnail(self, frame: VideoFrame, width: int) -> np.ndarray:
        """A small uint8 BGR array, `width` pixels wide, of the frame's shape."""
        height = max(1, round(frame.height * width / frame.width))
        picture = self._small.reformat(
            frame,
            width=width,
            height=height,
            format="bgr24",
            interpolation=Interpolation.AREA,
            threads=1,
            **self._source(frame),
        )
        return np.ascontiguousarray(picture.to_ndarray())

    def _source(self, frame: VideoFrame) -> dict[str, int]:
        if is_rgb(frame.format.name):
            return {}
        own = tags(frame)
        matrix = own.matrix if own.matrix in _SWS else self._color.matrix
        return {
            "src_colorspace": _SWS[matrix],
            "src_color_range": own.range or self._color.range,
            "dst_color_range": 2,
        }


class FromRGB:
    """Converts RGB arrays [H, W, 3], uint8 or uint16, to frames of one pixel format, tagged."""

    def __init__(self, pixel_format: str, color: ColorTags) -> None:
        self._format = pixel_format
        self._rgb = is_rgb(pixel_format)
        self.color = replace(color, matrix=0, range=2) if self._rgb else color
        self._reformatter = VideoReformatter()

    def __call__(self, rgb: np.ndarray) -> VideoFrame:
        """The array as a frame, tagged with matrix, range, primaries and transfer."""
        layout = "rgb48le" if rgb.dtype == np.uint16 else "rgb24"
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=layout)
        target = {"dst_color_range": self.color.range}
        if not self._rgb:
            target["dst_colorspace"] = _SWS[self.color.matrix]
        picture = self._reformatter.reformat(
            frame,
            format=self._format,
            interpolation=_EXACT,
            threads=1,
            src_color_range=2,
            **target,
        )
        stamp(picture, self.color)
        return picture


def stamp(target: object, color: ColorTags) -> None:
    """Set the four colour tags of a frame or a codec context."""
    for name, value in (
        ("colorspace", color.matrix),
        ("color_range", color.range),
        ("color_primaries", color.primaries),
        ("color_trc", color.transfer),
    ):
        setattr(target, name, value)
