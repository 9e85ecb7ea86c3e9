"""A GPU that is not there: PyTorch's fake tensors, for which mixing devices is an error.

The device has a name of its own: a build of torch without CUDA can make fake tensors of `cuda`, but
aborts where they are indexed or differentiated. Networks are built inside the mode. Schedulers are
built outside: their tables are numbers on the CPU, as are the whole numbers that training draws.
Fake frames have no pixels in which motion could be looked for: they stand still.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration

from framelift.diffusion.samplers import Sampler
from framelift.methods.stcdit import segments


@functools.cache
def gpu() -> torch.device:
    """The device; skips where torch (before 2.9) cannot be taught one from Python."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("runs with torch 2.9 or newer, which can register a device from Python")
    backend_registration._setup_privateuseone_for_python_backend("fakegpu")
    dtypes = [torch.float16, torch.bfloat16]
    torch.fakegpu.get_amp_supported_dtype = lambda: dtypes  # type: ignore[attr-defined]
    return torch.device("fakegpu", 0)


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Tensors made inside are fake, on whatever device they say that they are."""
    device = gpu()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Sampler, "__init__"), (torch, "randint")):
            patch.setattr(owner, name, _real(getattr(owner, name)))
        patch.setattr(torch.nn.Module, "_apply", _moved)
        patch.setattr(segments, "_gray", lambda frame: np.zeros(frame.shape[-2:], np.uint8))
        with FakeTensorMode(allow_non_fake_inputs=True), _Stand():
            yield device


class _Stand(TorchFunctionMode):
    """What torch does below the level of fake tensors, done with operators that they know."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.new_tensor:
            func, kwargs = torch.tensor, {"dtype": args[0].dtype, "device": args[0].device}
            args = args[1:]
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.__getitem__:
            return _take(*args)
        if func in (torch.tensor, torch.as_tensor) and not torch.is_tensor(args[0]):
            device = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            if device is None:
                return made
            made.constant = None  # a number that is known would be moved to the device in earnest
            return made.to(device)
        if func is torch.Tensor.__int__ and not isinstance(args[0], FakeTensor):
            with unset_fake_temporarily():
                return func(*args)
        if func is torch.Tensor.to and not isinstance(args[0], FakeTensor):
            args = (args[0].clone(), *args[1:])  # a table, which becomes a fake one
        return func(*args, **kwargs)


def _take(x, places):
    places = list(places) if isinstance(places, tuple) else [places]
    if Ellipsis in [p for p in places if not torch.is_tensor(p)]:
        at = next(i for i, p in enumerate(places) if p is Ellipsis)
        given = sum(p is not None for p in places) - 1
        places[at : at + 1] = [slice(None)] * (x.ndim - given)
    axis, found = 0, []
    for place in places:
        if place is None:
            x = x.unsqueeze(axis)
        elif isinstance(place, slice):
            first, end, step = place.indices(x.shape[axis])
            x = torch.ops.aten.slice(x, axis, first, end, step)
        elif isinstance(place, int):
            x = x.select(axis, place)
            continue
        else:
            found += [None] * (axis - len(found)) + [torch.as_tensor(place)]
        axis += 1
    return torch.ops.aten.index(x, found) if found else x


def _moved(module, function, recurse=True):
    """`Module._apply` with new parameters: fake ones cannot be changed in their place."""
    for child in module.children():
        _moved(child, function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            made = torch.nn.Parameter(function(parameter.data), parameter.requires_grad)
            module._parameters[name] = made
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def _real(function):
    @functools.wraps(function)
    def run(*args, **named):
        with unset_fake_temporarily():
            return function(*args, **named)

    return run
