"""Encode one segment of the output video."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av import VideoFrame
from av.packet import Packet
from av.video.stream import VideoStream

from framelift.errors import UsageError
from framelift.files import sync
from framelift.types import EncodeSettings, VideoInfo
from framelift.video.color import FromRGB, stamp
from framelift.video.encoders import plan
from framelift.video.faults import writing
from framelift.video.side_data import CAPTIONS, CARRIED, reshaped

# A segment stores frame numbers, not times: Matroska counts milliseconds, so number n is written
# at n * 40 ms and read back exactly whatever the time base of the video.
SEGMENT_TICK = Fraction(1, 25)


@dataclass(frozen=True)
class Segment:
    """A finished piece of the output, with the presentation time of each of its frames.

    `pts` and `durations` are in the time base of the source and in presentation order. `path` is
    a Matroska file, or a folder of images.
    """

    path: Path
    pts: list[int]
    durations: list[int]


class SegmentWriter:
    """Encodes consecutive frames into one Matroska file that starts with a key frame.

    `width` and `height` are those of the frames handed to `write`. The same settings, `info` and
    `threads` give the same headers and, for the same frames, the same bytes. Raises UsageError
    for impossible settings, NoRoomError when the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        info: VideoInfo,
        encode: EncodeSettings,
        threads: int = 2,
    ) -> None:
        self.path = path
        encoding = plan(encode, info, width, height, threads)
        self.padding = encoding.padding
        self.warnings = encoding.warnings
        self._size = height, width
        self._captions = encode.codec in CARRIED[CAPTIONS]
        self._pts: list[int] = []
        self._durations: list[int] = []
        self._convert = FromRGB(encoding.pixel_format, encoding.color)
        self._tick = 1 / info.rate
        with writing(path):
            self._container = av.open(f"file:{path.absolute()}", "w", format="matroska")
        stream = self._container.add_stream(encoding.encoder, rate=info.rate)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        context = self._stream.codec_context
        context.width, context.height = encoding.width, encoding.height
        context.pix_fmt = encoding.pixel_format
        context.options = dict(encoding.options)
        context.time_base = self._tick
        context.thread_count = threads
        context.thread_type = "FRAME"
        if info.sample_aspect_ratio > 0:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        stamp(context, self._convert.color)
        self._open(encode)

    def _open(self, encode: EncodeSettings) -> None:
        context = self._stream.codec_context
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes to stderr itself: only errors
        try:
            with writing(self.path):
                self._container.start_encoding()
        except Exception as error:
            self.abort()
            if isinstance(error.__cause__, av.error.FFmpegError) and not context.is_open:
                raise UsageError(
                    f"The {encode.codec} encoder refuses {context.width}x{context.height} pixels "
                    f"in {context.pix_fmt}.",
                    "Choose another codec (ffv1 takes every size), pixel format or scale.",
                ) from error
            raise

    def write(
        self, rgb: np.ndarray, pts: int, duration: int, captions: VideoFrame | None = None
    ) -> None:
        """Encode one frame: RGB [H, W, 3], uint8 or uint16 over 0..65535; times as in Segment.

        `captions` is a picture whose closed captions the frame takes over, where h264 or hevc is
        written.
        """
        assert rgb.shape == (*self._size, 3), (rgb.shape, self._size)
        right, bottom = self.padding
        if right or bottom:
            rgb = np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="edge")
        frame = self._convert(rgb)
        if captions is not None and self._captions:
            frame = self._captioned(frame, captions)
        frame.pts, frame.time_base = len(self._pts), self._tick
        self._pts.append(pts)
        self._durations.append(duration)
        with writing(self.path):
            self._mux(self._stream.encode(frame))

    def _captioned(self, frame: VideoFrame, captions: VideoFrame) -> VideoFrame:
        """The pixels of `frame` in a picture that has the side data of `captions`."""
        carrier = reshaped(captions, frame.width, frame.height, frame.format.name)
        for plane, pixels in zip(carrier.planes, frame.planes, strict=True):
            plane.update(bytes(pixels))
        stamp(carrier, self._convert.color)
        return carrier

    def close(self) -> Segment:
        """Finish the file and bring it to the disk."""
        try:
            with writing(self.path):
                if self._pts:
                    self._mux(self._stream.encode(None))
                self._container.close()
                sync(self.path)
        except BaseException:
            self.abort()
            raise
        return Segment(self.path, self._pts, self._durations)

    def abort(self) -> None:
        """Give the segment up and delete its file."""
        try:
            self._container.close()
        except (OSError, ValueError, av.error.FFmpegError):
            pass  # the file goes anyway
        finally:
            self.path.unlink(missing_ok=True)

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            packet.time_base = SEGMENT_TICK
            packet.duration = 1
            if len(self._pts) <= 2:  # too few to be reordered; x265 leaves their dts uninitialised
                packet.dts = packet.pts
            self._container.mux(packet)
