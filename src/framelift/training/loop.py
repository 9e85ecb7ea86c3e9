"""One training loop for every method: recipe in, checkpoints and a pipeline folder out.

A run folder holds `recipe.json` (the resolved settings), `log.jsonl`, `samples/`, `checkpoint/`
and, at the end, `pipeline/` with the averaged weights. The same command continues from the
checkpoint; crops, noise and timesteps are functions of (seed, step), so a resumed run sees what
an unbroken one would have seen.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from framelift.errors import UsageError
from framelift.files import part_path, publish, read_json, sync, write_json
from framelift.methods.base import Batch, Objective
from framelift.training.crops import RandomCrops
from framelift.training.objectives import build_objective
from framelift.training.samples import save_sample
from framelift.training.settings import OptimSettings, TrainSettings
from framelift.training.store import Clip, open_store
from framelift.training.track import Track

VALIDATION_STEP = 2**31  # crops of the held-out clips are drawn far from the training steps


def train(
    settings: TrainSettings,
    data_root: Path,
    output: Path,
    cache: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train to `settings.run.steps` and return the folder of the finished pipeline."""
    run = settings.run
    _freeze_settings(settings, output)
    AcceleratorState._reset_state()  # of an earlier training in this process
    accelerator = Accelerator(
        mixed_precision=_precision(run.precision), step_scheduler_with_optimizer=False
    )
    torch.manual_seed(run.seed)
    training, held_out = _crops(settings, data_root, cache)
    objective = build_objective(settings)
    objective.prepare(training(VALIDATION_STEP + i) for i in range(16))

    network: Any = objective.trained.train()
    network.to(memory_format=torch.channels_last)
    ema = EMAModel(network.parameters(), decay=settings.optim.ema_decay)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.optim.lr,
        betas=settings.optim.betas,
        weight_decay=settings.optim.weight_decay,
        fused=True,
    )
    schedule = LambdaLR(optimizer, _rate(settings.optim, run.steps))
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule)
    objective.to(accelerator.device)
    accelerator.register_for_checkpointing(ema)
    first = _resume(accelerator, output)
    ema.to(accelerator.device)  # after resuming, which puts the averages on the CPU
    size = sum(p.numel() for p in network.parameters()) / 1e6
    say(
        f"training {size:.2f} M parameters from step {first} to {run.steps} on {accelerator.device}"
    )

    track = Track(output, first, run.tensorboard)
    started = time.monotonic()
    for step in range(first, run.steps):
        batch = training(step).to(accelerator.device)
        generator = _generator(run.seed, step, accelerator.device)
        with accelerator.autocast():
            loss, terms = objective.loss(network, batch, generator)
        accelerator.backward(loss)
        norm: Any = accelerator.clip_grad_norm_(network.parameters(), settings.optim.clip)
        _check_finite(float(loss.detach()), float(norm), step)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        track.add(step, {"loss": float(loss.detach()), "grad_norm": float(norm), **_numbers(terms)})
        now = step + 1
        if now % run.log_every == 0 or now == run.steps:
            speed = (now - first) / (time.monotonic() - started)
            say(track.flush(now, speed, schedule.get_last_lr()[0]))
        if now % run.validate_every == 0 or now == run.steps:
            ema.store(network.parameters())
            ema.copy_to(network.parameters())
            say(track.write(now, _validate(objective, network, held_out, settings, accelerator)))
            save_sample(objective, held_out(VALIDATION_STEP), output / "samples" / f"{now:07d}.png")
            ema.restore(network.parameters())
        if now % run.checkpoint_every == 0 or now == run.steps:
            _checkpoint(accelerator, output, now)
    ema.copy_to(network.parameters())
    return _export(accelerator, objective, output)


@torch.no_grad()
def _validate(
    objective: Objective,
    network: torch.nn.Module,
    crops: RandomCrops,
    settings: TrainSettings,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Mean loss terms of the averaged weights on fixed held-out crops with fixed noise."""
    values: dict[str, list[float]] = {}
    for i in range(8):
        batch: Batch = crops(VALIDATION_STEP + i).to(accelerator.device)
        generator = _generator(settings.run.seed, VALIDATION_STEP + i, accelerator.device)
        with accelerator.autocast():
            _, terms = objective.loss(network, batch, generator)
        for name, value in _numbers(terms).items():  # not every round has every term
            values.setdefault(name, []).append(value)
    return {f"held_out_{name}": sum(found) / len(found) for name, found in values.items()}


def _numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}


def _crops(settings: TrainSettings, root: Path, cache: Path) -> tuple[RandomCrops, RandomCrops]:
    data, run = settings.data, settings.run
    clips = open_store(root, data.sources, cache)
    held_out: list[Clip] = [c for c in clips if c.held_out or c.name in data.holdout]
    missing = set(data.holdout) - {c.name for c in held_out}
    if missing or not held_out:
        raise UsageError(
            f"The held-out clips {sorted(missing) or '(none named)'} are not in the data.",
            "Name clips of the data in [data] holdout, or a dataset's holdout_split.",
        )
    training = [c for c in clips if not c.held_out and c.name not in data.holdout]
    rank = int(os.environ.get("RANK", 0))
    return (
        RandomCrops(training, data, run.batch, run.seed + 7919 * rank, data.frames),
        RandomCrops(held_out, data, run.batch, run.seed, data.frames),
    )


def _freeze_settings(settings: TrainSettings, output: Path) -> None:
    """Record the resolved settings; a checkpoint belongs to one recipe (its length may grow)."""
    output.mkdir(parents=True, exist_ok=True)
    record = output / "recipe.json"
    resolved = json.loads(json.dumps(asdict(settings)))
    if record.exists() and _checkpoint_to_load(output):
        lenient = ("steps", "log_every", "validate_every", "checkpoint_every", "tensorboard")
        changed = set(_differences(read_json(record), resolved)) - {f"run.{n}" for n in lenient}
        if changed:
            raise UsageError(
                f"{output} holds a run with other settings: {', '.join(sorted(changed))}.",
                "Choose another folder with --output, or restore the settings.",
            )
    write_json(record, resolved)


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Dotted names of the settings in which two JSON documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        dot = f"{where}." if where else ""
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{dot}{k}")]
    return [] if old == new else [where]


def _check_finite(loss: float, norm: float, step: int) -> None:
    """Stop before a broken step reaches the weights, their averages and the checkpoint."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise UsageError(
            f"Training diverged: at step {step} the loss is {loss}, its gradient's norm {norm}.",
            "Lower [optim] lr or use precision no; the last checkpoint is as it was before.",
        )


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def _rate(optim: OptimSettings, steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, optim.warmup))
        if optim.schedule == "constant":
            return warm
        done = min(1.0, step / max(1, steps))
        return warm * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)).item())

    return factor


def _generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    rank = int(os.environ.get("RANK", 0))
    return torch.Generator(device).manual_seed((seed * 1_000_003 + rank) * 2**33 % 2**62 + step)


def _checkpoint_to_load(output: Path) -> Path | None:
    """The newest whole checkpoint; `.old` is the only one between the two renames."""
    for name in ("checkpoint", "checkpoint.old"):
        if (output / name / "step.json").exists():
            return output / name
    return None


def _resume(accelerator: Accelerator, output: Path) -> int:
    folder = _checkpoint_to_load(output)
    if folder is None:
        return 0
    accelerator.load_state(str(folder))
    return read_json(folder / "step.json")["step"]


def _checkpoint(accelerator: Accelerator, output: Path, step: int) -> None:
    """Replace the checkpoint so that a crash at any moment leaves a whole one."""
    final, part, old = (output / n for n in ("checkpoint", "checkpoint.part", "checkpoint.old"))
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for file in part.iterdir():
            sync(file)
        write_json(part / "step.json", {"step": step})
        if final.exists():  # otherwise `old` may be all there is
            shutil.rmtree(old, ignore_errors=True)
            publish(final, old)
        publish(part, final)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def _export(accelerator: Accelerator, objective: Objective, output: Path) -> Path:
    final = output / "pipeline"
    if accelerator.is_main_process:
        part = part_path(final)
        objective.pipeline.save_pretrained(str(part))
        shutil.rmtree(final, ignore_errors=True)
        publish(part, final)
    accelerator.wait_for_everyone()
    return final
