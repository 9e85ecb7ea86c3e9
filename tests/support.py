"""Small real videos, made at test time."""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from framelift.types import EncodeSettings, VideoInfo
from framelift.video import color, probe
from framelift.video.write import Segment, SegmentWriter

SIZE = (48, 64)  # H, W
WEIGHTS = Path(__file__).parents[1] / "../shared/weights"
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR = f"hdr10=1:master-display={MASTERING}:max-cll=1000,400:log-level=none"


def find_weights(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let torchvision find these files: where TORCH_HOME says, or in ../shared/weights; or skip."""
    import torch

    for home in (Path(torch.hub.get_dir()).parent, WEIGHTS):
        if all((home / "hub/checkpoints" / name).exists() for name in names):
            monkeypatch.setenv("TORCH_HOME", str(home))
            return
    pytest.skip(
        f"runs where {', '.join(names)} lie in $TORCH_HOME/hub/checkpoints or below "
        "../shared/weights: tests download nothing"
    )


def small_vae() -> Any:
    """The published ×4 upscaler's autoencoder, shrunk, with random weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.08333,
    )


def patches(index: int, size: tuple[int, int] = SIZE, depth: int = 8) -> np.ndarray:
    """A picture of flat 16-pixel patches whose colours tell the frame index: [H, W, 3]."""
    height, width = size
    rng = np.random.default_rng(100 + index)
    small = rng.integers(40, 216, (-(-height // 16), -(-width // 16), 3))
    large = np.kron(small, np.ones((16, 16, 1), int))[:height, :width]
    return (large * 257).astype(np.uint16) if depth > 8 else large.astype(np.uint8)


def moving(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth picture that moves, so that encoders use B-frames: [H, W, 3] uint8."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin((x + 2 * index) / 9 + c) + np.cos((y - index) / 7 - c) for c in range(3)]
    return np.stack([128 + 50 * w for w in waves], axis=2).astype(np.uint8)


def srt(text: str) -> bytes:
    return text.encode()


def make_video(
    path: Path,
    *,
    frames: int = 24,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    picture: Callable[..., np.ndarray] = moving,
    rate: Fraction = Fraction(24),
    time_base: Fraction | None = None,
    pts: Sequence[int] | None = None,
    tags: color.ColorTags | None = None,
    sar: Fraction | None = None,
    rotation: tuple[int, bool] | None = None,
    audio: float | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    attachment: bytes | None = None,
    cover: bytes | None = None,
    metadata: dict[str, str] | None = None,
    interlaced: bool = False,
    video: bool = True,
) -> Path:
    """Encode a video file with everything that was asked for; `audio` is its length in seconds."""
    time_base = time_base or 1 / rate
    quicktime = path.suffix in (".mp4", ".mov")
    scale = {"video_track_timescale": str(time_base.denominator)} if quicktime else {}
    with av.open(f"file:{path}", "w", container_options=scale) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate, options=dict(options or {})) if video else None
        if stream is not None:
            stream.width, stream.height, stream.pix_fmt = size[1], size[0], pix_fmt
            stream.codec_context.time_base = stream.time_base = time_base
            stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "FRAME"
            stream.metadata["language"] = "deu"
            tags = tags or color.ColorTags()
            color.stamp(stream.codec_context, tags)
            if sar:
                stream.codec_context.sample_aspect_ratio = sar
            if rotation:
                stream.set_display_rotation(rotation[0], hflip=rotation[1])
        sound = out.add_stream("aac", rate=48000) if audio is not None else None
        text = out.add_mux_stream("subrip", time_base=Fraction(1, 1000)) if subtitles else None
        if attachment is not None:
            out.add_attachment("font.ttf", "application/x-truetype-font", attachment)
        image = None
        if cover is not None and quicktime:
            image = out.add_stream("png", rate=1)
            image.width, image.height, image.pix_fmt = 16, 16, "rgb24"
            image.disposition = 1 << 10
        elif cover is not None:
            out.add_attachment("cover.png", "image/png", cover)
        if chapters:
            out.set_chapters(
                [
                    {
                        "id": i,
                        "start": round(a * 1000),
                        "end": round(b * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": t},
                    }
                    for i, (a, b, t) in enumerate(chapters)
                ]
            )
        packets = []
        if stream is not None:
            resolved = tags if tags.matrix != 2 else color.ColorTags(6, tags.range or 1)
            convert = color.FromRGB(pix_fmt, resolved)
            for index in range(frames):
                frame = convert(picture(index, size))
                color.stamp(frame, tags)
                frame.pts = pts[index] if pts is not None else index
                frame.time_base = time_base if pts is not None else 1 / rate
                if pts is None:
                    frame.pts = round(index / rate / time_base)
                    frame.time_base = time_base
                packets += stream.encode(frame)
            packets += stream.encode(None)
        if sound is not None:
            for start in range(0, round(audio * 48000), 1024):
                wave = np.sin(np.arange(start, start + 1024) / 20)[None] * 0.3
                chunk = av.AudioFrame.from_ndarray(
                    np.repeat(wave, 2, 0).astype(np.float32), format="fltp", layout="stereo"
                )
                chunk.sample_rate, chunk.pts, chunk.time_base = 48000, start, Fraction(1, 48000)
                packets += sound.encode(chunk)
            packets += sound.encode(None)
        for start, end, line in subtitles:
            packet = av.Packet(srt(line))
            packet.pts = packet.dts = round(start * 1000)
            packet.duration, packet.time_base = round((end - start) * 1000), Fraction(1, 1000)
            packet.stream = text
            packets.append(packet)
        if image is not None:
            packet = av.Packet(cover)
            packet.pts = packet.dts = 0
            packet.stream, packet.time_base = image, Fraction(1, 1000)
            packets.insert(0, packet)
        packets.sort(key=lambda p: float((p.dts if p.dts is not None else 0) * p.time_base))
        out.mux(packets)
    return path


def segments(
    folder: Path,
    info: VideoInfo,
    pts: Sequence[int],
    durations: Sequence[int],
    *,
    encode: EncodeSettings,
    cuts: Sequence[int] = (),
    size: tuple[int, int] = SIZE,
    picture: Callable[..., np.ndarray] = moving,
    writer: type = SegmentWriter,
) -> list[Segment]:
    """Encode the pictures 0..len(pts)-1 as segments that begin at 0 and at each of `cuts`."""
    folder.mkdir(exist_ok=True)
    done = []
    bounds = [0, *cuts, len(pts)]
    for number, (first, end) in enumerate(itertools.pairwise(bounds)):
        name = f"{number:06d}" + (".mkv" if writer is SegmentWriter else "")
        out = writer(
            folder / name, width=size[1], height=size[0], info=info, encode=encode, threads=1
        )
        for index in range(first, end):
            out.write(picture(index, size), pts[index], durations[index])
        done.append(out.close())
    return done


def cfr(source: Path, frames: int) -> tuple[VideoInfo, list[int], list[int]]:
    """A source's description with the timestamps of its first frames at a constant rate."""
    info = probe.probe(source)
    step = round(1 / (info.rate * info.time_base))
    return info, [info.start_pts + i * step for i in range(frames)], [step] * frames


def decoded(path: Path, pixel_format: str | None = None) -> list[np.ndarray]:
    """Every frame of a file, as arrays."""
    with av.open(f"file:{path}") as container:
        return [
            frame.to_ndarray(**({"format": pixel_format} if pixel_format else {}))
            for frame in container.decode(video=0)
        ]


def payloads(path: Path, kind: str) -> list[tuple[bytes, float]]:
    """Every packet of the first stream of a kind: its bytes and time in seconds."""
    with av.open(f"file:{path}") as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [
            (bytes(p), float(p.pts * p.time_base))
            for p in container.demux(stream)
            if p.size and p.pts is not None
        ]


def shifted(source: Path, target: Path, seconds: float) -> Path:
    """Copy a file with all its times moved by `seconds`, packet by packet."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        copies = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        for packet in old.demux():
            if packet.size and packet.pts is not None:
                ticks = round(seconds / packet.time_base)
                early = packet.pts - round(0.1 / packet.time_base)  # Matroska keeps one time
                dts = packet.dts if packet.dts is not None else early
                packet.pts, packet.dts = packet.pts + ticks, dts + ticks
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    return target


def ffmpeg(*arguments: str | Path) -> None:
    """Run the command-line ffmpeg for what PyAV cannot make; skips the test where it is absent."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("runs where the ffmpeg command is installed: it makes the input")
    command = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    subprocess.run(command, check=True)
