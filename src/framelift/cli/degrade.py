"""`framelift degrade`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from framelift.cli.show import Display, say
from framelift.errors import Exit
from framelift.types import EncodeSettings


def degrade(
    clip: tyro.conf.Positional[Path],
    recipe: str = "bi",
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    scale: int | None = None,
    seed: int = 0,
    encode: EncodeSettings = EncodeSettings(lossless=True),  # noqa: B008 (frozen)
    overwrite: bool = False,
    json: bool = False,
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False,
) -> int:
    """Make a small, bad video of a good one, as tests and training need.

    The output has the times, sound and subtitles of the input; beside it, a JSON file holds the
    recipe and the parameters that were drawn.

    Args:
        clip: A video, a folder of images, or a pattern as in frames/%05d.png.
        recipe: bi, bd, vdm_vsr, compressed, mild, realworld, realesrgan, shake, or a TOML file.
        output: Where to write (default: clip_lr.mkv); a name without suffix becomes a folder of
            PNG images.
        scale: How many times smaller, instead of the recipe's.
        seed: Seed of the random parameters; they also depend on the clip's name.
        encode: Compression of the output: without loss unless --crf or --no-lossless is given.
        overwrite: Replace an existing output.
        json: Print the record as JSON on standard output.
        quiet: Show no progress.
    """
    from framelift.degrade.recipe import load_recipe
    from framelift.engine.job import check_output
    from framelift.files import to_json
    from framelift.video.containers import check_output as check_container
    from framelift.video.probe import probe

    loaded = load_recipe(recipe)
    if encode.crf is not None:
        encode = replace(encode, lossless=False)
    info = probe(clip)
    output = output or _default(clip, info.is_images)
    if output.suffix:
        check_container(output, encode.codec)
    check_output(clip, output, overwrite)

    from framelift.degrade.degradation import Degradation
    from framelift.degrade.file import degrade_file

    degradation = Degradation(loaded, scale, seed)
    with Display(str(clip), quiet or json) as display, _tidy_on_sigterm():
        done = degrade_file(clip, output, degradation, encode, display)
    for warning in done.warnings:
        say(f"warning: {warning}")
    if json:
        sys.stdout.write(to_json(done.record) + "\n")
    elif not quiet:
        say(f"{done.output}: {done.record['frames']} frames, recipe {loaded.name}, seed {seed}")
    return 0


@contextmanager
def _tidy_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that unfinished files are removed."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(Exit.TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _default(clip: Path, is_images: bool) -> Path:
    """`clip.mp4` → `clip_lr.mkv`; images become images."""
    if not is_images:
        return clip.with_name(f"{clip.stem}_lr.mkv")
    folder = clip if clip.is_dir() else clip.parent
    return folder.with_name(f"{folder.resolve().name}_lr")
