"""Encode and decode frames in memory, for the artefacts that real codecs leave."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.codec.codec import Codec, UnknownCodecError
from av.video.reformatter import VideoReformatter

from framelift.errors import UsageError
from framelift.types import ColorTags
from framelift.video.color import _EXACT, FromRGB
from framelift.video.faults import reason

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4"}
_OPTIONS = {
    "h264": {"x264-params": "mbtree=0"},  # with mbtree, two runs may differ
    "hevc": {"x265-params": "log-level=error:pools=none:frame-threads=1"},
}
_SMALLEST = {"hevc": 128}  # x265 reads and writes beyond the buffers of smaller frames
_BT601, _SWS_BT601 = ColorTags(matrix=6, range=1, primaries=6, transfer=6), 5


def reencode_codecs() -> tuple[str, ...]:
    """The codecs that `reencode` can use in this build of PyAV."""
    return tuple(name for name, encoder in _ENCODERS.items() if _has(encoder))


def reencode(
    frames: Iterable[np.ndarray],
    codec: str,
    *,
    bit_rate: float | None = None,
    crf: float | None = None,
    rate: Fraction | float = 25,
) -> Iterator[np.ndarray]:
    """Pass RGB frames uint8 `[H, W, 3]` through a lossy codec (4:2:0); the same number comes out.

    `bit_rate` is in bits a second (at least 1000) at `rate` frames a second; `crf` is the
    constant-quality level instead (for mpeg4 the fixed quantiser, 2 to 31). Frames stream through
    with the encoder's delay (about 50), so memory does not grow with the clip; one thread, so
    that the result does not depend on the machine's. All frames must have the size of the first;
    odd sides are padded by repeating the edge and cropped again. Raises UsageError for a codec
    that is not available or refuses the settings.
    """
    if codec not in reencode_codecs():
        raise UsageError(
            f"The codec {codec!r} is not available.",
            f"Choose one of {', '.join(reencode_codecs())}.",
        )
    encoder: Any = None
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    to_yuv, to_rgb = FromRGB("yuv420p", _BT601), _ToRGB()
    height = width = 0
    for index, rgb in enumerate(frames):
        padded = _padded(rgb, _SMALLEST.get(codec, 2))
        if encoder is None:
            height, width = rgb.shape[:2]
            encoder = _encoder(codec, padded.shape, bit_rate, crf, Fraction(rate))
        frame = to_yuv(padded)
        frame.pts, frame.time_base = index, encoder.time_base
        for packet in _encode(encoder, frame, codec):
            yield from (to_rgb(f)[:height, :width] for f in decoder.decode(packet))
    if encoder is not None:
        for packet in [*_encode(encoder, None, codec), None]:
            yield from (to_rgb(f)[:height, :width] for f in decoder.decode(packet))


class _ToRGB:
    """Decoded 4:2:0 frames as uint8 `[H, W, 3]`."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        return self._reformatter.reformat(
            frame,
            format="rgb24",
            interpolation=_EXACT,
            threads=1,
            src_colorspace=_SWS_BT601,
            src_color_range=_BT601.range,
            dst_color_range=2,
        ).to_ndarray()


def _has(encoder: str) -> bool:
    try:
        return bool(Codec(encoder, "w"))
    except UnknownCodecError:
        return False


def _encoder(
    codec: str, shape: tuple[int, ...], bit_rate: float | None, crf: float | None, rate: Fraction
) -> Any:
    context: Any = av.CodecContext.create(_ENCODERS[codec], "w")
    context.height, context.width = shape[:2]
    context.pix_fmt = "yuv420p"
    context.framerate, context.time_base = rate, 1 / rate
    context.thread_count = 1
    options = dict(_OPTIONS.get(codec, {}))
    if bit_rate is not None:
        context.bit_rate = max(1000, round(bit_rate))  # x264 counts in thousands
    elif crf is not None and codec == "mpeg4":
        options |= {"qmin": f"{round(crf)}", "qmax": f"{round(crf)}"}
    elif crf is not None:
        options["crf"] = f"{crf:g}"
    context.options = options
    return context


def _encode(encoder: Any, frame: av.VideoFrame | None, codec: str) -> list[Any]:
    try:
        return encoder.encode(frame)
    except (av.error.FFmpegError, ValueError) as error:
        raise UsageError(
            f"{codec} refuses frames of {encoder.width}x{encoder.height} pixels with these "
            f"settings: {reason(error)}.",
            "Choose another codec, bit rate or quality level, or larger frames.",
        ) from error


def _padded(rgb: np.ndarray, smallest: int) -> np.ndarray:
    """Extend right and bottom to even sides of at least `smallest` by repeating the edge."""
    bottom, right = (max(side + side % 2, smallest) - side for side in rgb.shape[:2])
    return np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else rgb
