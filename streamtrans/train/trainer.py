"""Run the stages of a recipe: resumable, on one device or on several CPU workers that share their gradients."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamtrans.allocator import keep_freed
from streamtrans.core import BadConfig, StreamtransError
from streamtrans.model.config import NetworkConfig
from streamtrans.model.network import Network, spread_layers
from streamtrans.text import Tokenizer
from streamtrans.train.batches import Batch, Batches
from streamtrans.train.diverged import Diverged, save_culprit
from streamtrans.train.loader import load_batches
from streamtrans.train.objective import Objective, Student
from streamtrans.train.optim import learning_rate, make_optimizers, set_learning_rate
from streamtrans.train.recipe import Recipe, Stage, build, load_recipe
from streamtrans.train.stopping import handled, stoppable
from streamtrans.train.vocabulary import frequent_tokens, prepare_vocabularies

CLIP = 1.0
ADDS = ("out_proj.weight", "fc2.weight", "o_proj.weight", "down_proj.weight")
"""Matrices that make what a layer adds."""
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
        Stopped: a signal came; the step it came in is saved.
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
            _run_workers(config, stage.name)
    return folder


def _run_workers(config: TrainConfig, name: str) -> None:
    """Run a stage on several workers; what one of them can't do is raised here, without its traceback."""
    port = 20_000 + os.getpid() % 20_000
    errors = mp.get_context("spawn").SimpleQueue()
    workers = mp.spawn(_run_worker, (config, name, port, errors), nprocs=config.workers, join=False)  # type: ignore[attr-defined]
    told = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        for process in workers.processes:
            process.terminate() if len(told) == 1 else process.kill()

    try:
        with handled(pass_on):
            while not workers.join():
                pass
    except mp.ProcessExitedException:  # type: ignore[attr-defined]
        if len(told) > 1:
            raise KeyboardInterrupt from None
        raise
    except mp.ProcessRaisedException:  # type: ignore[attr-defined]
        if errors.empty():
            raise
        raise errors.get() from None


def _run_worker(rank: int, config: TrainConfig, name: str, port: int, errors: Any) -> None:
    try:
        _run(rank, config, name, port)
    except StreamtransError as error:
        errors.put(error)
        raise


def _run(rank: int, config: TrainConfig, name: str, port: int) -> None:
    keep_freed()
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
        network = Network(stage_network(recipe, stage, self.tokenizer))
        initialise(network, network.config.d_model)
        self.student = Student(network, self.phones.size).to(config.device)
        self.objective = Objective(stage, share=partial(share_values, config.workers))
        self.step = 0
        _load_parts(self.student, stage, root)
        if network.speculator is not None and network.speculator.draft_tokens is not None:
            network.speculator.draft_tokens.copy_(
                frequent_tokens(recipe, self.tokenizer, network.config.draft_vocabulary)
            )
        for part in stage.frozen:
            self.student.parts()[part].requires_grad_(False)
        self.optimizers = make_optimizers(self.student, stage, rank=rank, workers=config.workers)
        self._resume()

    def run(self) -> None:
        """Take the remaining steps, saving now and then."""
        began, first = time.monotonic(), self.step
        if self.rank == 0:
            print(f"{self.stage.name} {first}/{self.stage.steps}  the first batches are being made", flush=True)
        batches = Batches(self.recipe, self.stage, self.folder.parent, self.rank, first)
        with stoppable(self._stop, None if self.config.workers == 1 else self._agree) as stopping:
            for batch in load_batches(batches, processes=self.config.loader_processes):
                with stopping.step():
                    values = self._take_step(batch.to(self.config.device))
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
            dice = torch.Generator().manual_seed(self.step * 64 + self.rank)
            mask_features(batch.mel, batch.frames, dice, stage.masks)
        set_learning_rate(self.optimizers, learning_rate(stage, self.step))
        with torch.autocast(self.config.device.split(":")[0], torch.bfloat16):
            loss, values = self.objective(self.student, batch, self.step / stage.steps, self.step * 64 + self.rank)
        if not math.isfinite(float(loss.detach())):
            self._give_up(batch, float(loss.detach()), values)
        loss.backward()  # type: ignore[no-untyped-call]
        share_gradients(self.student, self.config.workers)
        norm = nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.grad is not None], CLIP)
        if not math.isfinite(float(norm)):
            self._give_up(batch, float(norm), values, "norm of the gradient")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return values

    def _give_up(self, batch: Batch, value: float, values: dict[str, float], what: str = "loss") -> NoReturn:
        """Save the batch whose loss or gradient is no number, and end the run before the weights take it."""
        origin = {"stage": self.stage.name, "step": self.step, "rank": self.rank, what: value, "terms": values}
        rank = f"_rank_{self.rank}" if self.config.workers > 1 else ""
        path = save_culprit(self.folder, f"nan_batch_step_{self.step}{rank}", batch, origin)
        raise Diverged(f"stage {self.stage.name}, step {self.step}: the {what} is {value}; its batch is in {path}")

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

    def _agree(self, asked: bool) -> bool:
        return share_values(self.config.workers, {"asked": float(asked)})["asked"] > 0

    def _stop(self) -> str:
        self._save()
        if self.config.workers > 1:
            dist.barrier()  # the first worker to end takes the others along
        return f"stage {self.stage.name}, step {self.step} of {self.stage.steps}, is saved in {self.folder}"

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


def stage_network(recipe: Recipe, stage: Stage, tokenizer: Tokenizer) -> NetworkConfig:
    """Return the shapes of a stage's network.

    Raises:
        BadConfig: a key is unknown.
    """
    raw = {**recipe.network, **stage.network}
    return build(NetworkConfig, {**raw, "vocab_size": tokenizer.size}, f"stage {stage.name}: network")


def initialise(network: nn.Module, width: int) -> None:
    """Draw fresh weights: small normal matrices, residual outputs scaled by depth, tied embedding at 1/sqrt(E)."""
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad or "norm" in name:
            continue
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        elif "embed" in name:
            nn.init.normal_(parameter, std=width**-0.5 if "tokens" in name else 0.02)
        elif parameter.ndim == 2:
            nn.init.xavier_normal_(parameter, gain=0.4 if name.endswith(ADDS) else 1.0)


def share_values(workers: int, values: dict[str, float]) -> dict[str, float]:
    """Average the terms of a loss over the workers: what they decide by them, they must decide alike."""
    if workers == 1:
        return values
    names = sorted(values)
    flat = torch.tensor([values[name] for name in names], dtype=torch.float64)
    dist.all_reduce(flat)
    return dict(zip(names, (flat / workers).tolist(), strict=True))


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


def mask_features(mel: Tensor, frames: Tensor, rng: torch.Generator, strength: float = 1.0) -> None:
    """Hide random stretches of time and bands of frequency in place (SpecAugment, Park et al. 2019)."""
    bands = mel.shape[1]
    for row, length in zip(mel, frames.tolist(), strict=True):
        for _ in range(2):
            width = int(torch.rand((), generator=rng) * strength * MASKED_TIME * length)
            at = int(torch.rand((), generator=rng) * (length - width))
            row[:, at : at + width] = 0.0
            width = int(torch.rand((), generator=rng) * strength * MASKED_BANDS)
            at = int(torch.rand((), generator=rng) * (bands - width))
            row[at : at + width, :length] = 0.0


def _load_parts(student: Student, stage: Stage, root: Path) -> None:
    for part, earlier in stage.start_from.items():
        if (part, earlier) == ("speculator", "decoder"):
            continue
        path = root / earlier / "weights.safetensors"
        if not path.exists():
            raise BadConfig(f"stage {stage.name} starts its {part} from stage {earlier}, which has no weights yet")
        module = student.parts().get(part)
        if module is None:
            raise BadConfig(f"stage {stage.name}: this network has no {part} to start from stage {earlier}")
        prefix = next(name for name, other in student.named_modules() if other is module) + "."
        saved = {k.removeprefix(prefix): v for k, v in load_file(path).items() if k.startswith(prefix)}
        if part == "decoder":
            saved = _with_layers(saved, student.network.config.decoder_layers)
        module.load_state_dict(saved)
    if stage.start_from.get("speculator") == "decoder":
        start_speculator(student.network)


def _with_layers(tensors: dict[str, Tensor], wanted: int) -> dict[str, Tensor]:
    """Keep or repeat a decoder's layers so that there are ``wanted``: evenly spread, first and last among them."""
    pattern = re.compile(r"layers\.(\d+)\.(.*)")
    found = {name: match for name in tensors if (match := pattern.fullmatch(name))}
    count = 1 + max(int(match[1]) for match in found.values())
    chosen = spread_layers(count, wanted)
    kept = {name: tensor for name, tensor in tensors.items() if name not in found}
    for name, match in found.items():
        copies = [number for number, layer in enumerate(chosen) if layer == int(match[1])]
        # A layer that is there twice adds half of what it added each time: the text stays nearly what it was.
        adds = match[2].startswith(("self_attn.out_proj.", "encoder_attn.out_proj.", "fc2."))
        tensor = tensors[name] / max(1, len(copies)) if adds else tensors[name]
        kept |= {f"layers.{number}.{match[2]}": tensor.clone() for number in copies}
    return kept


@torch.no_grad()
def start_speculator(network: Network) -> None:
    """Start each block of KVSPN from the top layer of its group: what queried those keys can query them again."""
    assert network.speculator is not None, "this network was made without a speculator"
    for block, layers in zip(network.speculator.blocks, network.config.speculator_reads, strict=True):
        top = network.model.decoder.layers[layers[-1]]
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (block.base_attn.q_proj, top.self_attn.q_proj),
            (block.base_attn.out_proj, top.self_attn.out_proj),
            (block.encoder_attn, top.encoder_attn),
            (block.encoder_attn_layer_norm, top.encoder_attn_layer_norm),
            (block.final_layer_norm, top.final_layer_norm),
        ]
        if block.fc1.weight.shape == top.fc1.weight.shape:
            pairs += [(block.fc1, top.fc1), (block.fc2, top.fc2)]
        if block.base_attn.k_proj is not None and block.base_attn.v_proj is not None:
            pairs += [(block.base_attn.k_proj, top.self_attn.k_proj), (block.base_attn.v_proj, top.self_attn.v_proj)]
        for mine, theirs in pairs:
            mine.load_state_dict(theirs.state_dict())
    network.speculator.layer_norm.load_state_dict(network.model.decoder.layer_norm.state_dict())


def stage_weights(folder: Path, stage: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the network's tensors that a stage left, under their checkpoint names (without the CTC head)."""
    for name, tensor in load_file(folder / stage / "weights.safetensors").items():
        if name.startswith("network."):
            yield name.removeprefix("network."), tensor
