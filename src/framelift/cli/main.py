"""The `framelift` command. Nothing here imports torch before a command needs it."""

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from framelift import __version__
from framelift.cli.data import data
from framelift.cli.degrade import degrade
from framelift.cli.doctor import doctor
from framelift.cli.evaluate import evaluate
from framelift.cli.presets import presets
from framelift.cli.reproduce import reproduce
from framelift.cli.show import complain, say
from framelift.cli.train import train
from framelift.cli.upscale import upscale_command, with_deinterlacer
from framelift.errors import Exit, FrameliftError, InputError, NoRoomError, lacks_memory

repeated = tyro.conf.configure(tyro.conf.UseAppendAction)  # --options a --options b input.mp4


def commands(words: Sequence[str]) -> dict[str, Any]:
    """The commands by name; that of `upscale` depends on the method that `words` name."""
    naming = words if words[:1] == ["upscale"] else []
    return {
        "upscale": upscale_command(naming),
        "train": repeated(train),
        "data": repeated(data),
        "degrade": repeated(degrade),
        "evaluate": evaluate,
        "reproduce": reproduce,
        "presets": presets,
        "doctor": doctor,
    }


DESCRIPTION = """Diffusion-based video super-resolution.

    framelift upscale clip.mp4                 clip_4x.mp4, with sound and subtitles
    framelift upscale clip.mp4 --height 1080   an exact size
    framelift upscale videos/                  every video of a folder
"""
EXIT_CODES = (
    "Exit codes: 0 done, 1 bug, 2 wrong usage, 3 done but input was damaged, 4 bad input, "
    "5 out of memory or disk, 130/143 stopped (the same command continues)."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; errors are sentences, not tracebacks."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words = with_deinterlacer(words)
    if words == ["--version"]:
        sys.stdout.write(f"framelift {__version__}\n")
        sys.exit(Exit.OK)
    for stream in (sys.stdout, sys.stderr):  # file names need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            commands(words),
            prog="framelift",
            description=f"{DESCRIPTION}\n{EXIT_CODES}",
            args=words,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except KeyboardInterrupt as stop:
        say("framelift: stopped.")
        code = Exit.TERMINATED if signal.SIGTERM in stop.args else Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    except Exception as error:
        if os.environ.get("FRAMELIFT_DEBUG") and not isinstance(error, FrameliftError):
            raise
        shown = explain(error)
        complain(shown)
        code = shown.exit_code
    sys.exit(int(code or 0))


def explain(error: Exception) -> FrameliftError:
    """An exception as what is wrong and what to do, whatever it is."""
    if (limit := _limit(error)) is not None:
        return limit
    if isinstance(error, FrameliftError):
        return error
    summary = " ".join(str(error).split())[:300]
    return FrameliftError(
        f"this is a bug: {type(error).__name__}: {summary}",
        "Set FRAMELIFT_DEBUG=1 to see where, and please report it.",
    )


def _limit(error: BaseException) -> FrameliftError | None:
    """What the machine does not allow, wherever it happened and whatever it was taken for."""
    if lacks_memory(error) and not isinstance(error, NoRoomError):
        return NoRoomError("Memory ran out.", "Close other programs, or work on smaller frames.")
    if not isinstance(error, OSError):
        return None
    text = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoomError(f"The disk is full: {text}.", "Free some space and run it again.")
    if error.errno == errno.EFBIG:
        return NoRoomError(f"A file may not grow further: {text}.", "Raise its limit (ulimit -f).")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return NoRoomError(f"Too many files are open: {text}.", "Raise the limit (ulimit -n).")
    refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
    if error.errno in refused:
        return InputError(f"The system refuses: {text}.", "Choose another file or folder.")
    gone = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.EISDIR)
    if error.errno in gone and error.filename is not None:
        return InputError(
            f"A file or folder has changed during the run: {text}.",
            "Leave them as they are until the run has finished.",
        )
    return None


if __name__ == "__main__":
    main()
