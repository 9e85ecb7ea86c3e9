"""Random numbers of a training step, from its generator, on whatever device that lives."""

from collections.abc import Sequence

import torch
from torch import Tensor


def randint(limit: int, generator: torch.Generator) -> int:
    """A whole number below `limit`."""
    return int(torch.randint(limit, (1,), generator=generator, device=generator.device))


def normal(size: Sequence[int], device: torch.device, generator: torch.Generator) -> Tensor:
    """Standard normal noise."""
    return torch.randn(tuple(size), generator=generator, device=generator.device).to(device)


def draw_timesteps(
    limit: int, count: int, device: torch.device, generator: torch.Generator
) -> Tensor:
    """`count` timesteps below `limit`, uniformly drawn."""
    drawn = torch.randint(limit, (count,), generator=generator, device=generator.device)
    return drawn.to(device)
