"""framelift: diffusion-based video super-resolution."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framelift.compat import repair_torchvision_on_import

if TYPE_CHECKING:
    from framelift import methods as methods
    from framelift.engine.upscale import upscale as upscale
    from framelift.methods.load import load_pipeline as load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "methods", "upscale"]

repair_torchvision_on_import()

_LAZY = {
    "upscale": ("framelift.engine.upscale", "upscale"),
    "load": ("framelift.methods.load", "load_pipeline"),
}


def __getattr__(name: str) -> Any:
    """Import the parts that need torch when they are first asked for."""
    if name == "methods":
        return import_module("framelift.methods")
    if name not in _LAZY:
        raise AttributeError(f"module 'framelift' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
