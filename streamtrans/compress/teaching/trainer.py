"""Teach: steps over recordings, resumable at any of them.

```
WORK/texts.jsonl   what the teacher has written
WORK/heard/        what encoders that don't learn said; recipes may share it
WORK/state.pt      what the training goes on from
WORK/log.jsonl
```
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamtrans.audio import duration_seconds
from streamtrans.compress.pruning.scores import selection_sha256
from streamtrans.compress.teaching.labels import languages, write_labels
from streamtrans.compress.teaching.pupils import NOTHING, Asked, Pupil, autocast, computed_in, load_pupil
from streamtrans.compress.teaching.recipe import Teaching
from streamtrans.compress.weights import Weights, check_new, write_folder
from streamtrans.core import BadConfig, BadModel
from streamtrans.evaluate.manifest import Talk, read_talks
from streamtrans.model.config import read_json
from streamtrans.model.loading import DTYPES, find_folder
from streamtrans.runtime import weights_sha256
from streamtrans.train.diverged import Diverged
from streamtrans.train.finetune.batches import Order
from streamtrans.train.optim import learning_rate, set_learning_rate
from streamtrans.train.stopping import Stopping, stoppable

CARD = "teaching.json"
"""What a taught folder says of its making."""
CLIP = 1.0
_HOW = ("name", "save_every", "log_every", "device", "together")
"""Settings that change nothing in what is learnt."""

Told = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Taught:
    """What a training was: recordings, texts per recording, loss terms of the last steps, what learnt."""

    recordings: int
    texts: int
    alike: float
    """Share of the texts that teacher and pupil spell alike, so that the teacher's tokens could be learnt."""
    learning: int
    """Parameters that learnt."""
    loss: Mapping[str, float]
    seconds_per_step: float


def teach(teaching: Teaching, destination: Path, *, work: Path, heard: Path | None = None, told: Told) -> Taught:
    """Train as asked, or go on training, and write what was learnt as a folder of the base's kind.

    Args:
        teaching: what is taught to whom.
        destination: a new folder.
        work: where the training stands, to go on from.
        heard: where what encoders said is kept; by default in ``work``.
        told: of progress.

    Raises:
        BadModel: a folder can't learn or teach, or has weights that aren't finite.
        BadConfig: nothing can be learnt from the manifests, or ``work`` was begun for something else.
        Diverged: the loss or its gradient is no number any more.
        Stopped: a signal came; the step it came in is saved.
    """
    check_new(destination)
    return _Run(teaching, destination, work, heard or work / "heard", told).go()


class _Run:
    def __init__(self, teaching: Teaching, destination: Path, work: Path, heard: Path, told: Told) -> None:
        self.teaching, self.destination, self.work, self.told = teaching, destination, work, told
        self.base = find_folder(teaching.base)
        self.master = find_folder(teaching.teacher) if teaching.teacher else None
        self.talks = [talk for file in teaching.speech for talk in read_talks(file, texts=teaching.texts == "given")]
        settings = {name: value for name, value in asdict(teaching).items() if name not in (*_HOW, "speech")}
        self.about: dict[str, Any] = {
            **settings,
            "base": weights_sha256(self.base),
            "teacher": weights_sha256(self.master) if self.master else "",
            "speech": selection_sha256(self.talks),
        }
        torch.manual_seed(teaching.seed)
        self.pupil = load_pupil(self.base, teaching, teaching.learns, heard)
        self.teacher: Pupil | None = None
        if self.master is not None and teaching.kl > 0:
            self.teacher = load_pupil(self.master, teaching, NOTHING, heard)
        self.asked = self._choose_texts()
        seconds = np.array([duration_seconds(each.talk.audio) for each in self.asked], np.float32)
        self.order = Order(seconds, teaching.batch, teaching.seed)
        self.twins = None if self.teacher is None else Twins(self.pupil, self.teacher)
        self.learning = self.pupil.learning()
        self.optimizer = torch.optim.AdamW(
            self.learning.values(),
            lr=teaching.peak_lr,
            betas=(0.9, 0.98),
            weight_decay=teaching.weight_decay,
            fused=True,
        )
        self.step = 0
        self.loss: dict[str, float] = {}
        work.mkdir(parents=True, exist_ok=True)
        self._resume()

    def go(self) -> Taught:
        """Take the remaining steps, and write the folder."""
        with stoppable(self._stop) as stopping:
            seconds = self._learn(stopping)
        self._write()
        texts = [text for each in self.asked for _, text in each.texts]
        alike = sum(map(self.twins.alike, texts)) / len(texts) if self.twins else 0.0
        learning = sum(value.numel() for value in self.learning.values())
        return Taught(len(self.asked), len(texts), alike, learning, self.loss, seconds)

    def _learn(self, stopping: Stopping) -> float:
        """Take the remaining steps; return the seconds that one took."""
        began, first = time.monotonic(), self.step
        while self.step < self.teaching.steps:
            self.told("steps", self.step, self.teaching.steps)
            with stopping.step():
                self.loss = self._take_step()
                self.step += 1
                if self.step % self.teaching.log_every == 0 or self.step == self.teaching.steps:
                    self._log((time.monotonic() - began) / (self.step - first))
                if self.step % self.teaching.save_every == 0 or self.step == self.teaching.steps:
                    self._save()
        return (time.monotonic() - began) / max(1, self.step - first)

    def _stop(self) -> str:
        self._save()
        return f"step {self.step} of {self.teaching.steps} is saved in {self.work}"

    def _choose_texts(self) -> list[Asked]:
        """Return the recordings with all texts that may be asked for: people's, the teacher's, or both."""
        teaching = self.teaching
        written: Sequence[Mapping[str, str]] = [{}] * len(self.talks)
        if teaching.texts != "given":
            assert self.master is not None, "the recipe checks it"
            if not teaching.to and not any(talk.references for talk in self.talks):
                raise BadConfig("no manifest names a language to write: say in which the teacher is to write")
            about = {name: self.about[name] for name in ("teacher", "speech", "to", "silence_s", "precision")}
            written = write_labels(self.master, self.work / "texts.jsonl", about, self.talks, teaching, told=self.told)
        found = [
            Asked(talk, tuple(self._texts(talk, taught))) for talk, taught in zip(self.talks, written, strict=True)
        ]
        found = [each for each in found if each.texts]
        if not found:
            raise BadConfig("no recording has a text in a language that the model can be asked for")
        return found

    def _texts(self, talk: Talk, taught: Mapping[str, str]) -> list[tuple[str, str]]:
        found: dict[tuple[str, str], None] = {}
        for target in languages(talk, self.teaching.to):
            given = talk.references.get(target, "") if self.teaching.texts != "teacher" else ""
            for text in (given, taught.get(target, "")):
                if text.strip() and self.pupil.able(talk, target, text.strip()):
                    found[target, text.strip()] = None
        return [*found]

    def _batch(self) -> list[Asked]:
        """Return the recordings of the step, and which of their texts it asks for."""
        rows = self.order.rows(self.step)
        dice = np.random.default_rng([self.teaching.seed, 2, self.step])
        found = []
        for row in rows:
            talk, texts = self.asked[row].talk, self.asked[row].texts
            chosen = dice.permutation(len(texts))[: self.teaching.each]
            found.append(Asked(talk, tuple(texts[at] for at in chosen)))
        return found

    def _take_step(self) -> dict[str, float]:
        batch, size = self._batch(), self.teaching.together
        set_learning_rate([self.optimizer], learning_rate(self.teaching, self.step))
        total = sum(len(self.pupil.tokens(text)) for each in batch for _, text in each.texts)
        terms: dict[str, float] = {}
        for at in range(0, len(batch), size):
            for name, value in self._learn_from(batch[at : at + size], total).items():
                terms[name] = terms.get(name, 0.0) + value
        norm = float(nn.utils.clip_grad_norm_(self.learning.values(), CLIP))
        if not math.isfinite(norm) or not all(map(math.isfinite, terms.values())):
            raise Diverged(
                f"step {self.step}: the loss is {terms}, the gradient's norm {norm}; a lower peak_lr may help"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {**terms, "norm": norm}

    def _learn_from(self, part: Sequence[Asked], total: int) -> dict[str, float]:
        """Add to the gradient what a part of a step says; returns its share of the loss terms."""
        device = self.pupil.device
        texts = [text for each in part for _, text in each.texts]
        labels = torch.tensor([token for text in texts for token in self.pupil.tokens(text)], device=device)
        with autocast(computed_in(self.teaching, device), device):
            logits = self.pupil.read(part)
            terms = {"texts": nn.functional.cross_entropy(logits, labels, reduction="sum") / total}
            if self.teacher is not None and self.twins is not None:
                with torch.no_grad():
                    wanted = self.teacher.read(part).to(device)
                terms["teacher"] = self.twins.divergence(logits, wanted, texts) / total
        loss = terms["texts"] + self.teaching.kl * terms.get("teacher", torch.zeros((), device=device))
        loss.backward()  # type: ignore[no-untyped-call]
        return {name: float(term.detach()) for name, term in terms.items()}

    def _log(self, seconds_per_step: float) -> None:
        line = {"step": self.step, "s_per_step": round(seconds_per_step, 3), **self.loss}
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        learning = {name: value.detach() for name, value in self.learning.items()}
        state = {
            "about": json.dumps(self.about, sort_keys=True),
            "step": self.step,
            "loss": self.loss,
            "learning": learning,
            "optimizer": self.optimizer.state_dict(),
        }
        part = self.work / "state.pt.part"
        torch.save(state, part)
        os.replace(part, self.work / "state.pt")

    def _resume(self) -> None:
        file = self.work / "state.pt"
        if not file.exists():
            return
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        begun, now = json.loads(state["about"]), json.loads(json.dumps(self.about))
        if other := sorted(name for name in {*begun, *now} if begun.get(name) != now.get(name)):
            raise BadConfig(
                f"{file} was begun with another {', '.join(other)}; name another --work folder, or remove it"
            )
        self.step, self.loss = state["step"], state["loss"]
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for name, value in self.learning.items():
                value.copy_(state["learning"][name])

    @torch.no_grad()
    def _write(self) -> None:
        learnt = dict(self.pupil.learnt())
        raw = read_json(self.base / "config.json")
        config = {name: value for name, value in raw.items() if name != "quantization_config"}
        config |= {("dtype" if "dtype" in raw else "torch_dtype"): self.teaching.saved_as}
        wanted = DTYPES[self.teaching.saved_as]
        with Weights(self.base) as weights:
            if strangers := sorted(set(learnt) - set(weights)):
                raise BadModel(f"{self.base} has no {strangers[0]}, which has learnt; its layout isn't known here")
            tensors = {name: _as(learnt.get(name, weights[name]), wanted) for name in weights}
        write_folder(self.destination, tensors, like=self.base, also={CARD: self.about, "config.json": config})


class Twins:
    """Tokens that two vocabularies share, and the texts that both spell alike."""

    def __init__(self, pupil: Pupil, teacher: Pupil) -> None:
        shared = [piece for piece in pupil.spelling if piece in teacher.spelling]
        self.pupil, self.teacher = pupil, teacher
        self.theirs = {pupil.spelling[piece]: teacher.spelling[piece] for piece in shared}
        self.mine = torch.tensor([*self.theirs], device=pupil.device)
        self.other = torch.tensor([*self.theirs.values()], device=pupil.device)

    def alike(self, text: str) -> bool:
        """Whether both spell a text with the same tokens."""
        return [self.theirs.get(token) for token in self.pupil.tokens(text)] == [*self.teacher.tokens(text)]

    def divergence(self, logits: Tensor, wanted: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the KL divergence from the teacher ``wanted`` ``(M, W)``, summed over the tokens spelled alike.

        Of both only the tokens count that they share. ``logits`` ``(N, V)`` are the pupil's for the same texts.
        """
        rows: list[int] = []
        others: list[int] = []
        mine = theirs = 0
        for text in texts:
            count, their_count = len(self.pupil.tokens(text)), len(self.teacher.tokens(text))
            if self.alike(text):
                rows += range(mine, mine + count)
                others += range(theirs, theirs + count)
            mine, theirs = mine + count, theirs + their_count
        if not rows:
            return logits.sum() * 0
        believed, target = logits[rows][:, self.mine], wanted[others][:, self.other]
        return nn.functional.kl_div(believed.log_softmax(-1), target.log_softmax(-1), reduction="sum", log_target=True)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to("cpu", dtype) if tensor.is_floating_point() else tensor
