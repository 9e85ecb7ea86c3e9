"""What a run writes so that it can go on: its settings, its checkpoint, its pipeline."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from framelift.config import from_mapping
from framelift.errors import UsageError
from framelift.files import part_path, publish, read_json, sync, write_json
from framelift.methods.base import Objective
from framelift.training.settings import TrainSettings

LENIENT = {
    f"run.{name}"
    for name in (
        *("steps", "log_every", "validate_every", "checkpoint_every", "tensorboard", "workers"),
    )
}
"""Settings that a run may change on its way."""


def freeze_settings(settings: TrainSettings, output: Path, accelerator: Accelerator) -> None:
    """Record the resolved settings; a checkpoint belongs to one recipe and number of processes."""
    record, folder = output / "recipe.json", newest_checkpoint(output)
    resolved = json.loads(json.dumps(asdict(settings)))
    if folder is not None:
        before = read_json(folder / "step.json").get("processes", 1)
        if before != accelerator.num_processes:
            raise UsageError(
                f"{output} holds a run of {_processes(before)}, and this is one of "
                f"{_processes(accelerator.num_processes)}.",
                "Start as many as before, or choose another folder with --output.",
            )
    if folder is not None and record.exists():
        recorded = from_mapping(TrainSettings, read_json(record), str(record))  # fills in defaults
        changed = _differences(json.loads(json.dumps(asdict(recorded))), resolved)
        if changed := sorted(set(changed) - LENIENT):
            raise UsageError(
                f"{output} holds a run with other settings: {', '.join(changed)}.",
                "Choose another folder with --output, or restore the settings.",
            )
    accelerator.wait_for_everyone()  # until all have compared
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        write_json(record, resolved)


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Dotted names of the settings in which two JSON documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        dot = f"{where}." if where else ""
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{dot}{k}")]
    return [] if old == new else [where]


def newest_checkpoint(output: Path) -> Path | None:
    """The newest whole checkpoint; `.old` is the only one between the two renames."""
    for name in ("checkpoint", "checkpoint.old"):
        if (output / name / "step.json").exists():
            return output / name
    return None


def load_checkpoint(accelerator: Accelerator, output: Path) -> int:
    """Restore weights, averages and optimizer; returns the number of steps that were made."""
    folder = newest_checkpoint(output)
    if folder is None:
        return 0
    accelerator.load_state(str(folder))
    return read_json(folder / "step.json")["step"]


def save_checkpoint(accelerator: Accelerator, fitted: "Fitted", output: Path, step: int) -> None:
    """Replace the checkpoint so that a crash at any moment leaves a whole one."""
    final, part, old = (output / n for n in ("checkpoint", "checkpoint.part", "checkpoint.old"))
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        fitted.save(part)
        for file in part.iterdir():
            sync(file)
        write_json(part / "step.json", {"step": step, "processes": accelerator.num_processes})
        if final.exists():  # otherwise `old` may be all there is
            shutil.rmtree(old, ignore_errors=True)
            publish(final, old)
        publish(part, final)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def export(accelerator: Accelerator, objective: Objective, output: Path) -> Path:
    """Write the pipeline's folder."""
    final = output / "pipeline"
    if accelerator.is_main_process:
        part = part_path(final)
        objective.pipeline.save_pretrained(str(part))
        shutil.rmtree(final, ignore_errors=True)
        publish(part, final)
    accelerator.wait_for_everyone()
    return final


@dataclass
class Fitted:
    """What `prepare` changed in a pipeline, on one process, before the first step.

    `tensors` by "component/name", buffers that no pipeline folder holds included; `configs` by
    component, "" for the pipeline's own.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Fitted | None":
        """From a checkpoint; None if it is of a version that kept nothing."""
        if not (folder / "fitted.json").exists():
            return None
        configs = read_json(folder / "fitted.json")
        return cls(load_file(folder / "fitted.safetensors"), configs)

    def save(self, folder: Path) -> None:
        """Into a checkpoint."""
        save_file(self.tensors, folder / "fitted.safetensors")
        write_json(folder / "fitted.json", self.configs)

    def restore(self, pipeline: Any) -> None:
        """Change a pipeline in the same way."""
        parts = _parts(pipeline)
        for name, config in self.configs.items():
            parts[name].register_to_config(**config)
        tensors = {name: dict(_tensors(part)) for name, part in parts.items()}
        for key, value in self.tensors.items():
            part, _, name = key.partition("/")
            tensors[part][name].data.copy_(value)


def fit(
    objective: Objective, batches: Any, accelerator: Accelerator, checkpoint: Path | None
) -> Fitted:
    """Run `prepare` on one process and give every other what it found, or take it from before."""
    pipeline = objective.pipeline
    fitted = Fitted.load(checkpoint) if checkpoint is not None else None
    if fitted is None:
        found: list[Fitted] = [Fitted()]
        if accelerator.is_main_process:
            before = _state(pipeline)
            objective.prepare(batches)
            found = [_since(pipeline, before)]
        (fitted,) = broadcast_object_list(found)
    fitted.restore(pipeline)
    return fitted


_State = tuple[dict[str, str], dict[str, dict[str, Any]]]


def _state(pipeline: Any) -> _State:
    """Digests of all tensors, and all configurations."""
    parts = _parts(pipeline)
    digests = {f"{p}/{n}": _digest(t) for p, part in parts.items() for n, t in _tensors(part)}
    ours = {p: part for p, part in parts.items() if hasattr(part, "register_to_config")}
    configs = {p: dict(part.config) for p, part in ours.items()}  # not those of transformers
    return digests, configs


def _since(pipeline: Any, before: _State) -> Fitted:
    """What is not as it was."""
    parts, (digests, configs) = _parts(pipeline), before
    fitted = Fitted()
    for p, part in parts.items():
        for n, tensor in _tensors(part):
            if _digest(tensor) != digests[f"{p}/{n}"]:
                fitted.tensors[f"{p}/{n}"] = tensor.detach().cpu().clone().contiguous()
        now = dict(part.config) if p in configs else {}
        if changed := {k: v for k, v in now.items() if configs[p].get(k) != v}:
            fitted.configs[p] = changed
    return fitted


def _parts(pipeline: Any) -> dict[str, Any]:
    return {"": pipeline, **{n: c for n, c in pipeline.components.items() if c is not None}}


def _tensors(part: Any) -> list[tuple[str, Tensor]]:
    return [*part.named_parameters(), *part.named_buffers()] if isinstance(part, nn.Module) else []


def _digest(tensor: Tensor) -> str:
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(raw.numpy().data).hexdigest()
