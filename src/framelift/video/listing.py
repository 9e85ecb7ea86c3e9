"""What libav's own listing of a file tells and PyAV has no attribute for: tags and side data."""

import re
import threading
from dataclasses import dataclass
from typing import Any

import av.logging
from av.container import InputContainer

_STREAM = re.compile(r"  Stream #0:(\d+)\S*: \w+: (\S+)(.*)")
_TAG = re.compile(r"\((\S{4}) / 0x[0-9A-Fa-f]{8}\)")
_NAMELESS = ("none", "unknown")
_log = threading.Lock()  # the level of libav's log is one for the whole process


@dataclass(frozen=True)
class Listed:
    """One stream: `codec` is empty where libav does not know it, `tag` is the container's name.

    `side_data` holds the lines about it, as in "spherical: equirectangular (0.0/0.0/0.0)".
    """

    codec: str = ""
    tag: str = ""
    side_data: tuple[str, ...] = ()


def listing(container: InputContainer) -> dict[int, Listed]:
    """The streams of an open file by index."""
    found: dict[int, Listed] = {}
    index, inside = -1, False
    for line in _dump(container).splitlines():
        if match := _STREAM.match(line):
            index, inside = int(match[1]), False
            codec = match[2].rstrip(",")
            tag = _TAG.search(match[3])
            found[index] = Listed("" if codec in _NAMELESS else codec, tag[1] if tag else "")
        elif line.strip() in ("Side data:", "Metadata:"):
            inside = line.strip() == "Side data:"
        elif inside and index in found and line.strip():
            known = found[index]
            side_data = (*known.side_data, line.strip())
            found[index] = Listed(known.codec, known.tag, side_data)
    return found


def _dump(container: InputContainer) -> str:
    with _log:
        before = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            dumped: Any = container  # PyAV's annotations leave `dumps_format` out
            return dumped.dumps_format()
        finally:
            av.logging.set_level(before)
