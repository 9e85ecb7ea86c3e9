"""Side streams that a container holds only in another codec: raw sound and text subtitles."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from framelift.video.containers import describe_like

_TEXT = {"mp4": "mov_text", "mov": "mov_text", "webm": "webvtt", "matroska": "subrip"}
_BROADCAST = ("eia_608", "dvb_teletext")  # their texts have no end; only their own copy is exact
_RAW = {
    "u8": ("pcm_u8", "pcm_s16le"),
    "s16": ("pcm_s16le",),
    "s32": ("pcm_s32le",),
    "flt": ("pcm_f32le",),
    "dbl": ("pcm_f64le",),
}
_24_BITS = ("pcm_dvd", "pcm_bluray", "pcm_s24")  # decoded into the upper bits of 32


@dataclass(frozen=True)
class Track:
    """A stream of the output, and how a packet of the source becomes packets of it.

    `convert` keeps the times of the packet it is given, which must have both.
    """

    stream: Stream
    convert: Callable[[Packet], Iterable[Packet]] = lambda packet: (packet,)


def sound_encoders(stream: AudioStream) -> tuple[str, ...]:
    """Encoders that keep every sample of a raw sound stream; none for compressed sound."""
    context = stream.codec_context
    if context is None or not context.codec.name.startswith("pcm_") or context.format is None:
        return ()
    name = context.format.name.rstrip("p")
    deep = name == "s32" and context.codec.name.startswith(_24_BITS)
    return ("pcm_s24le",) if deep else _RAW.get(name, ())


def add_sound(container: OutputContainer, stream: AudioStream, encoder: str) -> Track:
    """Add `stream` as raw sound of the kind `encoder` names."""
    source: Any = stream.codec_context
    new: Any = container.add_stream(encoder, rate=source.sample_rate)
    new.codec_context.layout = source.layout
    new.time_base = Fraction(1, source.sample_rate)
    resampler = AudioResampler(format=new.codec_context.format)  # widens, never rounds

    def convert(packet: Packet) -> list[Packet]:
        at = packet.pts * packet.time_base if packet.pts is not None else Fraction(0)
        packets: list[Packet] = []
        for decoded in source.decode(packet):
            for frame in resampler.resample(decoded):
                frame.pts = None
                for raw in new.encode(frame):
                    _stamp(raw, at, Fraction(frame.samples, source.sample_rate), new.time_base)
                    packets.append(raw)
                at += Fraction(frame.samples, source.sample_rate)
        return packets

    return Track(describe_like(new, stream), convert)


def text_encoder(stream: SubtitleStream, form: str) -> str | None:
    """The encoder whose text subtitles a container holds; None if `stream` is not plain text."""
    codec = stream.codec_context.codec if stream.codec_context else None
    if codec is None or not codec.text_sub or codec.canonical_name in _BROADCAST:
        return None
    return _TEXT[form]


def add_text(container: OutputContainer, stream: SubtitleStream, encoder: str) -> Track:
    """Add `stream` as text subtitles of the kind `encoder` names."""
    source: Any = stream.codec_context
    source.open(strict=False)
    new: Any = container.add_stream(encoder)
    new.codec_context.subtitle_header = source.subtitle_header or b""
    new.time_base = Fraction(1, 1000)

    def convert(packet: Packet) -> list[Packet]:
        shown = source.decode2(packet)
        if shown is None or not len(shown):
            return []  # an empty sample, which only says that nothing is shown
        text = new.codec_context.encode_subtitle(shown)
        base = packet.time_base
        _stamp(text, (packet.pts or 0) * base, (packet.duration or 0) * base, Fraction(1, 1000))
        text.stream = new
        return [text]

    return Track(describe_like(new, stream), convert)


def _stamp(packet: Packet, start: Fraction, length: Fraction, time_base: Fraction) -> None:
    packet.time_base = time_base
    packet.pts = packet.dts = round(start / time_base)
    packet.duration = round((start + length) / time_base) - packet.pts
    packet.is_keyframe = True
