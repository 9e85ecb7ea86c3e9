"""`framelift upscale`."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro

from framelift.cli.show import Display, complain, say, stop_signals
from framelift.distributed.settings import ClusterSettings
from framelift.engine.settings import UpscaleSettings
from framelift.errors import Exit, FrameliftError, StoppedError, UsageError
from framelift.files import to_json
from framelift.heap import keep_freed_memory
from framelift.types import Deinterlace


def upscale_command(words: Sequence[str]) -> Callable[..., int]:
    """The command, with the settings of the method that `words` name among its options."""
    kind = _settings_of(words)

    def upscale(
        inputs: tyro.conf.Positional[tuple[Path, ...]],
        output: Annotated[str | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None,
        settings: UpscaleSettings = UpscaleSettings(),  # noqa: B008 (frozen)
        method_settings: kind = kind(),  # pyright: ignore[reportInvalidTypeForm] # noqa: B008
        cluster: ClusterSettings = ClusterSettings(),  # noqa: B008 (frozen)
        dry_run: bool = False,
        json: bool = False,
        quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False,
    ) -> int:
        """Make videos larger and sharper.

        The output has the frames, times, sound, subtitles, chapters and tags of the input. An
        interrupted run continues when the same command is given again.

        Args:
            inputs: Videos, folders of videos, folders of images, or patterns as in
                frames/%05d.png.
            output: Where to write: a video or picture file, or a folder (an existing one, one that
                ends in a slash, or for several inputs); a name without suffix becomes a folder of
                PNG images.
            settings: Settings of the run.
            method_settings: Settings of the method (with --method or --preset, those of that one).
            cluster: Several processes and machines.
            dry_run: Show what would be done, and stop.
            json: Print the record of the run, or the plan, as JSON on standard output; with
                --cluster, a line of JSON for each change of a video.
            quiet: Show no progress.
        """
        if not inputs:
            raise UsageError("No input is given.", "Name a video: framelift upscale clip.mp4")
        if cluster.cluster is not None:
            from framelift.cli.cluster import upscale_on_cluster

            folder = Path(output) if output else None
            return upscale_on_cluster(
                inputs, folder, settings, method_settings, cluster, dry_run, json, quiet
            )
        run = _Run(settings, method_settings, dry_run, quiet or json)
        records, code = run(inputs, output)
        if json:
            sys.stdout.write(to_json(records) + "\n")
        return code

    return upscale


def _settings_of(words: Sequence[str]) -> type:
    """The settings class of the method that a command line names, or of the default preset."""
    from framelift.methods.registry import method_of
    from framelift.weights.presets import load_preset

    named: dict[str, str] = {}
    for word, following in pairwise([*words, ""]):
        for option in ("--preset", "--method", "--weights-dir"):
            if word == option or word.startswith(f"{option}="):
                named[option] = word.partition("=")[2] or following
    if any(value.startswith("-") for value in named.values()):
        named = {}  # tyro says what is missing
    mirrors = Path(named["--weights-dir"]) if "--weights-dir" in named else None
    preset = load_preset(named.get("--preset") or named.get("--method"), mirrors)
    return method_of(preset).settings_class()


def with_deinterlacer(words: Sequence[str]) -> list[str]:
    """`--deinterlace` alone, or followed by what is none of its values, means bwdif."""
    if words[:1] != ["upscale"]:
        return list(words)
    spelled = {"True": "bwdif", "true": "bwdif", "False": "no", "false": "no"}
    result: list[str] = []
    for word, following in pairwise([*words, ""]):
        if word == "--no-deinterlace":
            result += ["--deinterlace", "no"]
        elif result[-1:] == ["--deinterlace"] and word in spelled:
            result.append(spelled[word])
        else:
            result.append(word)
            if word == "--deinterlace" and following not in (*get_args(Deinterlace), *spelled):
                result.append("bwdif")
    return result


class _Run:
    """One call of the command: a single input, or a batch in which each stands for itself."""

    def __init__(self, settings: UpscaleSettings, method: Any, dry_run: bool, quiet: bool) -> None:
        self.settings, self.method = settings, method
        self.dry_run, self.quiet = dry_run, quiet
        self._made: Path | None = None

    def __call__(self, inputs: Sequence[Path], named: str | None) -> tuple[Any, int]:
        """Records (of a single input its own) and the exit code."""
        from framelift.engine.batch import collect_inputs, folders_left_out, plan_batch
        from framelift.engine.job import choose_method

        keep_freed_memory()
        output = Path(named) if named else None
        sources = collect_inputs(inputs)
        for folder in folders_left_out(inputs):
            say(f"note: the folder {folder} is not entered; name it to upscale what it holds.")
        _, _, scale = choose_method(self.settings, self.method)
        if len(sources) == 1 and not (inputs[0].is_dir() and sources[0] != inputs[0]):
            record, code = self._one(sources[0], self._place(sources[0], named, scale))
            return record, code
        records, codes = [], [Exit.OK]
        items = plan_batch(sources, output, self.settings, scale)
        for number, item in enumerate(items, start=1):
            about = f"[{number}/{len(items)}] {item.source}"
            if item.done:
                say(f"{about}: {item.output} is there already.") if not self.quiet else None
                record, code = {"input": str(item.source), "output": str(item.output)}, Exit.OK
            else:
                record, code = self._guarded(item.source, item.output, item.problem, about)
            records.append(record)
            codes.append(code)
        return records, max(codes)

    def _place(self, source: Path, named: str | None, scale: float) -> Path | None:
        """A folder as --output holds the result under its usual name: one that is there, or that a
        slash behind its name calls one, which is made. Frames become a folder of frames anyway."""
        from framelift.engine.job import default_output
        from framelift.video.faults import make_folder
        from framelift.video.probe import probe

        if not named:
            return None
        output = Path(named)
        new = named.endswith(("/", os.sep)) and not output.exists()
        if not new and (not output.is_dir() or _holds_frames(output)):
            return output
        info = probe(source, scale=self.settings.scale or scale)
        if new and info.is_images and not source.is_file():
            return output
        if new:
            make_folder(output)
            self._made = output
        return output / default_output(source, info, self.settings, scale).name

    def _guarded(
        self, source: Path, output: Path | None, problem: FrameliftError | None, about: str
    ) -> tuple[dict[str, Any], Exit]:
        """Upscale an input of a batch; whatever happens to it, the others go on."""
        from framelift.cli.main import explain

        try:
            if problem is not None:
                raise problem
            return self._one(source, output, about)
        except StoppedError:
            raise
        except Exception as error:
            if os.environ.get("FRAMELIFT_DEBUG"):
                raise
            shown = explain(error)
            complain(shown, about)
            code = shown.exit_code
            return {"input": str(source), "error": str(shown), "exit_code": int(code)}, code

    def _one(
        self, source: Path, output: Path | None, about: str = ""
    ) -> tuple[dict[str, Any], Exit]:
        if self.dry_run:
            try:
                return self._describe(source, output), Exit.OK
            finally:
                if self._made is not None:
                    self._made.rmdir()
        with Display(about or str(source), self.quiet) as display, stop_signals() as stop:
            display.note("loading")
            from framelift.engine.upscale import upscale as run

            result = run(
                source,
                output,
                self.settings,
                method=self.method,
                on_progress=display,
                should_stop=lambda: bool(stop),
            )
        if not self.quiet:
            seconds, frames = result.record["seconds"]["total"], result.record["frames"]
            say(f"{result.output}: {frames} frames in {seconds:.1f} s")
        return result.record, result.exit_code

    def _describe(self, source: Path, output: Path | None) -> dict[str, Any]:
        """What would be done, from the headers alone."""
        from framelift.engine.upscale import open_job

        _, job, method = open_job(source, output, self.settings, self.method)
        info = job.info
        plan = {
            "input": str(source),
            "output": str(job.output),
            "input_size": [info.width, info.height],
            "output_size": [job.width, job.height],
            "frames": info.frames,
            "audio": list(info.audio),
            "subtitles": list(info.subtitles),
            "warnings": [*info.warnings, *job.warnings],
            "settings": asdict(self.settings),
            "method_settings": asdict(method),
        }
        if not self.quiet:
            for warning in plan["warnings"]:
                say(f"warning: {warning}")
            sound = ", ".join(info.audio) or "none"
            subtitles = ", ".join(info.subtitles) or "none"
            say(
                f"{source}: {info.width}×{info.height}, {info.frames or '?'} frames\n"
                f"→ {job.output}: {job.width}×{job.height}, {job.encode.codec}\n"
                f"  audio: {sound}; subtitles: {subtitles}; nothing was written"
            )
        return plan


def _holds_frames(folder: Path) -> bool:
    """Whether a folder is an earlier output of images, to be replaced rather than written into."""
    return any(folder.glob("[0-9][0-9][0-9][0-9][0-9].png"))
