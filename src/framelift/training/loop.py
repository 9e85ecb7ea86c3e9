"""One training loop for every method: recipe in, checkpoints and a pipeline folder out.

A run folder holds `recipe.json` (the resolved settings), `log.jsonl`, `samples/`, `checkpoint/`
and, at the end, `pipeline/` with the averaged weights. The same command continues from the
checkpoint; crops, noise and timesteps are functions of (seed, step), so a resumed run sees what
an unbroken one would have seen. Several processes share every step's batch (`crops.Share`).
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from framelift.datasets import Maker
from framelift.device import choose_dtype, use_channels_last
from framelift.errors import UsageError
from framelift.methods.base import Batch, Objective
from framelift.training.checkpoint import (
    export,
    fit,
    freeze_settings,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from framelift.training.crops import (
    Batches,
    RandomCrops,
    Share,
    choose_workers,
    load_batches,
    step_generator,
)
from framelift.training.made import MadeClips, find_makers
from framelift.training.objectives import build_objective
from framelift.training.pool import Pool
from framelift.training.settings import OptimSettings, TrainSettings
from framelift.training.store import Clip, open_store
from framelift.training.track import Track
from framelift.training.validation import (
    VALIDATION,
    mean_over_processes,
    measure,
    save_sample,
    validate,
)

PREPARED = 16  # batches on which a stage may fit what it needs to know of the data


def train(
    settings: TrainSettings,
    data_root: Path,
    output: Path,
    cache: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train to `settings.run.steps` and return the folder of the finished pipeline.

    Started by torchrun or `accelerate launch`, the processes train together; the first one says,
    logs, checkpoints and exports.
    """
    run, optim = settings.run, settings.optim
    AcceleratorState._reset_state()  # of an earlier training in this process
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or processes of torchrun would not meet
        mixed_precision=_precision(run.precision),
        step_scheduler_with_optimizer=False,
    )
    if not accelerator.is_main_process:
        say = _silent
    freeze_settings(settings, output, accelerator)
    torch.manual_seed(run.seed)
    data = _open_data(settings, data_root, cache, accelerator, say)
    objective = build_objective(settings)
    fitted = fit(objective, data.prepared, accelerator, newest_checkpoint(output))

    network: Any = objective.trained.train()
    use_channels_last(network)
    if run.activation_checkpointing:
        _checkpoint_activations(network, objective.pipeline)
    ema = EMAModel(network.parameters(), decay=optim.ema_decay, foreach=True)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=optim.lr,
        betas=optim.betas,
        weight_decay=optim.weight_decay,
        fused=True,
    )
    schedule = LambdaLR(optimizer, _rate(optim, run.steps))
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule)
    objective.to(accelerator.device)
    accelerator.register_for_checkpointing(ema)
    first = load_checkpoint(accelerator, output)
    ema.to(accelerator.device)  # after resuming, which puts the averages on the CPU
    size = sum(p.numel() for p in network.parameters()) / 1e6
    many = f"{accelerator.num_processes} × " if accelerator.num_processes > 1 else ""
    say(
        f"training {size:.2f} M parameters from step {first} to {run.steps} on "
        f"{many}{accelerator.device.type}"
    )

    track = Track(output, first, run.tensorboard, accelerator.is_main_process)

    def judge(step: int) -> None:
        """Validate the averaged weights."""
        ema.store(network.parameters())
        ema.copy_to(network.parameters())
        bare = accelerator.unwrap_model(network)
        losses = validate(objective, bare, data.held_out, accelerator, run.seed)
        if accelerator.is_main_process:
            batch = data.shown[VALIDATION].to(accelerator.device)
            losses |= measure(objective, batch)
            save_sample(objective, batch, output / "samples" / f"{step:07d}.png")
        say(track.write(step, losses))  # last: a resumed run makes up for what has no record
        ema.restore(network.parameters())

    if first and _due(first, run.validate_every, run.steps) and not _agreed(track.validated):
        judge(first)  # it failed, or the run was stopped, behind the checkpoint
    workers = choose_workers(run.workers, accelerator.device, accelerator.num_processes)
    span = first * run.accumulate, run.steps * run.accumulate
    pin = accelerator.device.type == "cuda"
    if isinstance(data.training, Pool):
        batches = data.training.draw(*span, workers, pin)
    else:
        batches = load_batches(data.training, *span, workers, pin)
    started = time.monotonic()
    for step in range(first, run.steps):
        values = _accumulate(objective, network, batches, settings, data, step, accelerator)
        norm: Any = accelerator.clip_grad_norm_(network.parameters(), optim.clip)
        _check_finite(values["loss"], float(norm), step)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        track.add(values | {"grad_norm": float(norm)})
        now = step + 1
        if _due(now, run.log_every, run.steps):
            speed = {"steps_per_second": (now - first) / (time.monotonic() - started)}
            means = mean_over_processes(track.take()) | speed | {"lr": schedule.get_last_lr()[0]}
            say(track.write(now, means))
        judging = _due(now, run.validate_every, run.steps)
        if judging or _due(now, run.checkpoint_every, run.steps):
            save_checkpoint(accelerator, fitted, output, now)
        if judging:  # behind the checkpoint: if it fails, no step is lost
            judge(now)
    ema.copy_to(network.parameters())
    folder = export(accelerator, objective, output)
    if accelerator.num_processes > 1:
        accelerator.end_training()
    return folder


def _accumulate(
    objective: Objective,
    network: nn.Module,
    batches: Iterator[Batch],
    settings: TrainSettings,
    data: "_Data",
    step: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Gradients of a step; returns its mean loss and terms on this process."""
    rounds = settings.run.accumulate
    sums: defaultdict[str, float] = defaultdict(float)
    for turn in range(rounds):
        index = step * rounds + turn
        batch = next(batches).to(accelerator.device)
        generator = step_generator(
            settings.run.seed, data.training.share, index, accelerator.device
        )
        with nullcontext() if turn == rounds - 1 else accelerator.no_sync(network):
            with accelerator.autocast():
                loss, terms = objective.loss(network, batch, generator)
            accelerator.backward(loss / rounds)
        for name, value in {"loss": loss.detach(), **terms}.items():
            sums[name] += float(value) / rounds
    return dict(sums)


@dataclass(frozen=True)
class _Data:
    """Crops to train on, and held-out ones: this process's share, and a batch to look at."""

    training: Batches | Pool
    held_out: Batches
    shown: Batches
    everything: Batches
    """The whole batches of which `training` is a share."""

    @property
    def prepared(self) -> Iterator[Batch]:
        """The same batches whatever the number of processes, far from the training steps."""
        cpu = torch.device("cpu")
        return (self.everything[VALIDATION + i].to(cpu) for i in range(PREPARED))


def _open_data(
    settings: TrainSettings,
    root: Path,
    cache: Path,
    accelerator: Accelerator,
    say: Callable[[str], None],
) -> _Data:
    data, run = settings.data, settings.run
    rank, processes = accelerator.process_index, accelerator.num_processes
    own = Share(rank, processes, run.accumulate)
    everything = run.batch * processes * run.accumulate
    if (makers := find_makers(root, data)) is not None:

        def made(maker: Maker, share: Share, batch: int = run.batch) -> MadeClips:
            return MadeClips(maker, batch, run.seed, data.frames, share)

        known, unknown = makers
        return _Data(
            made(known, own),
            made(unknown, own),
            made(unknown, Share()),
            made(known, Share(), everything),
        )
    clips = open_store(root, data.sources, cache, say)
    held_out: list[Clip] = [c for c in clips if c.held_out or c.name in data.holdout]
    missing = set(data.holdout) - {c.name for c in held_out}
    if missing or not held_out:
        raise UsageError(
            f"The held-out clips {sorted(missing) or '(none named)'} are not in the data.",
            "Name clips of the data in [data] holdout, or a dataset's holdout_split.",
        )
    training = [c for c in clips if not c.held_out and c.name not in data.holdout]

    def crops(clips: list[Clip], share: Share, batch: int = run.batch) -> RandomCrops:
        return RandomCrops(clips, data, batch, run.seed, data.frames, share)

    drawn: Batches | Pool = crops(training, own)
    if data.pool:
        kept = replace(data, crop=data.pool_crop or data.crop)
        frames = data.pool_frames or data.frames
        source = RandomCrops(training, kept, run.batch, run.seed, frames, own)
        drawn = Pool(source, data, accelerator.device)
    return _Data(
        drawn,
        crops(held_out, own),
        crops(held_out, Share()),
        crops(training, Share(), everything),
    )


def _checkpoint_activations(network: nn.Module, pipeline: Any) -> None:
    """In the trained network and in the frozen ones through which its gradient passes."""
    parts = [network, *(c for c in pipeline.components.values() if isinstance(c, nn.Module))]
    modules = {m for part in parts for m in part.modules() if isinstance(m, ModelMixin)}
    able = [m for m in modules if m._supports_gradient_checkpointing]
    if not able:
        raise UsageError(
            f"{type(network).__name__} cannot compute its activations again.",
            "Leave out [run] activation_checkpointing.",
        )
    for module in able:
        module.enable_gradient_checkpointing()


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _agreed(value: bool) -> bool:
    """The first process's answer, on all of them."""
    return broadcast_object_list([value])[0]


def _silent(line: str) -> None:
    """Say nothing."""


def _check_finite(loss: float, norm: float, step: int) -> None:
    """Stop before a broken step reaches the weights, their averages and the checkpoint."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise UsageError(
            f"Training diverged: at step {step} the loss is {loss}, its gradient's norm {norm}.",
            "Lower [optim] lr or use precision no; the last checkpoint is as it was before.",
        )


def _precision(wanted: str) -> str:
    """Accelerate's name of the precision. Gradients vanish in float16, so that auto avoids it."""
    if wanted != "auto":
        return wanted
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16" if choose_dtype("auto", device) == torch.bfloat16 else "no"


def _rate(optim: OptimSettings, steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, optim.warmup))
        if optim.schedule == "constant":
            return warm
        done = min(1.0, step / max(1, steps))
        return warm * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)).item())

    return factor
