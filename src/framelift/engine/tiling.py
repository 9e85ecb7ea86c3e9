"""One window through a pipeline, tile by tile."""

from collections.abc import Callable

from torch import Tensor

from framelift.device import is_out_of_memory
from framelift.engine.clip import pad_to_multiple
from framelift.engine.plan import Plan
from framelift.errors import NoRoomError
from framelift.methods.base import Step, VSRPipeline
from framelift.ops.noise import PositionNoise
from framelift.ops.tiles import Tile, blend_tiles, plan_tiles


def upscale_window(
    pipeline: VSRPipeline,
    lr: Tensor,
    frame: int,
    tile: int,
    plan: Plan,
    on_step: Callable[[float, Step], None] = lambda share, step: None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Tensor, int]:
    """Upscale `lr` `[T, 3, h, w]`, whose first frame is number `frame` of the video.

    `on_step` hears the share of the window that is done and the pipeline's own report. When memory
    runs out, the tile side is halved, with a warning, and the window starts again.
    Returns `[T, 3, scale·h, scale·w]` on the CPU, and the tile side that worked. Raises
    NoRoomError when none does.
    """
    multiple = plan.limits.size_multiple
    padded = pad_to_multiple(lr, multiple)
    while True:
        overlap = min(plan.tile_overlap, tile // 2)
        tiles = plan_tiles(padded.shape[-2], padded.shape[-1], tile, overlap, multiple)
        try:
            sr = _blend(pipeline, padded, frame, tiles, plan, on_step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            tile = _half(max(max(at.height, at.width) for at in tiles), multiple)
            warn(f"Memory ran out; trying tiles of {tile} pixels.")
            continue
        return sr[..., : lr.shape[-2] * plan.scale, : lr.shape[-1] * plan.scale], tile


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

        result = pipeline(part, settings=plan.method_settings, noise=noise, on_step=report)
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
