"""Open local video files, and nothing else: no network, no playlists, no scripts."""

import re
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from framelift.errors import InputError
from framelift.memory import most_pixels
from framelift.video.faults import reason

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,"
    "av1,obu,ivf,flv,live_flv,ogg,asf,gif,apng,yuv4mpegpipe,mjpeg,mxf,gxf,nut,rm,wtv,dv,dirac,vc1,"
    "vc1test,swf,nuv,bink,smk,roq,4xm,cine,mlv,mods,avs2,avs3,cavsvideo,webp"
)
IMAGE_FORMATS = "png_pipe,jpeg_pipe,tiff_pipe,bmp_pipe,webp_pipe"
_PLAYLIST = re.compile(
    rb"\s*(ffconcat|#EXTM3U|<\?xml|<MPD|<smil|\[playlist\]|file\s+['\"\w/])", re.IGNORECASE
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/", re.ASCII)  # a drive has one letter only


def open_input(path: Path, demuxer: str | None = None) -> InputContainer:
    """Open a local file for reading; the caller closes the container.

    `demuxer` names a format to insist on. Raises InputError, saying what the file is instead,
    for anything that is not an ordinary media file.
    """
    try:
        if _ADDRESS.match(str(path)) and not path.exists():
            raise InputError(
                f"{path} is an address; only local files are read.",
                "Download the video first and name the file.",
            )
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a video.", "Name a video file.")
        if not path.exists():
            raise InputError(f"{path} does not exist.", "Check the name and the folder.")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes).", "Copy or download the video again.")
        return av.open(
            f"file:{path.absolute()}",
            mode="r",
            format=demuxer,
            metadata_errors="replace",
            options={
                "format_whitelist": demuxer or f"{FORMATS},{IMAGE_FORMATS}",
                "protocol_whitelist": "file",
                "max_pixels": str(most_pixels()),  # opening decodes a picture of some formats
            },
        )
    except PermissionError as error:
        raise InputError(f"{path} may not be read.", "Check its permissions.") from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise _diagnosis(path, error) from error


def _diagnosis(path: Path, error: BaseException) -> InputError:
    """Say what a file that libav refused really is, from its first bytes."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as unreadable:
        return InputError(f"{path} cannot be read: {reason(unreadable)}.", "Check the file.")
    if _PLAYLIST.match(head):
        return InputError(
            f"{path} is a playlist or a script, not a video.", "Name the video file itself."
        )
    if head[4:8] in (b"ftyp", b"mdat", b"free", b"wide", b"skip") and not _has_index(path):
        return InputError(
            f"{path} is incomplete: its index (moov) is missing.",
            "The recording or download was cut off; copy the video again or repair it.",
        )
    if _is_text(head):
        return InputError(f"{path} is a text file, not a video.", "Name a video file.")
    return InputError(
        f"{path} is not a video that can be read: {reason(error)}.",
        "Check that it plays elsewhere, or convert it to mp4 or mkv first.",
    )


def _has_index(path: Path) -> bool:
    """Whether one of the top-level boxes of an mp4 file is its index."""
    size = path.stat().st_size
    place = 0
    with path.open("rb") as stream:
        while place + 16 <= size:
            stream.seek(place)
            header = stream.read(16)
            length = int.from_bytes(header[:4])
            length = int.from_bytes(header[8:]) if length == 1 else length
            if header[4:8] == b"moov":
                return place + length <= size
            if length < 8:
                return False
            place += length
    return False


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4
    return True
