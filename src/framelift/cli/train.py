"""`framelift train`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import tyro

from framelift.cli.show import say


def train(
    recipe: tyro.conf.Positional[Path],
    data: Path,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    cache: Path | None = None,
    init_from: str | None = None,
    steps: int | None = None,
    threads: int | None = None,
    dry_run: bool = False,
) -> int:
    """Train a stage of a method from a recipe.

    The same command continues an interrupted run from its checkpoint.

    Args:
        recipe: A TOML file, or the name of one that ships with framelift.
        data: Folder that holds the training clips that the recipe names.
        output: Folder of the run (default: runs/ and the recipe's name).
        cache: Folder for decoded clips (default: cache/ beside the run).
        init_from: Pipeline folder or preset to start from, instead of the recipe's.
        steps: Number of optimizer steps, instead of the recipe's.
        threads: CPU threads.
        dry_run: Show the resolved settings, and stop.
    """
    from framelift.files import to_json
    from framelift.methods.registry import find_method
    from framelift.training.settings import find_recipe, load_recipe

    settings = load_recipe(find_recipe(recipe))
    find_method(settings.method).check_stage(settings.stage)
    if init_from is not None:
        settings = replace(settings, init_from=init_from)
    if steps is not None:
        settings = replace(settings, run=replace(settings.run, steps=steps))
    resolved = to_json(asdict(settings))
    if dry_run:
        say(resolved)
        return 0
    output = output or Path("runs") / recipe.stem
    import torch
    from accelerate import PartialState

    from framelift.training.loop import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    first = PartialState(cpu=not torch.accelerator.is_available()).is_main_process
    if first:
        say(resolved)
    folder = run(settings, data, output, cache or output.parent / "cache", say)
    if first:
        say(f"The trained pipeline is in {folder}.")
    return 0
