"""Measure a run on data that it isn't trained on: the loss terms, and BLEU of what it writes greedily.

The texts are written by the exported folder, through the code that serves it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from streamtrans.audio import read_audio
from streamtrans.core import BadAudio, Hypothesis
from streamtrans.decode import Conversation, greedy
from streamtrans.metrics import bleu
from streamtrans.model.api import Choices, Forward, SpeechModel, WritingModel
from streamtrans.model.loading import load_model
from streamtrans.train.finetune.batches import Reading
from streamtrans.train.finetune.corpus import Corpus, Example
from streamtrans.train.finetune.recipe import EvaluationRecipe
from streamtrans.train.objective import Objective, Student

TOGETHER = 16
"""Utterances per pass."""


@dataclass(frozen=True, slots=True)
class Held:
    """The held-out recordings that are used: those for the losses, and those of them that are translated."""

    scored: tuple[Example, ...]
    translated: tuple[Example, ...]


def choose_held(corpus: Corpus, recipe: EvaluationRecipe) -> Held:
    """Take recordings evenly spread over the held-out corpus."""

    def spread(count: int) -> tuple[Example, ...]:
        count = min(count, len(corpus))
        return tuple(corpus.read(at * len(corpus) // count) for at in range(count))

    return Held(spread(recipe.rows), spread(recipe.bleu_rows))


@torch.no_grad()
def measure_losses(
    student: Student, objective: Objective, reading: Reading, held: Held, *, device: torch.device, seed: int
) -> dict[str, float]:
    """Return the mean of each loss term; the run's own objective and the network's mode stay as they are."""
    readable = [(example, mel) for example in held.scored if (mel := _mel(reading, example)) is not None]
    sums: dict[str, float] = defaultdict(float)
    weights: dict[str, int] = defaultdict(int)
    student.eval()
    for at in range(0, len(readable), TOGETHER):
        part = readable[at : at + TOGETHER]
        batch = reading.batch([example for example, _ in part], [mel for _, mel in part], (seed, 3, at))
        # A copy for each batch: what is measured must not decide when KL starts.
        judge = Objective(objective.stage, dict(objective.running))
        _, values = judge(student, batch.to(device), 1.0, seed + at)
        for name, value in values.items():
            sums[name] += value * len(part)
            weights[name] += len(part)
    student.train()
    return {name: total / weights[name] for name, total in sums.items()}


def measure_bleu(folder: Path, held: Held, *, device: torch.device, max_tokens: int) -> dict[str, float]:
    """Return greedy BLEU per written language, and the mean of these as ``mean``, for an exported folder."""
    if not held.translated:
        return {}
    loaded = load_model(folder, device=str(device))
    model = cast(SpeechModel, loaded)
    references: dict[str, list[str]] = defaultdict(list)
    written: dict[str, list[str]] = defaultdict(list)
    for at in range(0, len(held.translated), TOGETHER):
        for language, reference, text in _translate(model, held.translated[at : at + TOGETHER], max_tokens):
            references[language].append(reference)
            written[language].append(loaded.tokenizer.decode(text.tokens).strip())
    scores = {language: bleu(written[language], references[language], language) for language in sorted(references)}
    return {**scores, "mean": float(np.mean(list(scores.values())))} if scores else {}


def _translate(model: SpeechModel, examples: Sequence[Example], max_tokens: int) -> list[tuple[str, str, Hypothesis]]:
    """Write each recording in all languages that somebody translated it into."""
    sounds = [(example, audio) for example in examples if (audio := _audio(example, model.max_samples)) is not None]
    if not sounds:
        return []
    memories = model.encode([audio for _, audio in sounds])
    asked = [
        (memory, language, text)
        for (example, _), memory in zip(sounds, memories, strict=True)
        for language, text in sorted(example.texts.items())
        if language != example.language and language not in example.pseudo
    ]
    if not asked:
        return []
    slots = model.allocate(len(asked))
    limit = min(max_tokens, model.max_tokens)
    talks = [
        greedy(model.prompt(language, None), (), slots.open(memory), eot=model.eot, limit=limit)
        for memory, language, _ in asked
    ]
    hypotheses = converse_all(model, talks)
    return [(language, text, said) for (_, language, text), said in zip(asked, hypotheses, strict=True)]


def converse_all(model: WritingModel, conversations: Sequence[Conversation]) -> list[Hypothesis]:
    """Hold greedy conversations with a model to their ends, one pass for all of them at a time."""
    said: dict[int, Hypothesis] = {}
    answers: dict[int, Choices | None] = dict.fromkeys(range(len(conversations)))
    while answers:
        waiting: dict[int, Forward] = {}
        for at, answer in answers.items():
            try:
                request = next(conversations[at]) if answer is None else conversations[at].send(answer)
            except StopIteration as stop:
                said[at] = stop.value
                continue
            assert isinstance(request, Forward), "greedy decoding asks for nothing but passes"
            waiting[at] = request
        answers = dict(zip(waiting, model.step(list(waiting.values())), strict=True)) if waiting else {}
    return [said[at] for at in range(len(conversations))]


def _mel(reading: Reading, example: Example) -> torch.Tensor | None:
    try:
        return reading.mel(example)
    except BadAudio:
        return None


def _audio(example: Example, longest: int) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    try:
        return read_audio(example.audio)[:longest]
    except BadAudio:
        return None
