"""`framelift doctor`."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from framelift import __version__
from framelift.files import to_json

PACKAGES = (
    *("torch", "diffusers", "transformers", "safetensors", "huggingface-hub", "av", "numpy"),
    *(
        "opencv-python-headless",
        "scenedetect-headless",
        "accelerate",
        "torchvision",
        "torchmetrics",
    ),
)


def doctor(json: bool = False) -> int:
    """Show versions, devices, encoders, weights and free disk, and what is wrong with them.

    Args:
        json: Print the findings as JSON.
    """
    findings, problems = examine()
    if json:
        sys.stdout.write(to_json(findings | {"problems": problems}) + "\n")
        return 1 if problems else 0
    for name, value in findings.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        sys.stdout.write(f"{name:<12} {value}\n")
    for problem in problems:
        sys.stdout.write(f"problem      {problem}\n")
    sys.stdout.write("Everything is in order.\n" if not problems else "")
    return 1 if problems else 0


def examine() -> tuple[dict[str, Any], list[str]]:
    """Facts about this installation, and sentences about what is wrong."""
    import psutil
    import torch

    from framelift.device import choose_device, choose_dtype
    from framelift.video.encoders import available_codecs
    from framelift.weights.presets import list_presets
    from framelift.weights.resolve import check_bundled

    problems: list[str] = []
    device = choose_device("auto")
    bundled = {p.name: check_bundled(p) for p in list_presets() if p.kind == "bundled"}
    problems += [f"Preset {name}: {trouble}" for name, trouble in bundled.items() if trouble]
    codecs = list(available_codecs())
    if "h264" not in codecs:
        problems.append("PyAV has no H.264 encoder; use --codec hevc, av1 or ffv1.")
    findings = {
        "framelift": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": str(device),
        "precision": str(choose_dtype("auto", device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "memory": f"{psutil.virtual_memory().available / 2**30:.1f} GiB free",
        "disk": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB free here",
        "encoders": codecs,
        "weights": {name: trouble or "ok" for name, trouble in bundled.items()},
    }
    return findings, problems


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
