"""The video encoders framelift offers, and how their settings become options of libav."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from av import VideoFormat
from av.codec.codec import Codec as AvCodec
from av.codec.codec import UnknownCodecError

from framelift.errors import UsageError
from framelift.types import Codec, ColorTags, EncodeSettings, VideoInfo
from framelift.video import color

_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
    "prores": "prores_ks",
    "vp9": "libvpx-vp9",
}
_PRESETS = [
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
]
_SPEEDS: dict[str, list[str]] = {
    "h264": _PRESETS,
    "hevc": _PRESETS,
    "av1": [str(n) for n in range(14)],
    "vp9": [str(n) for n in range(9)],
}
X265_SMALLEST = 48  # below, x265 writes beyond its buffers
_CRF = {"h264": 18.0, "hevc": 19.0, "av1": 24.0, "vp9": 24.0}
_CRF_LIMIT = {"h264": 51.0, "hevc": 51.0, "av1": 63.0, "vp9": 63.0}


@dataclass(frozen=True)
class Encoding:
    """Everything needed to open an encoder: what `plan` made of the settings.

    `padding` is (right, bottom), in pixels added by repeating the edge.
    """

    encoder: str
    pixel_format: str
    options: dict[str, str]
    color: ColorTags
    width: int
    height: int
    padding: tuple[int, int]
    warnings: tuple[str, ...]


def available_codecs() -> tuple[Codec, ...]:
    """The codecs whose encoder this build of PyAV has."""
    return tuple(codec for codec in get_args(Codec) if _encoder(_ENCODERS[codec]) is not None)


def _encoder(name: str) -> AvCodec | None:
    try:
        return AvCodec(name, "w")
    except UnknownCodecError:
        return None


def plan(
    encode: EncodeSettings, info: VideoInfo, width: int, height: int, threads: int = 0
) -> Encoding:
    """Decide encoder, pixel format, options and padding for an output of width x height pixels.

    `info` is the source, whose depth and colour the output keeps. Raises UsageError for settings
    that do not exist or do not go together.
    """
    _check(encode)
    warnings: list[str] = []
    pixel_format = encode.pixel_format or _pixel_format(encode, info.bit_depth, warnings)
    name = _ENCODERS[encode.codec]
    if encode.codec == "h264" and pixel_format in _formats("libx264rgb"):
        name = "libx264rgb"
    allowed = _formats(name)
    if pixel_format not in allowed:
        raise UsageError(
            f"{encode.codec} cannot store the pixel format {pixel_format}.",
            f"Choose one of {', '.join(allowed)}.",
        )
    if encode.codec == "hevc" and min(width, height) < X265_SMALLEST:
        raise UsageError(
            f"The hevc encoder is not reliable at {width}x{height}.",
            f"Choose another codec, or an output of at least {X265_SMALLEST} pixels a side.",
        )
    layout = VideoFormat(pixel_format)
    right = width % 2 if layout.chroma_width(64) < 64 else 0
    bottom = height % 2 if layout.chroma_height(64) < 64 else 0
    if right or bottom:
        warnings.append(
            f"{width}x{height} is odd, which {pixel_format} cannot hold; the picture is padded to "
            f"{width + right}x{height + bottom} by repeating its edge."
        )
    tags = color.resolve(info, height)
    size = width + right, height + bottom
    options = _OPTIONS[encode.codec](encode, info, threads, size)
    return Encoding(name, pixel_format, options, tags, *size, (right, bottom), tuple(warnings))


def _check(encode: EncodeSettings) -> None:
    codec = encode.codec
    if codec not in available_codecs():
        raise UsageError(
            f"The codec {codec} is not available.",
            f"Choose one of {', '.join(available_codecs())}.",
        )
    if encode.speed is not None and encode.speed not in _SPEEDS.get(codec, []):
        known = _SPEEDS.get(codec)
        raise UsageError(
            f"{codec} has no speed {encode.speed}.",
            f"Choose one of {', '.join(known)}." if known else "Leave speed out.",
        )
    if encode.crf is not None and not 0 <= encode.crf <= _CRF_LIMIT.get(codec, -1):
        raise UsageError(
            f"{codec} has no quality level (crf) {encode.crf:g}.",
            f"Choose 0 to {_CRF_LIMIT[codec]:g}." if codec in _CRF_LIMIT else "Leave crf out.",
        )
    if encode.lossless and codec in ("av1", "prores"):
        raise UsageError(
            f"{codec} cannot be lossless here.", "Choose ffv1 (exact), h264, hevc or vp9."
        )


def _formats(encoder: str) -> list[str]:
    found = _encoder(encoder)
    return [f.name for f in (found.video_formats or [])] if found else []


def _pixel_format(encode: EncodeSettings, depth: int, warnings: list[str]) -> str:
    """The default pixel format: RGB when lossless, else 4:2:0 of 8 or 10 bits like the source."""
    codec = encode.codec
    if codec == "prores":
        return "yuv422p10le"
    if codec == "ffv1":
        return "gbrp16le" if depth > 8 else "bgr0"
    if encode.lossless and codec == "hevc":
        if depth > 8:
            warnings.append("hevc holds 12 bits at most; use ffv1 for an exact 16-bit copy.")
        return "gbrp12le" if depth > 8 else "gbrp"
    if depth > 8 and (codec == "vp9" or encode.lossless):
        warnings.append(f"{codec} is written with 8 bits; use hevc, av1 or ffv1 to keep {depth}.")
    if encode.lossless:
        return "bgr24" if codec == "h264" else "gbrp"
    return "yuv420p10le" if depth > 8 and codec != "vp9" else "yuv420p"


_Size = tuple[int, int]


def _quality(encode: EncodeSettings) -> str:
    return f"{_CRF[encode.codec] if encode.crf is None else encode.crf:g}"


def _h264(encode: EncodeSettings, info: VideoInfo, threads: int, size: _Size) -> dict[str, str]:
    """mbtree off: with it, x264 encodes equal frames differently from run to run."""
    crf = "0" if encode.lossless else _quality(encode)
    params = ["open-gop=0", "stitchable=1", "mbtree=0"]
    names = {"master-display": "mastering-display", "max-cll": "cll"}
    params += [f"{names[key]}={value}" for key, value in info.static_hdr.items()]
    return {
        "crf": crf,
        "preset": encode.speed or "medium",
        "x264-params": ":".join(params),
    }


def _hevc(encode: EncodeSettings, info: VideoInfo, threads: int, size: _Size) -> dict[str, str]:
    params = ["log-level=error", "open-gop=0", "frame-threads=1"]
    if threads:
        params.append(f"pools={threads}")
    if encode.lossless:
        params.append("lossless=1")
    params += [f"{key}={value}" for key, value in info.static_hdr.items()]
    options = {"preset": encode.speed or "medium", "x265-params": ":".join(params), "a53cc": "1"}
    return options if encode.lossless else {"crf": _quality(encode), **options}


def _av1(encode: EncodeSettings, info: VideoInfo, threads: int, size: _Size) -> dict[str, str]:
    params = [f"lp={min(threads, 6)}"] if threads else []
    if "master-display" in info.static_hdr:
        params.append(f"mastering-display={_svt_mastering(info.static_hdr['master-display'])}")
    if "max-cll" in info.static_hdr:
        params.append(f"content-light={info.static_hdr['max-cll']}")
    options = {"crf": _quality(encode), "preset": encode.speed or "8"}
    return {**options, "svtav1-params": ":".join(params)} if params else options


def _svt_mastering(text: str) -> str:
    """x265 counts chromaticity in 1/50000 and luminance in 1/10000; SVT-AV1 wants numbers."""
    parts = []
    for name, pair in (chunk.rstrip(")").split("(") for chunk in text.split(")") if chunk):
        unit = 10000 if name == "L" else 50000
        parts.append(f"{name}({','.join(f'{int(n) / unit:.5g}' for n in pair.split(','))})")
    return "".join(parts)


def _ffv1(encode: EncodeSettings, info: VideoInfo, threads: int, size: _Size) -> dict[str, str]:
    slices = "4" if min(size) >= 2 else "1"
    return {"level": "3", "slices": slices, "slicecrc": "1", "g": "1"}


def _prores(encode: EncodeSettings, info: VideoInfo, threads: int, size: _Size) -> dict[str, str]:
    return {"profile": "hq", "vendor": "apl0"}


def _vp9(encode: EncodeSettings, info: VideoInfo, threads: int, size: _Size) -> dict[str, str]:
    options = {"deadline": "good", "cpu-used": encode.speed or "3", "row-mt": "1", "b": "0"}
    return {**options, **({"lossless": "1"} if encode.lossless else {"crf": _quality(encode)})}


_OPTIONS: dict[str, Callable[[EncodeSettings, VideoInfo, int, _Size], dict[str, str]]] = {
    "h264": _h264,
    "hevc": _hevc,
    "av1": _av1,
    "ffv1": _ffv1,
    "prores": _prores,
    "vp9": _vp9,
}
