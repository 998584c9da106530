"""Models in memory that write the selection with any of their layers: each is loaded once and never deep-copied."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor, nn

from streamtrans.audio import Samples
from streamtrans.compress.audio_llm import AudioLLM
from streamtrans.compress.pruning.scores import Written
from streamtrans.core import BadConfig, Hypothesis, samples
from streamtrans.decode import Conversation, greedy
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.dev import Text
from streamtrans.evaluate.manifest import Talk
from streamtrans.evaluate.recordings import askable
from streamtrans.model.api import Forward, SpeechModel
from streamtrans.model.cache import EncodedSpeech
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.text import canonical

_MOST_KEPT = 4 << 30
"""Bytes of keys and values that are kept; larger: more recordings of which a round makes none anew."""


class Subject(Protocol):
    """What is pruned."""

    def write(self, kept: Sequence[int]) -> Written:
        """Write the selection with the ``kept`` layers of the stack alone."""
        ...


class SpeechSubject:
    """A Whisper or whisperM2M without its KVSPN, which changes no text; ``silence_s`` stands for its family's padding.

    Recordings are decoded ``together`` in a fixed order, so that the same layers write the same texts every time. While
    only decoder layers go, what the encoder says is kept, and what each layer makes of it: other layers change neither.

    Raises:
        BadConfig: no recording can be scored in any language.
    """

    def __init__(
        self,
        model: TorchSpeechModel,
        stack: str,
        talks: Sequence[Talk],
        targets: tuple[str, ...],
        together: int,
        *,
        silence_s: float | None = None,
    ) -> None:
        self.model, self.stack, self.together = model, stack, together
        model.guesser, model.network.speculator = None, None
        self.silence_s = silence_s
        if silence_s is not None:
            model.manner = replace(model.manner, padded=False)
        model.manner = replace(model.manner, alignment_heads=())  # they are counted by layer, and write nothing
        asked = [(talk, askable(cast("SpeechModel", model), talk, targets)[0]) for talk in talks]
        self.asked = sorted(((t, codes) for t, codes in asked if codes), key=lambda each: each[0].audio.stat().st_size)
        if not self.asked:
            raise BadConfig("no recording has a text in a language that the model can be asked for")
        self.features: dict[int, tuple[Tensor, list[int]]] = {}
        """What the encoder said, by number of the first recording; another subject of the same encoder may have it."""
        self._keys: dict[int, list[EncodedSpeech]] = {}
        """What each layer of the whole decoder attends to, as far as there is room for it."""
        self._free = _MOST_KEPT

    def write(self, kept: Sequence[int]) -> Written:
        """Write every recording in every language that it has a text in."""
        texts: list[Text] = []
        passes, seconds = 0, 0.0
        for at in range(0, len(self.asked), self.together):
            part = self.asked[at : at + self.together]
            audios = [talk.load()[: self.model.max_samples] for talk, _ in part]
            memories = self._memories(at, audios, kept)
            began = time.perf_counter()
            with self._only(kept):
                found, count = self._decode(part, audios, memories)
            passes, seconds = passes + count, seconds + time.perf_counter() - began
            texts += found
        return Written(texts, passes, seconds)

    @contextmanager
    def _only(self, kept: Sequence[int]) -> Iterator[None]:
        owner: Any = getattr(self.model.network.model, self.stack)
        layers, config = owner.layers, self.model.config
        owner.layers = nn.ModuleList(layers[number] for number in kept)
        depth = {f"{self.stack}_layers": len(kept)}
        self.model.config = replace(config, speculator_blocks=0, **depth)  # type: ignore[arg-type]
        try:
            yield
        finally:
            owner.layers, self.model.config = layers, config

    def _memories(self, at: int, audios: Sequence[Samples], kept: Sequence[int]) -> list[EncodedSpeech]:
        """Return what the ``kept`` layers attend to of recordings, the first of which has number ``at``."""
        if self.stack == "encoder":
            with self._only(kept):
                return self.model.encode(self._silent(audios))
        whole = self._keys.get(at)
        if whole is None:
            whole = self.model.remember(*self._hear(at, audios))
            size = sum(each.nbytes for memory in whole for pair in memory.decoder for each in (pair.keys, pair.values))
            if size <= self._free:
                self._keys[at], self._free = whole, self._free - size
        return [replace(memory, decoder=tuple(memory.decoder[number] for number in kept)) for memory in whole]

    def _hear(self, at: int, audios: Sequence[Samples]) -> tuple[Tensor, list[int]]:
        if at not in self.features:
            features, frames = self.model.hear(self._silent(audios))
            self.features[at] = features.cpu(), frames
        features, frames = self.features[at]
        return features.to(self.model.device), frames

    def _silent(self, audios: Sequence[Samples]) -> list[Samples]:
        """Put silence behind recordings, in the place of the family's padding, where that was asked for."""
        behind = samples(1000 * (self.silence_s or 0))
        return [np.pad(audio, (0, behind))[: self.model.max_samples] for audio in audios]

    def _decode(
        self,
        part: Sequence[tuple[Talk, tuple[str, ...]]],
        audios: Sequence[Samples],
        memories: Sequence[EncodedSpeech],
    ) -> tuple[list[Text], int]:
        model, limits = self.model, EngineConfig()
        slots = model.allocate(sum(len(codes) for _, codes in part))
        talks: list[Conversation] = []
        for memory, audio, (talk, codes) in zip(memories, audios, part, strict=True):
            for code in codes:
                prompt = model.prompt(code, talk.language)
                limit = limits.limit(model.max_tokens, prompt, len(audio), model.tokens_per_second(code))
                talks.append(greedy(prompt, (), slots.open(memory), eot=model.eot, limit=limit))
        found, passes = _converse(model, talks)
        asked = [(talk, code) for talk, codes in part for code in codes]
        texts = [
            _text(talk, code, model.tokenizer.decode(hypothesis.tokens))
            for (talk, code), hypothesis in zip(asked, found, strict=True)
        ]
        return texts, passes


class AudioLanguageSubject:
    """A Qwen2-Audio folder: asked one recording at a time, greedily.

    What stands before the answer is the same whatever layers of the language model go, so it is worked out once.

    Raises:
        BadConfig: transformers is missing, or no recording has a text in one of the languages.
    """

    def __init__(self, folder: Path, talks: Sequence[Talk], targets: tuple[str, ...], device: str, dtype: str) -> None:
        wanted = {canonical(code) for code in targets}
        self.asked = [
            (talk, code)
            for talk in talks
            for code, text in talk.references.items()
            if text.strip() and (not wanted or code in wanted)
        ]
        if not self.asked:
            raise BadConfig("no recording has a text in one of the languages")
        self.llm = AudioLLM(folder, device, dtype)
        self._questions: dict[int, Tensor] = {}

    def write(self, kept: Sequence[int]) -> Written:
        """Write every recording in every language that it has a text in."""
        questions = [self._question(number) for number in range(len(self.asked))]
        texts, passes, began = list[Text](), 0, time.perf_counter()
        self.llm.use([*kept])
        try:
            for (talk, code), question in zip(self.asked, questions, strict=True):
                tokens = self.llm.answer(question.to(self.llm.device), len(talk.load()))
                passes += len(tokens)
                texts.append(_text(talk, code, self.llm.spell(tokens)))
        finally:
            self.llm.use(range(len(self.llm.layers)))
        return Written(texts, passes, time.perf_counter() - began)

    def _question(self, number: int) -> Tensor:
        """Return what the language model reads before it answers, ``(1, T, E)``."""
        if number not in self._questions:
            talk, code = self.asked[number]
            self._questions[number] = self.llm.question(talk.load(), talk.language, code).cpu()
        return self._questions[number]


def load_subject(
    folder: Path,
    stack: str,
    talks: Sequence[Talk],
    *,
    targets: tuple[str, ...],
    together: int,
    device: str,
    dtype: str,
) -> Subject:
    """Load what is pruned."""
    if stack == "language_model":
        return AudioLanguageSubject(folder, talks, targets, device, dtype)
    return SpeechSubject(load_model(folder, device=device, dtype=dtype), stack, talks, targets, together)


def _converse(model: TorchSpeechModel, talks: Sequence[Conversation]) -> tuple[list[Hypothesis], int]:
    """Hold conversations to their ends, all that go on in each pass; return what was said, and how many passes."""
    found: dict[int, Hypothesis] = {}
    waiting: dict[int, Forward] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(talks)))
    passes = 0
    while answers:
        waiting = {}
        for number, answer in answers.items():
            try:
                request = talks[number].send(answer)
                assert isinstance(request, Forward), "who drafts nothing wants no guesses"
                waiting[number] = request
            except StopIteration as stop:
                found[number] = stop.value
        answers = dict(zip(waiting, model.step([*waiting.values()]), strict=True)) if waiting else {}
        passes += bool(waiting)
    return [found[number] for number in range(len(talks))], passes


def _text(talk: Talk, code: str, written: str) -> Text:
    return Text(talk.name, talk.language, code, talk.references[code], written.strip())
