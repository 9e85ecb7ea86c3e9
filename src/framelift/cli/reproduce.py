"""`framelift reproduce`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from framelift.cli.show import Display, say, stop_signals, use_threads
from framelift.errors import Exit, UsageError
from framelift.evaluation.settings import ReproduceSettings
from framelift.files import to_json
from framelift.papers.items import Item, list_items, load_item


def reproduce(
    item: tyro.conf.Positional[str | None] = None,
    settings: ReproduceSettings = ReproduceSettings(),  # noqa: B008 (frozen)
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    list: bool = False,  # noqa: A002
    json: bool = False,
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False,
) -> int:
    """Make a table or figure of a paper again, published values beside ours.

    Args:
        item: What to make, as in sateco/table1.
        settings: Settings of the run.
        output: Folder of results (default: reproduced/ and the item's name).
        list: List what there is.
        json: Print the results, or the list, as JSON on standard output.
        quiet: Show no progress.
    """
    if list:
        _show_list(list_items(), json)
        return Exit.OK
    if item is None:
        raise UsageError("No item is named.", "See framelift reproduce --list")
    chosen = load_item(item)
    output = output or Path("reproduced") / chosen.name
    with Display(chosen.name, quiet or json) as display, stop_signals() as stop:
        display.note("loading")
        use_threads(settings.threads)
        from framelift.papers.reproduce import reproduce as run

        made = run(chosen, settings, output, on_progress=display, should_stop=lambda: bool(stop))
    if json:
        sys.stdout.write(to_json(made.content()) + "\n")
    else:
        made.show()
    say(f"Results are in {output}.")
    return Exit.OK


def _show_list(items: Sequence[Item], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(to_json([asdict(item) for item in items]) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("item", "paper", "title", "data", box=None, pad_edge=False)
    for item in items:
        table.add_row(item.name, item.paper, item.title, ", ".join(d.name for d in item.data))
    Console().print(table)
