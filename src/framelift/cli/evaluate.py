"""`framelift evaluate`."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from framelift.cli.show import Display, say, stop_signals, use_threads
from framelift.errors import Exit
from framelift.evaluation.settings import EvaluateSettings
from framelift.files import to_json


def evaluate(
    settings: EvaluateSettings,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("evaluation"),
    json: bool = False,
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False,
) -> int:
    """Measure results against ground truth, or methods on a dataset.

    Prints a table; writes results.json, .csv, .md and pictures into the output folder. What is
    there already is not computed again, so an interrupted evaluation continues.

    Args:
        settings: Settings of the evaluation.
        output: Folder of results.
        json: Print the results as JSON on standard output, instead of the table.
        quiet: Show no progress.
    """
    with Display("evaluate", quiet or json) as display, stop_signals() as stop:
        display.note("loading")
        use_threads(settings.threads)
        from framelift.evaluation.evaluate import evaluate as run

        results = run(settings, output, on_progress=display, should_stop=lambda: bool(stop))
    if json:
        sys.stdout.write(to_json(results.content()) + "\n")
    else:
        results.show()
        say(f"Results and pictures are in {output}.")
    return Exit.OK
