"""`framelift upscale`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from framelift.cli.show import Display, complain, say, stop_signals
from framelift.engine.settings import UpscaleSettings
from framelift.errors import Exit, FrameliftError, StoppedError, UsageError
from framelift.files import to_json


def upscale(
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    settings: UpscaleSettings = UpscaleSettings(),  # noqa: B008 (frozen)
    downscale: int | None = None,
    blur_sigma: float | None = None,
    dry_run: bool = False,
    json: bool = False,
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False,
) -> int:
    """Make videos larger and sharper.

    The output has the frames, times, sound, subtitles, chapters and tags of the input. An
    interrupted run continues when the same command is given again.

    Args:
        inputs: Videos, folders of videos, folders of images, or patterns as in frames/%05d.png.
        output: Where to write: a video file, or a folder (an existing one, or for several inputs);
            a name without suffix becomes a folder of PNG images.
        settings: Settings of the run.
        downscale: For methods that invert a known degradation (vdm-vsr): the input is every n-th
            pixel of what is wanted.
        blur_sigma: For the same methods: deviation of the blur before that, in output pixels.
        dry_run: Show what would be done, and stop.
        json: Print the record of the run, or the plan, as JSON on standard output.
        quiet: Show no progress.
    """
    from framelift.engine.job import collect_inputs

    if not inputs:
        raise UsageError("No input is given.", "Name a video: framelift upscale clip.mp4")
    settings = _with_operator(settings, downscale, blur_sigma)
    sources = collect_inputs(inputs)
    several = len(sources) > 1
    if several and output is not None and not output.is_dir():
        raise UsageError(
            f"Several inputs cannot all become {output}.", "Name an existing folder as --output."
        )
    results: list[dict[str, Any]] = []
    codes = [Exit.OK]
    for number, source in enumerate(sources, start=1):
        about = f"[{number}/{len(sources)}] {source}" if several else ""
        try:
            code, record = _one(source, output, settings, dry_run, quiet or json, about)
            results.append(record)
        except StoppedError:
            raise
        except FrameliftError as error:
            if not several:
                raise
            complain(error, about)
            code = error.exit_code
            results.append({"input": str(source), "error": str(error), "exit_code": int(code)})
        codes.append(code)
    if json:
        _print_json(results if several else results[0])
    return max(codes)


def _with_operator(
    settings: UpscaleSettings, downscale: int | None, blur_sigma: float | None
) -> UpscaleSettings:
    """The operator as options of the method; its factor is also the enlargement, if none is set."""
    if downscale is not None and downscale < 1:
        raise UsageError(f"--downscale is {downscale}.", "Use a factor of 1 or more.")
    named = {"downscale": downscale, "blur_sigma": blur_sigma}
    options = tuple(f"{name}={value}" for name, value in named.items() if value is not None)
    scale = settings.scale
    if downscale is not None and scale is None and settings.height is None:
        scale = float(downscale)
    return replace(settings, options=(*settings.options, *options), scale=scale)


def _one(
    source: Path,
    output: Path | None,
    settings: UpscaleSettings,
    dry_run: bool,
    quiet: bool,
    about: str,
) -> tuple[Exit, dict[str, Any]]:
    from framelift.engine.job import default_output
    from framelift.video.probe import probe

    if output is not None and output.is_dir() and not _holds_frames(output):
        output = output / default_output(source, probe(source), settings).name
    if dry_run:
        return Exit.OK, _describe(source, output, settings, quiet)

    with Display(about or str(source), quiet) as display, stop_signals() as stop:
        display.note("loading")
        from framelift.engine.upscale import upscale as run

        result = run(source, output, settings, on_progress=display, should_stop=lambda: bool(stop))
    seconds = sum(result.record["seconds"].values())
    if not quiet:
        say(f"{result.output}: {result.record['frames']} frames in {seconds:.1f} s")
    return result.exit_code, result.record


def _holds_frames(folder: Path) -> bool:
    """Whether a folder is an earlier output of images, to be replaced rather than written into."""
    return any(folder.glob("[0-9][0-9][0-9][0-9][0-9].png"))


def _describe(
    source: Path, output: Path | None, settings: UpscaleSettings, quiet: bool
) -> dict[str, Any]:
    """What would be done, from the headers alone."""
    from dataclasses import asdict

    from framelift.engine.upscale import open_job

    _, job = open_job(source, output, settings)
    plan = {
        "input": str(source),
        "output": str(job.output),
        "input_size": [job.info.width, job.info.height],
        "output_size": [job.width, job.height],
        "frames": job.info.frames,
        "audio": list(job.info.audio),
        "subtitles": list(job.info.subtitles),
        "warnings": list(job.info.warnings),
        "settings": asdict(settings),
    }
    if not quiet:
        sound = ", ".join(job.info.audio) or "none"
        subtitles = ", ".join(job.info.subtitles) or "none"
        say(
            f"{source}: {job.info.width}×{job.info.height}, {job.info.frames or '?'} frames\n"
            f"→ {job.output}: {job.width}×{job.height}, {job.encode.codec}\n"
            f"  audio: {sound}; subtitles: {subtitles}; nothing was written"
        )
    return plan


def _print_json(content: Any) -> None:
    sys.stdout.write(to_json(content) + "\n")
