"""The methods by name, without importing their pipelines. No torch.

A method describes itself: its folder's `__init__.py` holds a `Method` as METHOD, and the folder is
named here by one line. Packages of others register theirs as an entry point of the group
`framelift.methods`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from framelift.config import suggest
from framelift.errors import UsageError
from framelift.weights.presets import ENTRY_POINTS, Preset

if TYPE_CHECKING:
    from framelift.methods.base import Objective, StageRequest, VSRPipeline

SHIPPED = (
    "framelift.methods.image_ldm",
    "framelift.methods.pseudo_text",
    "framelift.methods.sateco",
    "framelift.methods.stablevsr",
    "framelift.methods.stcdit",
    "framelift.methods.vdm_vsr",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """What a method is called and where its parts are defined, each as "module:name"."""

    name: str
    """Small letters and hyphens, as on the command line."""
    title: str
    settings: str
    """Its settings dataclass, in a module that imports no torch."""
    pipeline: str
    """Its `VSRPipeline`."""
    stages: Mapping[str, str] = field(default_factory=dict)
    """Stages that can be trained: functions of a `StageRequest` that return an `Objective`."""
    aliases: tuple[str, ...] = ()
    """Pipeline classes of other projects whose folders this pipeline reads."""

    def settings_class(self) -> type:
        """Import the settings (no torch)."""
        return _named(self.settings)

    def pipeline_class(self) -> "type[VSRPipeline]":
        """Import the pipeline."""
        return _named(self.pipeline)

    def stage(self, name: str) -> "Callable[[StageRequest], Objective]":
        """Import what builds a stage's objective; UsageError for an unknown stage."""
        self.check_stage(name)
        return _named(self.stages[name])

    def check_stage(self, name: str) -> None:
        """UsageError unless `name` is a stage of this method (no torch)."""
        if name not in self.stages:
            known = suggest(name, self.stages) if self.stages else "It is not trained."
            raise UsageError(f"{self.name} has no stage {name!r}.", known)

    @property
    def folder_classes(self) -> tuple[str, ...]:
        """Pipeline classes in whose folders this method's components lie."""
        return (self.pipeline.partition(":")[2], *self.aliases)


@cache
def list_methods() -> Mapping[str, Method]:
    """All methods by name: the shipped ones, then those of installed packages.

    A package that cannot be imported, or takes a name that is taken, is left out with a warning.
    """
    methods = {m.name: m for m in (import_module(module).METHOD for module in SHIPPED)}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            method = entry.load()
        except Exception as error:  # whatever a stranger's module raises
            log.warning("The method %s cannot be imported: %r", entry.value, error)
            continue
        if not isinstance(method, Method) or method.name in methods:
            log.warning("The entry point %s names no new method.", entry.value)
            continue
        methods[method.name] = method
    return methods


def find_method(name: str) -> Method:
    """A method by name; underscores count as hyphens."""
    plain = name.replace("_", "-")
    methods = list_methods()
    if plain not in methods:
        raise UsageError(f"There is no method {name!r}.", suggest(plain, methods))
    return methods[plain]


def method_of(preset: Preset) -> Method:
    """The method that runs a preset, by its name or by the pipeline class of a folder."""
    if preset.method:
        return find_method(preset.method)
    methods = list_methods().values()
    for method in methods:
        if preset.pipeline in method.folder_classes:
            return method
    raise UsageError(
        f"{preset.name} holds a {preset.pipeline or 'pipeline of unknown class'}, "
        "which no method reads.",
        f"Known are {', '.join(_folder_classes(methods))}.",
    )


def method_of_settings(kind: type) -> Method:
    """The method whose settings these are."""
    methods = list_methods().values()
    for method in methods:
        if issubclass(kind, method.settings_class()):
            return method
    known = ", ".join(m.settings.partition(":")[2] for m in methods)
    raise UsageError(f"{kind.__name__} belongs to no method.", f"Known are {known}.")


def _folder_classes(methods: Iterable[Method]) -> list[str]:
    return [name for method in methods for name in method.folder_classes]


def _named(place: str) -> Any:
    """What "module:name" names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
