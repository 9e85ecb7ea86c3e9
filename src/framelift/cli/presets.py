"""`framelift presets`."""

import sys
from dataclasses import asdict

from framelift.files import to_json


def presets(json: bool = False) -> int:
    """List the presets: what they are, where their weights come from, their licences.

    Args:
        json: Print them as JSON.
    """
    from framelift.weights.presets import list_presets

    found = list_presets()
    if json:
        sys.stdout.write(to_json([asdict(p) for p in found]) + "\n")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("preset", "method", "weights", "licence", "what it is", box=None, pad_edge=False)
    for preset in found:
        name = f"{preset.name} (default)" if preset.default else preset.name
        table.add_row(name, preset.method, preset.kind, preset.licence, preset.title)
    Console().print(table)
    return 0
