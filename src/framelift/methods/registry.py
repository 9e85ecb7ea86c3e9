"""The methods by name, without importing them. No torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from framelift.errors import UsageError
from framelift.weights.presets import Preset, suggest

if TYPE_CHECKING:
    from framelift.methods.base import VSRPipeline


@dataclass(frozen=True)
class Method:
    """Where a method's pipeline and settings are defined."""

    name: str
    title: str
    package: str
    pipeline: str
    settings: str
    aliases: tuple[str, ...] = ()
    """Pipeline classes of other projects whose folders this pipeline reads."""

    def pipeline_class(self) -> "type[VSRPipeline]":
        """Import the pipeline."""
        return getattr(import_module(f"{self.package}.pipeline"), self.pipeline)

    def settings_class(self) -> type:
        """Import the settings (no torch)."""
        return getattr(import_module(f"{self.package}.settings"), self.settings)


METHODS = {
    method.name: method
    for method in (
        Method(
            name="image-ldm",
            title="Per-frame latent diffusion upscaler, the baseline",
            package="framelift.methods.image_ldm",
            pipeline="ImageLDMPipeline",
            settings="ImageLDMSettings",
            aliases=("StableDiffusionUpscalePipeline",),
        ),
        Method(
            name="stablevsr",
            title="Image upscaler with temporal texture guidance, sampled in both directions",
            package="framelift.methods.stablevsr",
            pipeline="StableVSRPipeline",
            settings="StableVSRSettings",
        ),
        Method(
            name="vdm-vsr",
            title="Inverse problem, solved with an unconditional video diffusion prior",
            package="framelift.methods.vdm_vsr",
            pipeline="VDMVSRPipeline",
            settings="VDMVSRSettings",
        ),
    )
}


def find_method(name: str) -> Method:
    """A method by name; underscores count as hyphens."""
    plain = name.replace("_", "-")
    if plain not in METHODS:
        raise UsageError(f"There is no method {name!r}.", suggest(plain, METHODS))
    return METHODS[plain]


def method_of(preset: Preset) -> Method:
    """The method that runs a preset, by its name or by the pipeline class of a folder."""
    if preset.method:
        return find_method(preset.method)
    for method in METHODS.values():
        if preset.pipeline == method.pipeline or preset.pipeline in method.aliases:
            return method
    known = ", ".join(n for m in METHODS.values() for n in (m.pipeline, *m.aliases))
    raise UsageError(
        f"{preset.name} holds a {preset.pipeline or 'pipeline of unknown class'}, "
        "which no method reads.",
        f"Known are {known}.",
    )


def method_of_settings(kind: type) -> Method:
    """The method whose settings these are."""
    for method in METHODS.values():
        if issubclass(kind, method.settings_class()):
            return method
    known = ", ".join(method.settings for method in METHODS.values())
    raise UsageError(f"{kind.__name__} belongs to no method.", f"Known are {known}.")


def settings_class(pipeline: Any) -> type:
    """The settings dataclass of a pipeline."""
    name = type(pipeline).__name__
    for method in METHODS.values():
        if method.pipeline == name:
            return method.settings_class()
    raise UsageError(f"{name} belongs to no method.", f"Known are {', '.join(METHODS)}.")
