"""Random numbers of a training step, from its generator, on whatever device that lives."""

from collections.abc import Callable, Sequence

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


def noise_of(
    generator: torch.Generator, device: torch.device, batch: int = 1
) -> Callable[..., Tensor]:
    """A generator in the place of noise by position (`methods.base.Noise`), for training.

    Where `batch` clips are sampled together, a range of frames gets noise for each of them; a
    number of frames is a number of rows.
    """

    def noise(
        stream: str, frames: int | range, size: tuple[int, int, int], step: int = 0
    ) -> Tensor:
        rows = frames if isinstance(frames, int) else len(frames) * batch
        return normal((rows, *size), device, generator)

    return noise
