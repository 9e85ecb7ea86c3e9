"""A library of videos on several devices and machines, by Ray. Nothing here imports it unasked."""

from typing import TYPE_CHECKING, Any

from framelift.distributed.settings import ClusterSettings

if TYPE_CHECKING:
    from framelift.distributed.library import upscale as upscale

__all__ = ["ClusterSettings", "upscale"]


def __getattr__(name: str) -> Any:
    if name == "upscale":
        from importlib import import_module

        return import_module("framelift.distributed.library").upscale
    raise AttributeError(f"module 'framelift.distributed' has no attribute {name!r}")
