"""Run the stages of an anchored recipe: on one thread, resumable at any step.

```
runs/<name>/<stage>/state.pt             what the stage goes on from
runs/<name>/<stage>/weights.safetensors  the averaged network, at the last save
runs/<name>/<stage>/best.safetensors     the averaged network that did best with people's recordings
runs/<name>/<stage>/log.jsonl, peeks.jsonl, peeks/STEP.tsv
```
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from streamtrans.allocator import keep_freed
from streamtrans.core import BadConfig
from streamtrans.corpus import Recording, read_manifest
from streamtrans.model.config import read_features
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer
from streamtrans.train.anchored.asked import AskedBatches
from streamtrans.train.anchored.batches import Prompting
from streamtrans.train.anchored.bodies import make_body
from streamtrans.train.anchored.guessing import Fresh, Guessing
from streamtrans.train.anchored.kept import LEVELS, Kept, read_kept, write_kept
from streamtrans.train.anchored.lessons import Answered, Directions, Hearing, Lesson
from streamtrans.train.anchored.listening import open_shelf
from streamtrans.train.anchored.peek import Looked, peek
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage, load_anchored
from streamtrans.train.anchored.taught import TaughtBatch, TaughtBatches
from streamtrans.train.anchored.weights import load_start, stage_tensors
from streamtrans.train.diverged import Diverged
from streamtrans.train.optim import learning_rate, make_optimizers, set_learning_rate
from streamtrans.train.stopping import Stopping, stoppable

CLIP = 1.0
TAUGHT = ("body", "guessing")
"""Lessons of networks of their own, which nobody looks at with people's recordings: they begin with nothing."""


@dataclass(frozen=True, slots=True)
class AnchoredConfig:
    """How to run, as opposed to what: nothing here changes the recipe."""

    recipe: str
    runs: str = "runs"
    stage: str | None = None
    """This stage only; by default all that aren't finished, in order."""
    save_every: int = 25
    log_every: int = 10
    loader_processes: int = 1


def train_anchored(config: AnchoredConfig) -> Path:
    """Train, or go on training; returns the folder of the run.

    Raises:
        BadConfig: the recipe is wrong, or a stage it starts from isn't there.
        BadModel: the base is no whisperM2M folder.
        Stopped: a signal came; the step it came in is saved.
    """
    recipe = load_anchored(config.recipe)
    folder = Path(config.runs) / recipe.name
    keep_freed()
    torch.set_num_threads(1)
    for stage in recipe.stages if config.stage is None else (recipe.stage(config.stage),):
        if not (folder / stage.name / "done").exists():
            _StageRun(recipe, stage, config, folder).run()
    return folder


def keep_stage(recipe: AnchoredRecipe, stage: str, file: Path, *, runs: str | Path = "runs") -> int:
    """Write what a stage has learnt so far to a small file, for ``kept`` of the recipe; returns its bytes.

    Raises:
        BadConfig: the stage hasn't saved anything yet.
    """
    root = Path(runs) / recipe.name
    if not (root / stage / "state.pt").exists():
        raise BadConfig(f"stage {stage} of {root} has saved nothing yet")
    if recipe.stage(stage).lesson not in LEVELS:
        raise BadConfig(f"stage {stage} is small as it is: export its folder")
    run = _StageRun(recipe, recipe.stage(stage), AnchoredConfig("", str(runs)), root)
    kept = Kept(run.step, (run.folder / "done").exists(), run.average)
    return write_kept(file, kept, run.start, LEVELS[run.stage.lesson])


class _StageRun:
    def __init__(self, recipe: AnchoredRecipe, stage: AnchoredStage, config: AnchoredConfig, root: Path) -> None:
        self.recipe, self.stage, self.config = recipe, stage, config
        self.folder = root / stage.name
        (self.folder / "peeks").mkdir(parents=True, exist_ok=True)
        base = Path(recipe.base)
        self.asking, self.features = Prompting(Tokenizer.load(base)), read_features(base)
        torch.manual_seed(recipe.seed)
        start = load_start(recipe, stage, root)
        self.sizes = start.config
        self.lesson: Lesson[Any]
        self.batches: AskedBatches | TaughtBatches
        self.optimizers: tuple[torch.optim.Optimizer, ...]
        if stage.lesson == "hearing":
            self.lesson = hearing = Hearing(start, stage, self.asking)
            noted, processes = self.folder / "ahead.json", config.loader_processes
            self.batches = AskedBatches(recipe, stage, hearing.ask, noted, processes)
        else:
            shelf = open_shelf(recipe, stage.name, root.parent, start)
            self.lesson = self._lesson(start, root)
            self.batches = TaughtBatches(recipe, stage, shelf, self.asking, self.folder / "chapters.json")
        self.trained = self.lesson.trained
        if stage.lesson in TAUGHT:
            self.optimizers = make_optimizers(self.lesson.network, stage)
        else:  # nothing begins anew, and Muon would change much at once
            betas, decay = (0.9, 0.98), stage.weight_decay
            adam = torch.optim.AdamW(self.trained.values(), stage.peak_lr, betas, weight_decay=decay, fused=True)
            self.optimizers = (adam,)
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        # Fresh adapters are drawn at random and add nothing: what they have learnt is all of them.
        self.start = {
            name: torch.zeros_like(value) if "lora_" in name else value.clone() for name, value in self.average.items()
        }
        self.step, self.best = 0, -math.inf
        self.recordings = [] if stage.lesson in TAUGHT else _recordings(recipe)
        self._resume()

    def _lesson(self, start: Network, root: Path) -> Lesson[Any]:
        stage = self.stage
        if stage.lesson == "directions":
            return Directions(start, stage, self.asking)
        body = make_body(self.recipe, stage, start)
        if stage.lesson == "body":
            return Fresh(body, stage, self.asking)
        if not (root / stage.beside / "done").exists():
            raise BadConfig(
                f"stage {stage.name} stands beside {stage.beside}, which isn't finished in {root}: train that first"
            )
        body.network.load_state_dict({**body.network.state_dict(), **stage_tensors(root, stage.beside)})
        body.start_speculator()
        return Guessing(body, stage, self.asking)

    def run(self) -> None:
        """Take the remaining steps."""
        if self.step >= self.stage.steps:
            (self.folder / "done").touch()
            return
        if self.step == 0:
            self._look()
        with stoppable(self._stop) as stopping:
            self._learn(stopping)
        (self.folder / "done").touch()

    def _learn(self, stopping: Stopping) -> None:
        began, first, noted = time.monotonic(), self.step, dict[str, float]()
        print(f"{self.stage.name} {first}/{self.stage.steps}  the first batches are being made", flush=True)
        for given in self.batches.after(self.step):
            with stopping.step():
                for name, value in self._take_step(given).items():
                    noted[name] = noted.get(name, 0.0) + value / self.config.log_every
                self.step += 1
                if self.step % self.config.log_every == 0:
                    self._log(noted, (time.monotonic() - began) / (self.step - first))
                    noted.clear()
                if self.step % self.recipe.peek.every == 0 or self.step == self.stage.steps:
                    self._look()
                if self.step % self.config.save_every == 0 or self.step == self.stage.steps:
                    self._save()
            if self.step == self.stage.steps:
                break

    def _stop(self) -> str:
        self._save()
        return f"stage {self.stage.name}, step {self.step} of {self.stage.steps}, is saved in {self.folder}"

    def _take_step(self, given: Answered | TaughtBatch) -> dict[str, float]:
        set_learning_rate(self.optimizers, learning_rate(self.stage, self.step))
        with torch.autocast("cpu", torch.bfloat16):
            loss, terms = self.lesson.loss(given)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), CLIP))
        if not math.isfinite(norm):
            raise Diverged(f"stage {self.stage.name}, step {self.step}: loss {float(loss)}, gradient's norm {norm}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        decay = min(self.stage.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), [p.data for p in self.trained.values()], 1 - decay)
        return {**{name: float(term.detach()) for name, term in terms.items()}, "norm": norm, "audio_s": given.seconds}

    @torch.no_grad()
    def _look(self) -> None:
        """Write people's recordings with the averaged weights; keep these if they did best."""
        if not self.recordings:
            return
        network = Network(self.sizes)
        network.load_state_dict(self.lesson.tensors(self.average))
        prompt = self.asking.anchor if self.stage.lesson == "hearing" else lambda _, target: self.asking.model(target)
        looked = peek(network, self.asking.tokenizer, self.features, self.recordings, prompt)
        _keep_peek(self.folder, self.step, looked)
        if looked.score > self.best:
            self.best = looked.score
            self._write("best.safetensors")

    def _log(self, terms: dict[str, float], seconds_per_step: float) -> None:
        line = {"step": self.step, "s_per_step": round(seconds_per_step, 3), **terms, "time": int(time.time())}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        said = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
        print(f"{self.stage.name} {self.step}/{self.stage.steps}  {said}  {seconds_per_step:.2f} s/step", flush=True)

    def _save(self) -> None:
        """Write state and averaged weights; a half-written file never replaces a whole one."""
        state = {
            "step": self.step,
            "best": self.best,
            "trained": {name: value.detach() for name, value in self.trained.items()},
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, self.folder / "state.pt.part")
        self._write("weights.safetensors")
        os.replace(self.folder / "state.pt.part", self.folder / "state.pt")

    def _write(self, name: str) -> None:
        tensors = self.lesson.tensors(self.average)
        kept = {key: value.to(torch.float16).contiguous() for key, value in tensors.items()}
        save_file(kept, self.folder / f"{name}.part")
        os.replace(self.folder / f"{name}.part", self.folder / name)

    def _resume(self) -> None:
        if not (self.folder / "state.pt").exists():
            self._go_on_from_kept()
            return
        state: dict[str, Any] = torch.load(self.folder / "state.pt", weights_only=True)
        self.step, self.best, self.average = state["step"], state["best"], state["average"]
        kept = state["optimizers"] if "optimizers" in state else [state["optimizer"]]  # as earlier versions saved it
        for optimizer, saved in zip(self.optimizers, kept, strict=True):
            optimizer.load_state_dict(saved)
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(state["trained"][name])

    def _go_on_from_kept(self) -> None:
        file = Path(self.recipe.kept) / f"{self.stage.name}.npz"
        if not self.recipe.kept or not file.exists():
            return
        kept = read_kept(file, self.start)
        # A stage that was ended early ends here as well.
        self.step, self.average = self.stage.steps if kept.done else kept.step, kept.values
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(kept.values[name])
        self._save()


def _recordings(recipe: AnchoredRecipe) -> list[Recording]:
    if not recipe.peek.manifest:
        return []
    found, problems = read_manifest(recipe.peek.manifest)
    if problems:
        raise BadConfig(problems[0])
    count = min(recipe.peek.rows, len(found))
    return [found[at * len(found) // count] for at in range(count)]


def _keep_peek(folder: Path, step: int, looked: Looked) -> None:
    line = {"step": step, "score": looked.score, "errors": looked.errors, "bleu": looked.bleu, "time": int(time.time())}
    with (folder / "peeks.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    rows = ["recording\tsource\ttarget\treference\thypothesis"]
    for text in looked.texts:
        cells = (text.recording, text.source, text.target, text.reference, text.hypothesis)
        rows.append("\t".join(" ".join(cell.split()) for cell in cells))
    (folder / "peeks" / f"{step}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    errors = "  ".join(f"{code} {100 * rate:.1f}" for code, rate in looked.errors.items())
    scores = "  ".join(f"{name} {score:.1f}" for name, score in looked.bleu.items())
    print(f"people, step {step}: errors {errors}   BLEU {scores}   score {looked.score:.2f}", flush=True)
