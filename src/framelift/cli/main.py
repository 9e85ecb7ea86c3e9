"""The `framelift` command. Nothing here imports torch before a command needs it."""

import errno
import os
import sys
from collections.abc import Sequence

import tyro

from framelift import __version__
from framelift.cli.data import data
from framelift.cli.degrade import degrade
from framelift.cli.doctor import doctor
from framelift.cli.evaluate import evaluate
from framelift.cli.presets import presets
from framelift.cli.reproduce import reproduce
from framelift.cli.show import complain
from framelift.cli.train import train
from framelift.cli.upscale import upscale
from framelift.errors import Exit, FrameliftError, InputError, NoRoomError

repeated = tyro.conf.configure(tyro.conf.UseAppendAction)  # --options a --options b input.mp4
COMMANDS = {
    "upscale": repeated(upscale),
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
    if words == ["--version"]:
        sys.stdout.write(f"framelift {__version__}\n")
        sys.exit(Exit.OK)
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="framelift",
            description=f"{DESCRIPTION}\n{EXIT_CODES}",
            args=words,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except FrameliftError as error:
        complain(error)
        code = error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("framelift: stopped.\n")
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    except Exception as error:
        if os.environ.get("FRAMELIFT_DEBUG"):
            raise
        if (limit := _limit(error)) is not None:
            complain(limit)
            sys.exit(limit.exit_code)
        summary = " ".join(str(error).split())[:300]
        sys.stderr.write(
            f"framelift: this is a bug: {type(error).__name__}: {summary}\n"
            "Set FRAMELIFT_DEBUG=1 to see where, and please report it.\n"
        )
        code = Exit.BUG
    sys.exit(int(code or 0))


def _limit(error: Exception) -> FrameliftError | None:
    """What the machine does not allow, wherever it happened: no bug of ours."""
    text = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("allocate memory" in text or "out of memory" in text)  # torch's words
    ):
        return NoRoomError("Memory ran out.", "Close other programs, or work on smaller frames.")
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoomError(f"The disk is full: {text}.", "Free some space and run it again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG):
        return InputError(f"The system refuses: {text}.", "Choose another file or folder.")
    return None


if __name__ == "__main__":
    main()
