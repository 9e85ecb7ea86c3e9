"""Random numbers of a training step, from its generator, on whatever device that lives."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class BatchGenerator(torch.Generator):
    """A generator for one process's share of a batch: items `first`, `first + stride`, and so on.

    What is drawn for each item is drawn for the whole batch, `stride` times as large, and cut to
    the share, so that several processes together use the numbers that one would have used. What is
    drawn once for the batch is the same for all.
    """

    first: int = 0
    stride: int = 1


def _share(generator: torch.Generator) -> tuple[int, int]:
    return (generator.first, generator.stride) if isinstance(generator, BatchGenerator) else (0, 1)


def randint(limit: int, generator: torch.Generator) -> int:
    """A whole number below `limit`."""
    return int(torch.randint(limit, (1,), generator=generator, device=generator.device))


def normal(size: Sequence[int], device: torch.device, generator: torch.Generator) -> Tensor:
    """Standard normal noise, the first axis counting items of a batch."""
    first, stride = _share(generator)
    whole = (size[0] * stride, *size[1:])
    drawn = torch.randn(whole, generator=generator, device=generator.device)
    return drawn[first::stride].to(device)


def draw_timesteps(
    limit: int, count: int, device: torch.device, generator: torch.Generator
) -> Tensor:
    """`count` timesteps below `limit`, uniformly drawn."""
    first, stride = _share(generator)
    drawn = torch.randint(limit, (count * stride,), generator=generator, device=generator.device)
    return drawn[first::stride].to(device)


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
