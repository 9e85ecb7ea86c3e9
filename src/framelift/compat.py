"""Cure for a torchvision whose compiled operators do not fit the installed torch.

PyPI's torchvision wheel is built for CUDA. Beside a CPU build of torch its `_C` library does not
load, and because its Python side then registers kernels for operators that nobody declared,
`import diffusers` and `import transformers` fail as well. Declaring the two operators is enough for
everything used here. Where torchvision is absent or whole, nothing happens.
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

AFFECTED = {"diffusers", "transformers", "torchmetrics", "torchvision"}

_library: Any = None


class _RepairFirst(MetaPathFinder):
    """Finds nothing itself; runs the repair before an affected package is first looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in AFFECTED:
            repair_torchvision()
        return None


@cache
def repair_torchvision_on_import() -> None:
    """Repair when an affected package is imported, and not before: that needs torch."""
    sys.meta_path.insert(0, _RepairFirst())


@cache
def repair_torchvision() -> bool:
    """Declare `nms` and `qnms` if torchvision cannot; returns whether that was needed.

    Must run before the first import of diffusers, transformers, torchmetrics or torchvision.
    """
    global _library
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _RepairFirst)]
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    import torch

    for binary in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(binary))
        except OSError:
            continue
        return False
    _library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True
