"""Where and how precisely networks run, and how much memory is free there."""

import os

import torch

from framelift.errors import UsageError
from framelift.memory import free_memory as free_main_memory


def choose_device(name: str | torch.device) -> torch.device:
    """The device to use; UsageError if it is not there, or computes nothing (meta)."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"The device '{name}' cannot be used: {str(error).splitlines()[0]}.",
            "Use --device cpu, or see `framelift doctor`.",
        ) from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The networks' precision; auto is bfloat16 where it is fast."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def choose_threads(wanted: int | None) -> int:
    """CPU threads: as many as this process may use."""
    if wanted:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(device: torch.device) -> int:
    """Bytes that may be allocated on the device now, container limits included."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_main_memory()


def use_channels_last(network: torch.nn.Module) -> None:
    """Keep the weights of 2-D convolutions in channels-last memory.

    On processors with AMX a UNet takes half the time; elsewhere about the same.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
