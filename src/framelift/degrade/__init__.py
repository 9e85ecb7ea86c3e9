"""Degradations by recipe: what stages, with what random parameters, drawn once for each clip."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framelift.degrade.recipe import Recipe, load_recipe, recipe_names

if TYPE_CHECKING:
    from framelift.degrade.degradation import Degradation

__all__ = ["Degradation", "Recipe", "load_recipe", "recipe_names"]


def __getattr__(name: str) -> Any:
    """Import `Degradation`, which needs torch, when it is first asked for."""
    if name != "Degradation":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("framelift.degrade.degradation").Degradation
