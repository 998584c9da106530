"""What a teacher writes of recordings, one line each in a file: nothing is written twice, whatever broke it off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from streamtrans.compress.audio_llm import FAMILY, AudioLLM
from streamtrans.compress.ledger import Ledger
from streamtrans.compress.teaching.recipe import Teaching
from streamtrans.core import UnsupportedLanguage, samples
from streamtrans.decode import greedy
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.manifest import Talk
from streamtrans.model.api import SpeechModel
from streamtrans.model.config import read_json
from streamtrans.model.loading import load_model
from streamtrans.text import canonical
from streamtrans.train.finetune.evaluation import converse_all


class Writer(Protocol):
    """Who writes texts about recordings."""

    def write(self, talk: Talk, targets: Sequence[str]) -> dict[str, str]:
        """Write a recording in those of ``targets`` that can be asked for; a text without an end is left out."""
        ...


class SpeechWriter:
    """A Whisper or whisperM2M, greedily."""

    def __init__(self, folder: Path, teaching: Teaching) -> None:
        self.model = load_model(folder, device=teaching.device, dtype=teaching.precision)
        self.silence_s = teaching.silence_s
        if self.silence_s is not None:
            self.model.manner = replace(self.model.manner, padded=False)

    def write(self, talk: Talk, targets: Sequence[str]) -> dict[str, str]:
        """Write all languages at once."""
        model, audio = self.model, talk.load()[: self.model.max_samples]
        asked = {code: prompt for code in targets if (prompt := self._prompt(code, talk.language))}
        if not asked:
            return {}
        heard = np.pad(audio, (0, samples(1000 * (self.silence_s or 0))))[: model.max_samples]
        slots, memory = model.allocate(len(asked)), model.encode([heard])[0]
        limits = [
            EngineConfig().limit(model.max_tokens, prompt, len(audio), model.tokens_per_second(code))
            for code, prompt in asked.items()
        ]
        talks = [
            greedy(prompt, (), slots.open(memory), eot=model.eot, limit=limit)
            for prompt, limit in zip(asked.values(), limits, strict=True)
        ]
        said = converse_all(cast("SpeechModel", model), talks)
        return {
            code: model.tokenizer.decode(hypothesis.tokens).strip()
            for code, hypothesis, limit in zip(asked, said, limits, strict=True)
            if len(hypothesis.tokens) < limit
        }

    def _prompt(self, target: str, source: str) -> tuple[int, ...]:
        try:
            return self.model.prompt(target, source)
        except UnsupportedLanguage:
            return ()


class AudioLanguageWriter:
    """A Qwen2-Audio, greedily."""

    def __init__(self, folder: Path, teaching: Teaching) -> None:
        self.llm = AudioLLM(folder, teaching.device, teaching.precision)

    def write(self, talk: Talk, targets: Sequence[str]) -> dict[str, str]:
        """Write one language after the other."""
        audio = talk.load()
        answers = {code: self.llm.answer(self.llm.question(audio, talk.language, code), len(audio)) for code in targets}
        return {code: self.llm.spell(tokens) for code, tokens in answers.items() if tokens[-1] in self.llm.ends}


def write_labels(
    folder: Path,
    file: Path,
    about: Mapping[str, Any],
    talks: Sequence[Talk],
    teaching: Teaching,
    *,
    told: Callable[[str, int, int | None], None],
) -> list[dict[str, str]]:
    """Return what the model of ``folder`` writes of each recording, per language, written now where it isn't noted."""
    ledger = Ledger(file, about, "texts of a teacher")
    writer: Writer | None = None
    for number in range(len(ledger.lines), len(talks)):
        if writer is None:
            llm = read_json(folder / "config.json").get("model_type") == FAMILY
            writer = AudioLanguageWriter(folder, teaching) if llm else SpeechWriter(folder, teaching)
        told("the teacher writes", number, len(talks))
        ledger.add({"texts": writer.write(talks[number], languages(talks[number], teaching.to))})
    return [line["texts"] for line in ledger.lines]


def languages(talk: Talk, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the languages to write of a recording."""
    return tuple(dict.fromkeys(canonical(code) for code in wanted)) or tuple(talk.references)
