"""Fine-tune a whisperM2M checkpoint: on one device or many, resumable at any step.

```
runs/<name>/corpus/         checked data, with every bad line by name
runs/<name>/checkpoint-N/   what the run goes on from
runs/<name>/model/          the checkpoint folder to serve, adapters merged: written at each evaluation and at the end
runs/<name>/tensorboard/, log.jsonl
```
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.model.config import read_features
from streamtrans.text import Tokenizer
from streamtrans.train.batches import FRAME_STEP, Batch
from streamtrans.train.diverged import Diverged, save_culprit
from streamtrans.train.finetune.adapters import export, make_student, trained
from streamtrans.train.finetune.batches import Manner, Order, Passes, Reading, Share, Work, load
from streamtrans.train.finetune.checkpoint import Checkpoints, Saved
from streamtrans.train.finetune.corpus import Corpus, Limits, prepare
from streamtrans.train.finetune.evaluation import Held, choose_held, measure_bleu, measure_losses
from streamtrans.train.finetune.pseudo import fill_in
from streamtrans.train.finetune.recipe import FinetuneRecipe, Source, load_finetune
from streamtrans.train.objective import Objective, Student
from streamtrans.train.optim import set_learning_rate
from streamtrans.train.stopping import Stopping, stoppable

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = timedelta(hours=24)
"""How long processes wait for the one that checks the corpus or evaluates."""


HELD_OUT = "held_out"
"""The corpus that evaluation during training reads."""


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How to run, as opposed to what: nothing here changes the recipe."""

    recipe: str
    runs: str = "runs"
    device: str = "auto"
    """``auto`` takes the GPU that the launcher assigned; ``cpu`` none."""


def finetune(config: FinetuneConfig) -> Path:
    """Train as the recipe says, or go on training; returns the folder of the run.

    Raises:
        BadConfig: the recipe or its data are wrong, or don't belong to the run that was begun.
        BadModel: the base can't be fine-tuned.
        Diverged: a loss is NaN or infinite; its batch was saved.
        Stopped: a signal came; the step it came in is saved.
    """
    recipe = load_finetune(config.recipe)
    folder = Path(config.runs) / recipe.name
    if not (folder / "done").exists():
        run = _Run(recipe, folder, make_accelerator(recipe, config.device))
        run.go()
    return folder


def make_accelerator(recipe: FinetuneRecipe, device: str) -> Accelerator:
    """Return ``accelerate``'s view of the devices, with the recipe's precision and passes per step.

    Raises:
        BadConfig: the device isn't there, or precision and batch don't fit the devices.
    """
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    training = recipe.training
    if device not in ("auto", "cpu", "cuda"):
        raise BadConfig(f"device {device!r}: use auto, cpu or cuda; which GPUs is said to accelerate launch")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadConfig("there is no CUDA device here; use --device cpu, or auto")
    cpu = device == "cpu" or not torch.cuda.is_available()
    if cpu and training.precision == "fp16":
        raise BadConfig('[training]: precision "fp16" needs a GPU; on CPU use "bf16" or "no"')
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=training.precision,
        gradient_accumulation_steps=training.accumulate,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    if training.batch % (parts := accelerator.num_processes * training.accumulate):
        raise BadConfig(
            f"[training]: batch is {training.batch}, which {accelerator.num_processes} devices with "
            f"{training.accumulate} passes per step can't share evenly; it must be a multiple of {parts}"
        )
    return accelerator


def learning_rate(step: int, *, warmup: int, steps: int, peak: float) -> float:
    """Return the rate of a step counted from 0: linear up to the peak, then linear down to zero after the last."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * max(0.0, (steps - step) / max(1, steps - warmup))


class Learner(nn.Module):
    """Network and objective behind one ``forward``, which is what synchronises the gradients of several devices."""

    def __init__(self, student: Student, objective: Objective) -> None:
        super().__init__()
        self.student, self.objective = student, objective

    def forward(self, batch: Batch, progress: float, seed: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its terms."""
        return self.objective(self.student, batch, progress, seed)


class _Run:
    """One process of a run."""

    def __init__(self, recipe: FinetuneRecipe, folder: Path, accelerator: Accelerator) -> None:
        self.recipe, self.folder, self.accelerator = recipe, folder, accelerator
        self.base = Path(recipe.base)
        self.student = make_student(recipe)
        self.manner = _manner(recipe, self.student)
        with accelerator.main_process_first():
            self.corpus = self._prepare("train", recipe.data)
            self.held: Held | None = None
            if recipe.evaluation.every:
                self.held = choose_held(self._prepare(HELD_OUT, recipe.evaluation.data), recipe.evaluation)
        self.objective = Objective(recipe.stage())
        training = recipe.training
        optimizer = torch.optim.AdamW(
            trained(self.student).values(),
            lr=training.peak_lr,
            betas=training.betas,
            weight_decay=training.weight_decay,
        )
        self.learner, self.optimizer = accelerator.prepare(Learner(self.student, self.objective), optimizer)
        self.learner.train()
        settings = {name: asdict(recipe)[name] for name in ("base", "languages", "lora", "data", "seed")}
        self.checkpoints = Checkpoints(folder, accelerator, settings, keep=training.keep)
        saved = self.checkpoints.restore(self.student, self.optimizer)
        self.step = 0 if saved is None else saved.step
        self.objective.running = {} if saved is None else saved.running
        self.log = _Log(folder, self.step) if accelerator.is_main_process else None

    def go(self) -> None:
        """Take the remaining steps, and leave a checkpoint folder to serve."""
        training = self.recipe.training
        with stoppable(self._stop, None if self.accelerator.num_processes == 1 else self._agree) as stopping:
            self._learn(stopping)
        if self.log is not None:
            self.log.board.close()
            export(self.student.network, self.base, self.folder / "model", dtype=training.saved_as)
            (self.folder / "done").touch()
        self.accelerator.wait_for_everyone()

    def _learn(self, stopping: Stopping) -> None:
        training, every = self.recipe.training, self.recipe.evaluation.every
        works = self._works()
        while self.step < training.steps:
            began = time.monotonic()
            taken = [next(works) for _ in range(training.accumulate)]
            with stopping.step():
                values = self._take_step(taken)
                self.step += 1
                last = self.step == training.steps
                if self.log is not None:
                    self.log.note(values, _speed(taken, began, self.accelerator.num_processes))
                    if last or self.step % training.log_every == 0:
                        self.log.write(self.step, training.steps)
                if every and (last or self.step % every == 0):
                    self._evaluate()
                if last or self.step % training.save_every == 0:
                    self._save()

    def _agree(self, asked: bool) -> bool:
        return bool(self.accelerator.reduce(torch.tensor(float(asked), device=self.accelerator.device), "sum") > 0)

    def _stop(self) -> str:
        self._save()
        self.accelerator.wait_for_everyone()
        return f"{self.recipe.name}, step {self.step} of {self.recipe.training.steps}, is saved in {self.folder}"

    def _save(self) -> None:
        self.checkpoints.save(self.student, self.optimizer, Saved(self.step, dict(self.objective.running)))

    def _works(self) -> Iterator[Work]:
        training, accelerator = self.recipe.training, self.accelerator
        share = Share(accelerator.process_index, accelerator.num_processes, training.accumulate)
        order = Order(self.corpus.seconds, training.batch, self.recipe.seed)
        passes = Passes(self.corpus, order, share, self.manner, self.folder / "corpus" / "train.problems.txt")
        first, end = (number * training.accumulate for number in (self.step, training.steps))
        return load(passes, first, end, processes=training.loader_processes)

    def _take_step(self, works: Sequence[Work]) -> dict[str, float]:
        """Learn from the passes of a step; returns the mean of each loss term, the rate and the gradient's norm."""
        training, accelerator = self.recipe.training, self.accelerator
        rate = learning_rate(self.step, warmup=training.warmup, steps=training.steps, peak=training.peak_lr)
        set_learning_rate([self.optimizer], rate)
        sums: dict[str, float] = {}
        norm = 0.0
        for number, work in enumerate(works):
            with accelerator.accumulate(self.learner):
                seed = (self.step * training.accumulate + number) * 1024 + accelerator.process_index
                batch = work.batch.to(accelerator.device)
                loss, terms = self.learner(batch, self.step / training.steps, seed)
                values = self._share({"loss": float(loss.detach()), **terms}, works, number)
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value / len(works)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = float(accelerator.clip_grad_norm_(self.learner.parameters(), training.clip))
                    # With loss scaling an overflow now and then is how the scale is found: the step is skipped.
                    if accelerator.scaler is None and not math.isfinite(norm):
                        self._give_up("the gradient's norm", norm, works, range(len(works)))
                self.optimizer.step()
                self.optimizer.zero_grad()
        scale = {} if accelerator.scaler is None else {"loss_scale": float(accelerator.scaler.get_scale())}
        return {**sums, "learning_rate": rate, "gradient_norm": norm, **scale}

    def _share(self, values: dict[str, float], works: Sequence[Work], number: int) -> dict[str, float]:
        """Average losses over the devices, the running ones too: all of them must switch KL on at the same step.

        Raises:
            Diverged: the loss is no number on one of the devices, on all of them at once.
        """
        own, running = values["loss"], self.objective.running
        if self.accelerator.num_processes > 1:
            flat = torch.tensor([*values.values(), *running.values()], device=self.accelerator.device)
            shared = self.accelerator.reduce(flat, "mean").tolist()
            values = dict(zip(values, shared, strict=False))
            self.objective.running = dict(zip(running, shared[len(values) :], strict=True))
        if not math.isfinite(values["loss"]):
            self._give_up("the loss", values["loss"], works, [] if math.isfinite(own) else [number])
        return values

    def _give_up(self, what: str, value: float, works: Sequence[Work], culprits: Sequence[int]) -> NoReturn:
        """Save the passes that are to blame, and end the run."""
        saved: list[str] = []
        for number in culprits:
            name = f"nan_batch_step_{self.step}"
            name += f"_pass_{number}" if len(works) > 1 else ""
            name += f"_rank_{self.accelerator.process_index}" if self.accelerator.num_processes > 1 else ""
            rows = [asdict(example) for example in works[number].examples]
            origin = {"step": self.step, "found": f"{what} is {value}", "rows": rows}
            saved.append(str(save_culprit(self.folder, name, works[number].batch, origin)))
        self.accelerator.wait_for_everyone()  # the first process to end takes the others along
        where = f"the batch is in {', '.join(saved)}" if saved else "another process has saved the batch"
        raise Diverged(f"{self.recipe.name}, step {self.step}: {what} is {value}; {where}")

    def _evaluate(self) -> None:
        """Measure on the held-out data, on the main process, and leave the model that was measured."""
        if self.held is not None and self.accelerator.is_main_process and self.log is not None:
            evaluation, device = self.recipe.evaluation, self.accelerator.device
            manner = replace(self.manner, masks=0.0)
            with self.accelerator.autocast():
                losses = measure_losses(
                    self.student, self.objective, Reading(manner), self.held, device=device, seed=self.recipe.seed
                )
            export(self.student.network, self.base, self.folder / "model", dtype=self.recipe.training.saved_as)
            scores = measure_bleu(self.folder / "model", self.held, device=device, max_tokens=evaluation.max_tokens)
            self.log.evaluated(self.step, losses, scores)
        self.accelerator.wait_for_everyone()

    def _prepare(self, name: str, sources: Sequence[Source]) -> Corpus:
        recipe, config = self.recipe, self.student.network.config
        hop = read_features(self.base).hop
        limits = Limits(
            recipe.languages,
            min(recipe.corpus.max_seconds, self.manner.longest * hop / SAMPLE_RATE),
            config.max_target_positions // 4 * 4,  # texts are padded to multiples of four
        )
        fill = None
        # What is held out is scored against people's translations only.
        if recipe.pseudo_labels is not None and name != HELD_OUT:
            fill = partial(
                fill_in,
                languages=recipe.languages,
                recipe=recipe.pseudo_labels,
                cache=self.folder / "corpus" / "pseudo_labels.jsonl",
                device=str(self.accelerator.device),
            )
        return prepare(
            self.folder / "corpus",
            name,
            sources,
            limits,
            Tokenizer.load(self.base),
            on_bad=recipe.corpus.on_bad,
            fill=fill,
        )


class _Log:
    """Losses, rates and speeds: TensorBoard's, a line of JSON each, and a line on the terminal."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote after its last checkpoint is taken once more.
        self.board: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self.path = folder / "log.jsonl"
        if self.path.exists():
            content = self.path.read_text(encoding="utf-8")
            lines = content[: content.rfind("\n") + 1].splitlines(keepends=True)  # a torn last line goes too
            kept = "".join(line for line in lines if json.loads(line)["step"] <= step)
            self.path.write_text(kept, encoding="utf-8")
        self.noted: list[dict[str, float]] = []

    def note(self, values: dict[str, float], speed: dict[str, float]) -> None:
        """Remember a step's values until they are written."""
        self.noted.append({**values, **speed})

    def write(self, step: int, steps: int) -> None:
        """Write the mean of what was noted; a term counts where it was there."""
        names = dict.fromkeys(name for values in self.noted for name in values)
        means = {
            name: sum(held) / len(held)
            for name in names
            if (held := [values[name] for values in self.noted if name in values])
        }
        self.noted.clear()
        self._keep("train", step, means)
        terms = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(f"{step}/{steps}  {terms}", flush=True)

    def evaluated(self, step: int, losses: dict[str, float], scores: dict[str, float]) -> None:
        """Write what an evaluation found."""
        found = {**losses, **{f"bleu_{name}": score for name, score in scores.items()}}
        self._keep(HELD_OUT, step, found)
        print(
            f"held out, step {step}:  " + "  ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True
        )

    def _keep(self, kind: str, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)
        self.board.flush()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")


def _manner(recipe: FinetuneRecipe, student: Student) -> Manner:
    positions = student.network.config.max_source_positions
    return Manner(
        Path(recipe.base),
        longest=2 * positions // FRAME_STEP * FRAME_STEP,  # batches are padded to multiples of it
        targets=recipe.loss.targets,
        masks=recipe.loss.masks,
        refuse=recipe.corpus.on_bad == "refuse",
    )


def _speed(works: Sequence[Work], began: float, devices: int) -> dict[str, float]:
    """Return utterances and seconds of audio per second, over all devices, waiting for data included."""
    took = max(time.monotonic() - began, 1e-9)
    examples = [example for work in works for example in work.examples]
    heard = sum(example.seconds for example in examples)
    return {"utterances_per_s": devices * len(examples) / took, "audio_s_per_s": devices * heard / took}
