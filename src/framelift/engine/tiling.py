"""One window through a pipeline: a pure function of frames, window and plan."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from framelift.engine.plan import Plan
from framelift.errors import NoRoomError, lacks_memory
from framelift.methods.base import Step, VSRPipeline
from framelift.ops.noise import PositionNoise
from framelift.ops.tiles import Tile, blend_tiles, plan_tiles
from framelift.ops.windows import Window


def upscale_window(
    pipeline: VSRPipeline,
    lr: Tensor,
    window: Window,
    plan: Plan,
    tile: int,
    on_step: Callable[[float, Step], None] = lambda share, step: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Tensor, int]:
    """Upscale the frames `lr` `[T, 3, h, w]` of a window with tiles of at most `tile` LR pixels.

    `on_step` hears the share of the window that is done and the pipeline's own report. When memory
    runs out, the tile side is halved, with a warning, and the window starts again.
    Returns `[T, 3, scale·h, scale·w]` on the CPU, and the tile side that worked. Raises
    NoRoomError when none does.
    """
    multiple = plan.limits.size_multiple
    padded = pad_to_multiple(lr, multiple)
    while True:
        tiles = _tiles(padded, tile, plan)
        try:
            sr = _blend(pipeline, padded, plan.first + window.start, tiles, plan, on_step)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            tile = _half(max(max(at.height, at.width) for at in tiles), multiple)
            warn(f"Memory ran out; trying tiles of {tile} pixels.")
            continue
        return sr[..., : lr.shape[-2] * plan.scale, : lr.shape[-1] * plan.scale], tile


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Extend right and bottom to multiples by mirroring, or by repeating where too small."""
    bottom, right = -frames.shape[-2] % multiple, -frames.shape[-1] % multiple
    if not (bottom or right):
        return frames
    fits = bottom < frames.shape[-2] and right < frames.shape[-1]
    return F.pad(frames, (0, right, 0, bottom), mode="reflect" if fits else "replicate")


def _tiles(padded: Tensor, tile: int, plan: Plan) -> list[Tile]:
    """Where the engine cuts; methods that tile inside a step get `tile` from their limits."""
    height, width = padded.shape[-2:]
    if plan.limits.tiling == "method":
        return [Tile(0, 0, height, width)]
    overlap = min(plan.tile_overlap, tile // 2)
    return plan_tiles(height, width, tile, overlap, plan.limits.size_multiple)


def _blend(
    pipeline: VSRPipeline,
    padded: Tensor,
    frame: int,
    tiles: list[Tile],
    plan: Plan,
    on_step: Callable[[float, Step], None],
) -> Tensor:
    finished = 0

    def one(part: Tensor, at: Tile) -> Tensor:
        nonlocal finished
        noise = PositionNoise(plan.seed, block=plan.limits.noise_block).at(
            frame, at.y, at.x, at.height, at.width
        )

        def report(step: Step) -> None:
            on_step((finished + step.done) / len(tiles), step)

        result = pipeline(part, settings=plan.method, noise=noise, on_step=report)
        finished += 1
        return result.cpu()

    return blend_tiles(one, padded, tiles, plan.scale)


def _half(side: int, multiple: int) -> int:
    half = side // 2 // multiple * multiple
    if half < 2 * multiple:
        raise NoRoomError(
            f"Memory runs out even with tiles of {side} pixels.",
            "Close other programs, use a smaller --window, or a smaller preset.",
        )
    return half
