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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamtrans.core import BadConfig, BadModel
from streamtrans.corpus import Recording, read_manifest
from streamtrans.model.config import NetworkConfig, read_features, read_json
from streamtrans.model.loading import load_network
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer
from streamtrans.train.anchored.batches import POOL, HeardBatch, HeardBatches, Prompting
from streamtrans.train.anchored.kept import LEVELS, Kept, read_kept, write_kept
from streamtrans.train.anchored.lessons import Answers, Directions, Hearing, Lesson
from streamtrans.train.anchored.peek import Looked, peek
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage, load_anchored
from streamtrans.train.anchored.sounds import read_ahead
from streamtrans.train.diverged import Diverged
from streamtrans.train.loader import load_batches
from streamtrans.train.optim import learning_rate
from streamtrans.train.trainer import keep_memory

CLIP = 1.0
CHAPTER = 32
"""Pools between two looks at what was spoken ahead meanwhile; a resumed run repeats what they found."""


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
    """
    recipe = load_anchored(config.recipe)
    folder = Path(config.runs) / recipe.name
    keep_memory()
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
    run = _StageRun(recipe, recipe.stage(stage), AnchoredConfig("", str(runs)), root)
    kept = Kept(run.step, (run.folder / "done").exists(), run.average)
    return write_kept(file, kept, run.start, LEVELS[run.stage.lesson])


def stage_tensors(folder: Path, stage: str, which: str = "best") -> dict[str, Tensor]:
    """Return the network's tensors that a stage left: those that did ``best`` with people, or the ``last`` ones.

    Raises:
        BadConfig: it has left none yet.
    """
    for name in ("best.safetensors", "weights.safetensors") if which == "best" else ("weights.safetensors",):
        if (folder / stage / name).exists():
            return load_file(folder / stage / name)
    raise BadConfig(f"stage {stage} of {folder} has left no weights yet")


class _StageRun:
    def __init__(self, recipe: AnchoredRecipe, stage: AnchoredStage, config: AnchoredConfig, root: Path) -> None:
        self.recipe, self.stage, self.config = recipe, stage, config
        self.folder = root / stage.name
        (self.folder / "peeks").mkdir(parents=True, exist_ok=True)
        base = Path(recipe.base)
        self.asking, self.features = Prompting(Tokenizer.load(base)), read_features(base)
        torch.manual_seed(recipe.seed)
        start = load_base(base)
        if stage.start_from:
            start.load_state_dict(stage_tensors(root, stage.start_from, stage.start_with))
        self.lesson: Lesson
        if stage.lesson == "hearing":
            self.lesson = Hearing(start, stage, self.asking)
        else:
            self.lesson = Directions(load_base(base), start, stage, self.asking)
        self.trained = self.lesson.trained
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=stage.peak_lr, betas=(0.9, 0.98), weight_decay=stage.weight_decay, fused=True
        )
        self.average = {name: value.detach().clone() for name, value in self.trained.items()}
        # Fresh adapters are drawn at random and add nothing: what they have learnt is all of them.
        self.start = {
            name: torch.zeros_like(value) if "lora_" in name else value.clone() for name, value in self.average.items()
        }
        self.step, self.best = 0, -math.inf
        self.recordings = _recordings(recipe)
        self._resume()

    def run(self) -> None:
        """Take the remaining steps."""
        if self.step >= self.stage.steps:
            (self.folder / "done").touch()
            return
        began, first, noted = time.monotonic(), self.step, dict[str, float]()
        if self.step == 0:
            self._look()
        for batch, answers in self._lessons():
            for name, value in self._take_step(batch, answers).items():
                noted[name] = noted.get(name, 0.0) + value / self.config.log_every
            self.step += 1
            if self.step % self.config.log_every == 0:
                self._log(noted, (time.monotonic() - began) / (self.step - first))
                noted.clear()
            if self.step % self.recipe.peek.every == 0 or self.step == self.stage.steps:
                self._look()
            if self.step % self.config.save_every == 0 or self.step == self.stage.steps:
                self._save()
        (self.folder / "done").touch()

    def _lessons(self) -> Iterator[tuple[HeardBatch, Answers]]:
        """Yield batches with the anchor's answers, each pool of them ``repeat`` times, from the current step on."""
        per_pool = POOL * self.stage.repeat
        for chapter in range(self.step // (CHAPTER * per_pool), -(-self.stage.steps // (CHAPTER * per_pool))):
            first = max(chapter * CHAPTER, self.step // per_pool)
            end = min((chapter + 1) * CHAPTER, -(-self.stage.steps // per_pool))
            made = HeardBatches(self.recipe, self.stage, self._ahead(chapter), first * POOL, end * POOL)
            batches = load_batches(made, processes=self.config.loader_processes)
            for pool in range(first, end):
                held: dict[int, tuple[HeardBatch, Answers]] = {}
                for number, place in enumerate(self._order(pool), start=pool * per_pool):
                    if place not in held:
                        batch = next(batches)
                        if number < self.step and self.stage.repeat == 1:
                            held[place] = None  # type: ignore[assignment]
                            continue
                        held[place] = (batch, self.lesson.ask(batch))
                    if self.step <= number < self.stage.steps:
                        yield held[place]
                    if self.stage.repeat == 1:
                        del held[place]

    def _order(self, pool: int) -> list[int]:
        """Return the places of a pool's batches, in the order of its steps; the first round is as they are made."""
        rng = np.random.default_rng([self.recipe.seed, 3, pool])
        again = [int(place) for _ in range(self.stage.repeat - 1) for place in rng.permutation(POOL)]
        return [*range(POOL), *again]

    def _ahead(self, chapter: int) -> int:
        """Return how much of the speech spoken ahead a chapter uses: what there was when it first began."""
        file = self.folder / "ahead.json"
        known: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if str(chapter) not in known:
            known[str(chapter)] = len(read_ahead(self.recipe))
            file.write_text(json.dumps(known))
        return known[str(chapter)]

    def _take_step(self, batch: HeardBatch, answers: Answers) -> dict[str, float]:
        rate = learning_rate(self.stage, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss, terms = self.lesson.loss(batch, answers)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), CLIP))
        if not math.isfinite(norm):
            raise Diverged(f"stage {self.stage.name}, step {self.step}: loss {float(loss)}, gradient's norm {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self.stage.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), [p.data for p in self.trained.values()], 1 - decay)
        spoken = float(batch.frames.sum()) * self.features.hop / 16_000
        return {**{name: float(term.detach()) for name, term in terms.items()}, "norm": norm, "audio_s": spoken}

    @torch.no_grad()
    def _look(self) -> None:
        """Write people's recordings with the averaged weights; keep these if they did best."""
        if not self.recordings:
            return
        network = Network(self.lesson.network.config)
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
            "optimizer": self.optimizer.state_dict(),
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
        self.optimizer.load_state_dict(state["optimizer"])
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


def load_base(folder: Path) -> Network:
    """Load the base of a run in float32.

    Raises:
        BadModel: it is no folder that ``streamtrans convert`` made.
    """
    if not folder.is_dir():
        raise BadModel(f"there is no folder {folder}; make it with streamtrans convert")
    raw = read_json(folder / "config.json")
    if raw.get("model_type") != "whisper_m2m" or not raw.get("prompt"):
        raise BadModel(
            f"{folder} is no whisperM2M folder that is asked as Whisper is: streamtrans convert --prompt whisper"
        )
    return load_network(folder, NetworkConfig.of(raw)).float()


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
