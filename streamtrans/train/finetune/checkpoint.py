"""Checkpoints of a run: everything that the next step depends on, in a folder that is whole or isn't there.

Law: a run that goes on from a checkpoint takes the steps that it would have taken.

The weights that learn and the optimiser's moments, the loss scale, the running losses that decide about KL, the
random numbers of every process, and the step, from which learning rate and data follow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamtrans.core import BadConfig
from streamtrans.train.finetune.adapters import trained

if TYPE_CHECKING:
    from accelerate import Accelerator

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds beside weights, moments and random numbers."""

    step: int
    running: dict[str, float]


class Checkpoints:
    """The checkpoints of one run. ``settings`` are those that a resumed run must share with its beginning."""

    def __init__(self, folder: Path, accelerator: Accelerator, settings: dict[str, Any], *, keep: int) -> None:
        self.folder, self.accelerator, self.keep = folder, accelerator, keep
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))

    def newest(self) -> Path | None:
        """Return the folder of the newest checkpoint, if there is one."""
        found = self._all()
        return found[-1] if found else None

    def save(self, student: nn.Module, optimizer: Any, saved: Saved) -> None:
        """Write a checkpoint; all processes call it. Older ones go when it is whole."""
        part = self.folder / f"checkpoint-{saved.step}.part"
        if self.accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        torch.save(_random_state(self.accelerator.device), part / f"random-{self.accelerator.process_index}.pt")
        if self.accelerator.is_main_process:
            tensors = {name: parameter.detach().contiguous() for name, parameter in trained(student).items()}
            save_file(tensors, part / "weights.safetensors")
            scaler = self.accelerator.scaler
            state = {
                "step": saved.step,
                "running": saved.running,
                "optimizer": optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            torch.save(state, part / "state.pt")
            (part / "settings.json").write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            for path in part.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            whole = part.with_suffix("")
            shutil.rmtree(whole, ignore_errors=True)
            os.rename(part, whole)
            for old in self._all()[: -self.keep]:
                shutil.rmtree(old)

    def restore(self, student: nn.Module, optimizer: Any) -> Saved | None:
        """Put everything back as the newest checkpoint has it; ``None`` where there is none.

        Raises:
            BadConfig: the recipe's base, adapters or data are others than when the run began.
        """
        folder = self.newest()
        if folder is None:
            return None
        begun = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        if changed := sorted(name for name in self.settings if begun.get(name) != self.settings[name]):
            raise BadConfig(
                f"{folder} was written with another {', '.join(changed)} than the recipe has now; give the recipe "
                "another name to begin a new run, or undo the change"
            )
        device = self.accelerator.device
        tensors, parameters = load_file(folder / "weights.safetensors"), trained(student)
        if tensors.keys() != parameters.keys():
            raise BadConfig(f"{folder} holds other weights than this run trains; was its base converted anew?")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
        state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        for group, wanted in zip(optimizer.param_groups, settings, strict=True):
            group.update(wanted)  # the recipe's, which may have changed since; the rate follows from the step
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        own = folder / f"random-{self.accelerator.process_index}.pt"
        if own.exists():  # where there are more processes than before, the new ones begin with their own dice
            _set_random_state(torch.load(own, weights_only=True), device)
        return Saved(state["step"], state["running"])

    def _all(self) -> list[Path]:
        steps = {
            int(named[1]): path for path in self.folder.glob("checkpoint-*") if (named := _NAME.fullmatch(path.name))
        }
        return [steps[step] for step in sorted(steps)]


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
