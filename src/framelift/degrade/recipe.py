"""Degradation recipes: TOML files of stages. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from framelift.config import from_mapping, read_toml
from framelift.degrade.stages import STAGES, Shuffle, Stage
from framelift.errors import InputError, UsageError

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """How high-resolution frames become low-resolution ones."""

    name: str = ""
    """The file's name without suffix."""
    description: str = ""
    """What it is and where it comes from."""
    scale: int = 4
    """Factor between the sides of the frames before and after, unless another is asked for."""
    quantize: bool = True
    """Round the result to 8 bits."""
    scene: tuple[Stage, ...] = ()
    """Stages that change the scene itself, and so the ground truth as well."""
    stages: tuple[Stage, ...] = ()
    """Stages that make the low-resolution frames of it."""

    def __post_init__(self) -> None:
        if not 1 <= self.scale <= 64:
            raise ValueError(f"scale is {self.scale}, but must lie in 1 to 64")


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with framelift."""
    return tuple(sorted(p.stem for p in RECIPES.glob("*.toml")))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by its name or from a TOML file.

    Raises InputError if there is none or it is not TOML, UsageError for unknown names and
    impossible values, saying where.
    """
    path = _find(name_or_path)
    content = read_toml(path, "degradation recipe")
    where = str(path)
    groups = {
        key: _stages(content.pop(key), f"{where}, {key}")
        for key in ("scene", "stages")
        if key in content
    }
    if not groups.get("stages"):
        raise UsageError(f"{where} has no stages.", 'Add a table [[stages]] with op = "...".')
    recipe = _checked(Recipe, {"name": path.stem, **content}, where)
    return replace(recipe, **groups)


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, with the names of its stages."""
    content = {**asdict(recipe), "scene": (), "stages": ()}
    for key in ("scene", "stages"):
        content[key] = [describe_stage(stage) for stage in getattr(recipe, key)]
    return content


def describe_stage(stage: Stage) -> dict[str, Any]:
    """A stage as plain values, beginning with its name."""
    op = {"op": stage.op}
    if isinstance(stage, Shuffle):
        first, second = ([describe_stage(s) for s in g] for g in (stage.first, stage.second))
        return op | {"first": first, "second": second, "swap": stage.swap}
    return op | asdict(stage)  # pyright: ignore[reportArgumentType] (stages are dataclasses)


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    name = str(name_or_path).removesuffix(".toml").replace("-", "_")
    if name not in recipe_names():
        close = get_close_matches(name, recipe_names(), 1)
        known = f"Known are {', '.join(recipe_names())}, or name a TOML file."
        hint = f"Did you mean {close[0]!r}?" if close else known
        raise InputError(f"There is no degradation recipe {str(name_or_path)!r}.", hint)
    return RECIPES / f"{name}.toml"


def _stages(content: Any, where: str) -> tuple[Stage, ...]:
    if not isinstance(content, list):
        raise UsageError(f"{where} must be a list of tables.", "Write each as [[stages]].")
    return tuple(_stage(table, f"{where} {n}") for n, table in enumerate(content, start=1))


def _stage(content: Any, where: str) -> Stage:
    fields = dict(content) if isinstance(content, Mapping) else {}
    op = fields.pop("op", None)
    kind = STAGES.get(str(op))
    if kind is None:
        close = get_close_matches(str(op), STAGES, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Choose one of {', '.join(STAGES)}."
        problem = "has no op" if op is None else f"has an unknown op {op!r}"
        raise UsageError(f"{where} {problem}.", hint)
    where = f"{where} ({op})"
    if kind is not Shuffle:
        return _checked(kind, fields, where)
    groups = {
        key: _stages(fields.pop(key), f"{where}, {key}")
        for key in ("first", "second")
        if key in fields
    }
    return replace(_checked(Shuffle, fields, where), **groups)


def _checked(kind: type[Any], fields: Mapping[str, Any], where: str) -> Any:
    try:
        return from_mapping(kind, fields, where)
    except ValueError as error:
        raise UsageError(f"{where}: {error}.", "Correct the recipe.") from error
