"""Run the stages of a recipe: resumable, on one device or on several CPU workers that share their gradients."""

from __future__ import annotations

import ctypes
import datetime
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamtrans.core import BadConfig
from streamtrans.model.config import NetworkConfig
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer
from streamtrans.train.batches import Batch, Batches
from streamtrans.train.loader import load_batches
from streamtrans.train.objective import Objective, Student
from streamtrans.train.optim import learning_rate, make_optimizers, set_learning_rate
from streamtrans.train.recipe import Recipe, Stage, load_recipe
from streamtrans.train.vocabulary import prepare_vocabularies

CLIP = 1.0
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of glibc's mallopt parameters
MASKED_TIME, MASKED_BANDS = 0.12, 12
"""SpecAugment: the largest share of frames and the largest number of mel bands hidden at once."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to run, as opposed to what: nothing here changes the recipe."""

    recipe: str
    runs: str = "runs"
    stage: str | None = None
    """Run this stage only; by default all that aren't finished, in order."""
    workers: int = 1
    device: str = "cpu"
    save_every: int = 200
    log_every: int = 20
    loader_processes: int = 1


def train(config: TrainConfig) -> Path:
    """Train, or go on training; returns the folder of the run.

    Raises:
        BadConfig: the recipe or the setting is wrong, or a stage it starts from isn't there.
    """
    recipe = load_recipe(config.recipe)
    folder = Path(config.runs) / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    prepare_vocabularies(recipe, folder)
    for stage in recipe.stages if config.stage is None else (recipe.stage(config.stage),):
        if (folder / stage.name / "done").exists():
            continue
        if config.workers == 1:
            _run(0, config, stage.name, 0)
        else:
            port = 20_000 + os.getpid() % 20_000
            mp.spawn(_run, (config, stage.name, port), nprocs=config.workers)  # type: ignore[attr-defined]
    return folder


def keep_memory() -> None:
    """Tell glibc to keep freed memory: a step's large tensors come and go, and fresh pages cost a tenth of it."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library; training is only slower
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _run(rank: int, config: TrainConfig, name: str, port: int) -> None:
    keep_memory()
    torch.set_num_threads(1 if config.device == "cpu" else torch.get_num_threads())
    if config.workers > 1:
        dist.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=rank,
            world_size=config.workers,
            timeout=datetime.timedelta(hours=2),
        )
    try:
        recipe = load_recipe(config.recipe)
        _StageRun(recipe, recipe.stage(name), config, rank).run()
    finally:
        if config.workers > 1:
            dist.destroy_process_group()


class _StageRun:
    """One stage on one worker."""

    def __init__(self, recipe: Recipe, stage: Stage, config: TrainConfig, rank: int) -> None:
        self.recipe, self.stage, self.config, self.rank = recipe, stage, config, rank
        self.folder = Path(config.runs) / recipe.name / stage.name
        self.folder.mkdir(parents=True, exist_ok=True)
        root = self.folder.parent
        self.tokenizer, self.phones = Tokenizer.load(root), Tokenizer.load(root / "phones")
        torch.manual_seed(recipe.seed)
        network = Network(NetworkConfig(**recipe.network, vocab_size=self.tokenizer.size))
        initialise(network)
        self.student = Student(network, self.phones.size).to(config.device)
        self.objective = Objective(stage)
        self.step = 0
        _load_parts(self.student, stage, root)
        self.optimizers = make_optimizers(self.student, stage, rank=rank, workers=config.workers)
        self._resume()

    def run(self) -> None:
        """Take the remaining steps, saving now and then."""
        began, first = time.monotonic(), self.step
        batches = Batches(self.recipe, self.stage, self.folder.parent, self.rank, first)
        for batch in load_batches(batches, processes=self.config.loader_processes):
            values = self._take_step(_move(batch, self.config.device))
            self.step += 1
            if self.rank == 0 and self.step % self.config.log_every == 0:
                self._log(values, (time.monotonic() - began) / (self.step - first))
            if self.step % self.config.save_every == 0:
                self._save()
        self._save()
        if self.rank == 0:
            (self.folder / "done").touch()

    def _take_step(self, batch: Batch) -> dict[str, float]:
        stage = self.stage
        if batch.mel is not None and batch.frames is not None and stage.augment:
            mask_features(batch.mel, batch.frames, torch.Generator().manual_seed(self.step * 64 + self.rank))
        set_learning_rate(self.optimizers, learning_rate(stage, self.step))
        with torch.autocast(self.config.device.split(":")[0], torch.bfloat16):
            loss, values = self.objective(self.student, batch, self.step / stage.steps)
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(f"stage {stage.name}, step {self.step}: the loss is {float(loss.detach())}")
        loss.backward()  # type: ignore[no-untyped-call]
        share_gradients(self.student, self.config.workers)
        nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.grad is not None], CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return values

    def _log(self, values: dict[str, float], seconds_per_step: float) -> None:
        left = datetime.timedelta(seconds=int((self.stage.steps - self.step) * seconds_per_step))
        terms = "  ".join(f"{name} {self.objective.running[name]:.3f}" for name in values)
        rate = learning_rate(self.stage, self.step)
        line = {"step": self.step, "seconds_per_step": round(seconds_per_step, 3), **self.objective.running}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        print(
            f"{self.stage.name} {self.step}/{self.stage.steps}  {terms}  lr {rate:.1e}  "
            f"{seconds_per_step:.2f} s/step  {left} left",
            flush=True,
        )

    def _save(self) -> None:
        """Write weights and the state of training; a half-written file never replaces a whole one."""
        self.optimizers[1].gather()
        if self.rank:
            return
        state = {
            "step": self.step,
            "running": self.objective.running,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, self.folder / "state.pt.part")
        tensors = {name: value.contiguous() for name, value in self.student.state_dict().items()}
        save_file(tensors, self.folder / "weights.safetensors.part")
        os.replace(self.folder / "weights.safetensors.part", self.folder / "weights.safetensors")
        os.replace(self.folder / "state.pt.part", self.folder / "state.pt")

    def _resume(self) -> None:
        if not (self.folder / "state.pt").exists():
            return
        state = torch.load(self.folder / "state.pt", weights_only=True, map_location=self.config.device)
        self.student.load_state_dict(load_file(self.folder / "weights.safetensors"))
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.objective.running = state["step"], state["running"]


def initialise(network: Network) -> None:
    """Draw fresh weights: small normal matrices, residual outputs scaled by depth, tied embedding at 1/sqrt(E)."""
    width = network.config.d_model
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad or "norm" in name:
            continue
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        elif "embed" in name:
            nn.init.normal_(parameter, std=width**-0.5 if "tokens" in name else 0.02)
        elif parameter.ndim == 2:
            nn.init.xavier_normal_(parameter, gain=0.4 if name.endswith(("out_proj.weight", "fc2.weight")) else 1.0)


def share_gradients(student: nn.Module, workers: int) -> None:
    """Average the gradients over the workers, in one message."""
    if workers == 1:
        return
    gradients = [p.grad for p in student.parameters() if p.requires_grad and p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def mask_features(mel: Tensor, frames: Tensor, rng: torch.Generator) -> None:
    """Hide random stretches of time and bands of frequency in place (SpecAugment, Park et al. 2019)."""
    bands = mel.shape[1]
    for row, length in zip(mel, frames.tolist(), strict=True):
        for _ in range(2):
            width = int(torch.rand((), generator=rng) * MASKED_TIME * length)
            at = int(torch.rand((), generator=rng) * (length - width))
            row[:, at : at + width] = 0.0
            width = int(torch.rand((), generator=rng) * MASKED_BANDS)
            at = int(torch.rand((), generator=rng) * (bands - width))
            row[at : at + width, :length] = 0.0


def _load_parts(student: Student, stage: Stage, root: Path) -> None:
    for part, earlier in stage.start_from.items():
        path = root / earlier / "weights.safetensors"
        if not path.exists():
            raise BadConfig(f"stage {stage.name} starts its {part} from stage {earlier}, which has no weights yet")
        module = student.parts().get(part)
        if module is None:
            raise BadConfig(f"stage {stage.name}: this network has no {part} to start from stage {earlier}")
        prefix = next(name for name, other in student.named_modules() if other is module) + "."
        saved = load_file(path)
        module.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})


def _move(batch: Batch, device: str) -> Batch:
    values = {item.name: getattr(batch, item.name) for item in fields(batch)}
    moved: dict[str, Any] = {name: None if value is None else value.to(device) for name, value in values.items()}
    return Batch(**moved)


def stage_weights(folder: Path, stage: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the network's tensors that a stage left, under their checkpoint names (without the CTC head)."""
    for name, tensor in load_file(folder / stage / "weights.safetensors").items():
        if name.startswith("network."):
            yield name.removeprefix("network."), tensor
