"""Models in memory that write the selection with any of their layers: each is loaded once and never deep-copied."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
from streamtrans.model.cache import EncodedSpeech, SlotCache, Slots
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.text import canonical

_MOST_KEPT = 4 << 30
"""Bytes of keys and values that are kept; larger: more recordings of which a round makes none anew."""


def check_silence(seconds: float | None) -> None:
    """See that so many seconds of silence can stand behind a recording.

    Raises:
        BadConfig: they are below 0, or no number.
    """
    if seconds is not None and not (seconds >= 0 and math.isfinite(seconds)):
        raise BadConfig(f"silence is {seconds:g} s; give 0 or more seconds")


class Subject(Protocol):
    """What is pruned."""

    def write(self, kept: Sequence[int]) -> Written:
        """Write the selection with the ``kept`` layers of the stack alone."""
        ...


class SpeechSubject:
    """A Whisper or whisperM2M without its KVSPN, which changes no text.

    Recordings come ``together`` and in a fixed order, so that the same layers write the same texts every time; a text
    begins where another has ended. While only decoder layers go, what the encoder says is kept, and what each layer
    makes of it: other layers change neither. ``silence_s`` stands for the padding that the family wants; ``hear``
    knows what the encoder says of a recording, ``(S, E)``, in its place.

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
        hear: Callable[[Talk], Tensor] | None = None,
    ) -> None:
        self.model, self.stack, self.together = model, stack, together
        self.silence_s, self.hear = silence_s, hear
        model.guesser, model.network.speculator = None, None
        if silence_s is not None:
            model.manner = replace(model.manner, padded=False)
        model.manner = replace(model.manner, alignment_heads=())  # they are counted by layer, and write nothing
        asked = [(talk, askable(cast("SpeechModel", model), talk, targets)[0]) for talk in talks]
        self.asked = sorted(((t, codes) for t, codes in asked if codes), key=lambda each: each[0].audio.stat().st_size)
        if not self.asked:
            raise BadConfig("no recording has a text in a language that the model can be asked for")
        self.layers: nn.ModuleList = getattr(model.network.model, stack).layers
        """The whole stack."""
        self.heard = self.projected = 0
        """How often the encoder heard a recording, and how often the layers' keys of one were made."""
        self.forget()

    def forget(self) -> None:
        """Forget what the encoder said, and what layers made of it."""
        self._features: dict[int, tuple[Tensor, list[int]]] = {}
        # Both by the number of the first recording; keys as far as there is room for them.
        self._keys: dict[int, list[EncodedSpeech]] = {}
        self._free = _MOST_KEPT

    def write(self, kept: Sequence[int]) -> Written:
        """Write every recording in every language that it has a text in."""
        lines = [(talk, code) for talk, codes in self.asked for code in codes]
        most = max(len(codes) for _, codes in self.asked)
        with self._only(kept):
            slots = self.model.allocate(min(len(lines), self.together * most))
            said, passes, seconds = _converse(self.model, slots, self._begin(slots, kept))
        spell = self.model.tokenizer.decode
        texts = [_text(*line, spell(hypothesis.tokens)) for line, hypothesis in zip(lines, said, strict=True)]
        return Written(texts, passes, seconds)

    @contextmanager
    def _only(self, kept: Sequence[int]) -> Iterator[None]:
        owner: Any = getattr(self.model.network.model, self.stack)
        layers, config = owner.layers, self.model.config
        owner.layers = nn.ModuleList(self.layers[number] for number in kept)
        depth = {f"{self.stack}_layers": len(kept)}
        self.model.config = replace(config, speculator_blocks=0, **depth)  # type: ignore[arg-type]
        try:
            yield
        finally:
            owner.layers, self.model.config = layers, config

    def _begin(self, slots: Slots, kept: Sequence[int]) -> Iterator[tuple[Conversation, SlotCache]]:
        """Begin a text each time that one is asked for."""
        model, limits = self.model, EngineConfig()
        for at in range(0, len(self.asked), self.together):
            part = self.asked[at : at + self.together]
            audios = [talk.load()[: model.max_samples] for talk, _ in part]
            memories = self._memories(at, audios, kept)
            for memory, audio, (talk, codes) in zip(memories, audios, part, strict=True):
                for code in codes:
                    prompt, cache = model.prompt(code, talk.language), slots.open(memory)
                    limit = limits.limit(model.max_tokens, prompt, len(audio), model.tokens_per_second(code))
                    yield greedy(prompt, (), cache, eot=model.eot, limit=limit), cache

    def _memories(self, at: int, audios: Sequence[Samples], kept: Sequence[int]) -> list[EncodedSpeech]:
        """Return what the ``kept`` layers attend to of recordings, the first of which has number ``at``."""
        if self.stack == "encoder":
            self.heard += len(audios)
            self.projected += len(audios)
            return self.model.encode(self._silent(audios))
        whole = self._keys.get(at)
        if whole is None:
            with self._only(range(len(self.layers))):
                whole = self.model.remember(*self._hear(at, audios))
            self.projected += len(whole)
            size = sum(each.nbytes for memory in whole for pair in memory.decoder for each in (pair.keys, pair.values))
            if size <= self._free:
                self._keys[at], self._free = whole, self._free - size
        return [replace(memory, decoder=tuple(memory.decoder[number] for number in kept)) for memory in whole]

    def _hear(self, at: int, audios: Sequence[Samples]) -> tuple[Tensor, list[int]]:
        if self.hear is not None:
            said = [self.hear(talk).to(self.model.dtype) for talk, _ in self.asked[at : at + len(audios)]]
            padded = nn.utils.rnn.pad_sequence(said, batch_first=True)
            return padded.to(self.model.device), [len(each) for each in said]
        if at not in self._features:
            self.heard += len(audios)
            features, frames = self.model.hear(self._silent(audios))
            self._features[at] = features.cpu(), frames
        features, frames = self._features[at]
        return features.to(self.model.device), frames

    def _silent(self, audios: Sequence[Samples]) -> list[Samples]:
        """Put silence behind recordings, in the place of the family's padding, where that was asked for."""
        behind, most = samples(1000 * (self.silence_s or 0)), self.model.max_samples
        return [np.pad(audio, (0, min(behind, most - len(audio)))) for audio in audios]


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
    silence_s: float | None = None,
) -> Subject:
    """Load what is pruned."""
    if stack == "language_model":
        return AudioLanguageSubject(folder, talks, targets, device, dtype)
    model = load_model(folder, device=device, dtype=dtype)
    return SpeechSubject(model, stack, talks, targets, together, silence_s=silence_s)


def _converse(
    model: TorchSpeechModel, slots: Slots, begin: Iterator[tuple[Conversation, SlotCache]]
) -> tuple[list[Hypothesis], int, float]:
    """Hold conversations to their ends, as many at once as there are slots.

    Returns what was said, how many passes that took, and their seconds.
    """
    said: dict[int, Hypothesis] = {}
    talks: dict[int, tuple[Conversation, SlotCache]] = {}
    answers: dict[int, Any] = {}
    coming, passes, seconds = enumerate(begin), 0, 0.0
    while True:
        asked: dict[int, Forward] = {}
        turns = deque(answers.items())
        while turns or slots.free:
            if not turns:
                if (new := next(coming, None)) is None:
                    break
                talks[new[0]] = new[1]
                turns.append((new[0], None))
            number, answer = turns.popleft()
            try:
                request = talks[number][0].send(answer)
                assert isinstance(request, Forward), "who drafts nothing wants no guesses"
                asked[number] = request
            except StopIteration as stop:
                said[number] = stop.value
                slots.release(talks.pop(number)[1])
        if not asked:
            return [said[number] for number in range(len(said))], passes, seconds
        began = time.perf_counter()
        answers = dict(zip(asked, model.step([*asked.values()]), strict=True))
        passes, seconds = passes + 1, seconds + time.perf_counter() - began


def _text(talk: Talk, code: str, written: str) -> Text:
    return Text(talk.name, talk.language, code, talk.references[code], written.strip())
