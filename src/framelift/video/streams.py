"""What becomes of every stream that is not the picture, decided before any work."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from framelift.types import Codec
from framelift.video.containers import (
    container_format,
    copy_stream,
    copy_verbatim,
    fits,
    is_quicktime,
    suffixes_for,
)
from framelift.video.convert import Track, add_sound, add_text, sound_encoders, text_encoder
from framelift.video.listing import Listed, listing
from framelift.video.open import open_input
from framelift.video.probe import is_cover, label, pictures

COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
Way = Literal["copy", "verbatim", "attach", "sound", "text"]


@dataclass(frozen=True)
class Decision:
    """How the stream `index` of the source gets into the output; `encoder` if it is converted."""

    index: int
    way: Way
    encoder: str = ""


def decide(source: InputContainer, form: str, codec: Codec) -> tuple[list[Decision], list[str]]:
    """Decide for every stream but the pictures; the warnings name what is changed or left out.

    `form` is libav's name of the output's container, `codec` that of its video, which limits the
    containers that a warning may offer instead.
    """
    decisions: list[Decision] = []
    warnings: list[str] = []
    listed = listing(source)
    shown = {s.index for s in pictures(source)}
    for stream in source.streams:
        facts = listed.get(stream.index, Listed())
        if stream.index in shown or _is_written_anew(source, stream, facts):
            continue
        decision = _way(stream, facts, form)
        if decision is None:
            others = [
                suffix
                for other, suffix in suffixes_for(codec).items()
                if other != form and _way(stream, facts, other)
            ]
            offer = f"; {' or '.join(others)} can" if others else ""
            known = facts.codec or stream.type == "attachment"
            why = f"{form} cannot hold it{offer}" if known else "its kind is not known"
            warnings.append(f"The {_name(stream, facts)} is left out: {why}.")
            continue
        decisions.append(decision)
        if decision.encoder:
            what = "sample for sample" if decision.way == "sound" else "the text with its times"
            warnings.append(
                f"The {_name(stream, facts)} becomes {decision.encoder}, {what}: {form} cannot "
                f"hold {facts.codec}."
            )
    return decisions, warnings


def side_warnings(source: Path, output: Path, codec: Codec) -> list[str]:
    """What `decide` says of a video file and the name of its output."""
    with open_input(source) as container:
        return decide(container, container_format(output), codec)[1]


def _way(stream: Stream, facts: Listed, form: str) -> Decision | None:
    """The first way that loses nothing, None if there is none."""
    index = stream.index
    if form == "matroska" and is_cover(stream) and facts.codec in COVERS:
        return Decision(index, "attach")
    if not _can_be_described(stream, facts, form):
        return None
    if fits(form, lambda out: copy_stream(out, stream)):
        return Decision(index, "copy")
    if stream.type not in ("audio", "subtitle"):
        return None
    own_tags = form == "matroska" or stream.container.format.name.startswith("mov")
    if own_tags and fits(form, lambda out: copy_verbatim(out, stream)):  # mov takes any tag
        return Decision(index, "verbatim")
    if isinstance(stream, AudioStream):
        for encoder in sound_encoders(stream):
            if fits(form, partial(add_sound, stream=stream, encoder=encoder)):
                return Decision(index, "sound", encoder)
    if isinstance(stream, SubtitleStream):
        text = text_encoder(stream, form)
        if text and fits(form, partial(add_text, stream=stream, encoder=text)):
            return Decision(index, "text", text)
    return None


def _can_be_described(stream: Stream, facts: Listed, form: str) -> bool:
    """Whether a track of this kind gets a description that players can read.

    The mp4 family takes any data track and then leaves its description empty, but for GoPro's.
    """
    if stream.type == "attachment":
        return True
    if stream.type == "data" and is_quicktime(form):
        return facts.tag == "gpmd"
    return bool(facts.codec)


def _is_written_anew(source: InputContainer, stream: Stream, facts: Listed) -> bool:
    """What the output gets from elsewhere: chapters kept as text as well, the timecode track.

    The mp4 family keeps chapters twice, and its writer makes a timecode track of the timecode that
    stands in the metadata of the picture.
    """
    if stream.type != "data":
        return False
    if facts.tag == "tmcd":
        return "timecode" in stream.metadata
    return facts.codec == "bin_data" and facts.tag == "text" and bool(source.chapters())


def _name(stream: Stream, facts: Listed) -> str:
    kind = "cover picture" if is_cover(stream) else f"{stream.type} stream"
    if stream.type == "attachment":
        kind = "attachment"
    return f"{kind} #{stream.index} ({stream.metadata.get('filename') or label(stream, facts)})"


def add(
    output: OutputContainer, source: InputContainer, path: Path, decision: Decision
) -> Track | None:
    """Add a stream as decided; None for what lies in the output's header already."""
    stream = source.streams[decision.index]
    if decision.way == "attach":
        _attach_cover(output, path, stream)
        return None
    if decision.way == "sound":
        return add_sound(output, cast(AudioStream, stream), decision.encoder)
    if decision.way == "text":
        return add_text(output, cast(SubtitleStream, stream), decision.encoder)
    copy = copy_stream if decision.way == "copy" else copy_verbatim
    track = copy(output, stream)
    return None if stream.type == "attachment" else Track(track)


def _attach_cover(output: OutputContainer, path: Path, stream: Stream) -> None:
    """Matroska keeps cover art as an attached file."""
    name, mime = COVERS[stream.codec_context.codec.canonical_name]
    with open_input(path) as again:
        cover = next((p for p in again.demux(again.streams[stream.index]) if p.size), None)
    if cover is not None:
        output.add_attachment(stream.metadata.get("filename", name), mime, bytes(cover))
