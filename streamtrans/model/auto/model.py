"""A network of transformers behind the verbs of ``model.api``: one text after another, in caches of its own.

Law: an answer is that of the network for all tokens read at once. Where its cache can't be cut, what stays is read
again, one token at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import SAMPLE_RATE, BadAnswer, Tokens
from streamtrans.model.api import Choices, DecoderCache, Forward, Guess, Heard, Hearing, Memory, Propose
from streamtrans.model.features import check_length
from streamtrans.model.scoring import Rules, Scorer
from streamtrans.text import Vocabulary, canonical, tokens_per_second

Samples = npt.NDArray[np.float32]
Pairs = tuple[tuple[str, tuple[str, ...]], ...]

FRAME = 320
"""Samples per frame of a memory: 20 ms. Nobody is told by it where a token comes from."""
LEAST = SAMPLE_RATE // 2
"""What is shorter is heard with silence behind it: convolutions need something to run over."""


@dataclass(frozen=True, slots=True, eq=False)
class AutoMemory:
    """What was heard: what every pass is ``given`` of it, and the ``state`` in which every text about it begins.

    Encoders' features are given; decoders that read sound as part of their text have read it in the state.
    """

    frames: int
    given: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None


class Ear(Protocol):
    """How a network hears, and is asked."""

    languages: tuple[str, ...]
    translations: Pairs
    tokens_name: str
    """What ``forward`` calls the tokens of a text."""
    in_words: bool
    """Whether an instruction asks for a text."""

    def hear(self, audio: Samples) -> AutoMemory:
        """Encode one stretch of audio."""
        ...

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``, as for :meth:`SpeechModel.prompt`."""
        ...


class AutoCache:
    """One text: the tokens that count as read, and a state of the network that may have read more."""

    def __init__(self, model: AutoSpeechModel, memory: AutoMemory) -> None:
        self.model, self.memory = model, memory
        self.floor = 0
        self.tokens: Tokens = ()
        self.read: list[int] = []  # what the state has read, behind that of its memory
        self.state: Any = None

    @property
    def length(self) -> int:
        """Positions that count as read."""
        return len(self.tokens)

    def truncate(self, length: int) -> None:
        """Forget every position from ``length`` on; the state is cut by the next pass."""
        if not self.floor <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} positions (floor {self.floor}) to {length}")
        self.tokens = self.tokens[:length]

    def copy_from(self, source: DecoderCache, length: int) -> None:
        """Go on from a copy of another text's state about the same memory."""
        other = own(source)
        if other.memory is not self.memory:
            raise ValueError("a cache is copied from another about the same speech")
        if not self.length <= length <= other.length:
            raise ValueError(f"cannot copy up to {length}: {self.length} positions are read, {other.length} there")
        self.tokens = other.tokens[:length]
        self.state, self.read = copy.deepcopy(other.state), [*other.read]

    def forget(self) -> None:
        """Leave nothing of what the network computed."""
        self.state, self.read = None, []

    def follow(self, tokens: Tokens) -> Tensor:
        """Return the logits ``(T, V)`` after each of the ``tokens``, which don't count as read by that."""
        self._cut()
        unread = [*self.tokens, *tokens][len(self.read) :]
        whole = self.model.rolls_back or (self.state is None and self.memory.state is None)
        pieces = [unread] if whole else [[token] for token in unread]
        rows = torch.cat([self._pass(piece) for piece in pieces])
        return rows[len(rows) - len(tokens) :]

    def _cut(self) -> None:
        """Bring the state back to what counts as read, or to its beginning."""
        pairs = zip(self.read, self.tokens, strict=False)
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        surplus = len(self.read) - kept
        if surplus and self.model.rolls_back and self.state is not None:
            self.state.crop(-surplus)  # a positive count is a length to older versions, and refused by newer ones
            del self.read[kept:]
        elif surplus:
            self.forget()

    def _pass(self, tokens: Sequence[int]) -> Tensor:
        state = copy.deepcopy(self.memory.state) if self.state is None else self.state
        before, self.state = self.read, None  # what a pass that fails leaves is of no use
        self.read = []
        logits, state = self.model.run(tokens, state, self.memory)
        if state is not None:
            self.state, self.read = state, [*before, *tokens]
        return logits


class AutoSlots:
    """As many texts at once as the scheduler counts on."""

    def __init__(self, model: AutoSpeechModel, capacity: int) -> None:
        self.model, self.capacity = model, capacity
        self._open: set[AutoCache] = set()

    @property
    def free(self) -> int:
        """Slots that can still be opened."""
        return self.capacity - len(self._open)

    def open(self, memory: object, prompt: Tokens = ()) -> AutoCache:
        """Take a slot; the ``prompt`` is read with the text."""
        del prompt
        assert isinstance(memory, AutoMemory), "a model opens only its own memories"
        if not self.free:
            raise RuntimeError(f"all {self.capacity} cache slots are taken; the scheduler should have waited")
        cache = AutoCache(self.model, memory)
        self._open.add(cache)
        return cache

    def wipe(self, cache: DecoderCache) -> None:
        """Drop what was computed."""
        own(cache).forget()

    def release(self, cache: DecoderCache) -> None:
        """Give a slot back, once."""
        if own(cache) not in self._open:
            raise RuntimeError("this slot was given back before")
        self._open.remove(own(cache))


class AutoSpeechModel:
    """A :class:`~streamtrans.model.api.SpeechModel` that leaves all computing to a network of transformers.

    Args:
        name: to show.
        network: in its dtype, on its device.
        ear: how it hears and is asked.
        vocabulary: of what it writes.
        rules: what it may write.
        max_tokens: positions of a text with its prompt.
    """

    has_speculator = False
    draft_acceptance = 0.0
    frame_samples = FRAME

    def __init__(
        self, name: str, network: Any, ear: Ear, vocabulary: Vocabulary, rules: Rules, *, max_tokens: int
    ) -> None:
        self.name, self.network, self.ear = name, network, ear
        self.vocabulary, self.max_tokens = vocabulary, max_tokens
        self.device, self.dtype = network.device, network.dtype
        self.precision = str(network.dtype).removeprefix("torch.")
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.scorer = Scorer(name, rules, network.device, network.dtype)
        self.languages, self.translations = ear.languages, ear.translations
        self.asked_in_words = ear.in_words
        self.max_samples = 30 * SAMPLE_RATE
        self.rolls_back = False
        self.rolls_back = self._can_roll_back()

    @property
    def eot(self) -> int:
        """The end-of-text token."""
        return self.scorer.rules.eot

    def tokens_per_second(self, language: str) -> float:
        """Return how many tokens the fastest speech needs per second in ``language``."""
        return tokens_per_second(self.vocabulary, canonical(language))

    def taught(self, target: str, source: str | None) -> bool:
        """Say whether the pair is among its translations, as far as these are known."""
        known = dict(self.translations)
        return not known or source is None or target in known.get(source, ())

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``."""
        return self.ear.prompt(target, source)

    @torch.inference_mode()
    def encode(self, audios: Sequence[Samples]) -> list[Memory]:
        """Encode each stretch of audio, one after another."""
        for audio in audios:
            check_length(audio, self.max_samples)
            if not np.isfinite(audio).all():
                raise BadAnswer(f"{self.name} hears numbers that aren't finite in this audio")
        return [self.ear.hear(np.pad(audio, (0, max(0, LEAST - len(audio))))) for audio in audios]

    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Hear all that is given of each stream, anew each time."""
        memories = self.encode([hearing.audio for hearing in hearings])
        return [
            Heard(memory, None, item.start, len(item.audio)) for memory, item in zip(memories, hearings, strict=True)
        ]

    def allocate(self, slots: int) -> AutoSlots:
        """Count ``slots`` texts; memory is taken as they grow."""
        return AutoSlots(self, slots)

    @torch.inference_mode()
    def step(self, forwards: Sequence[Forward]) -> list[Choices]:
        """Go on with each text in a pass of its own, and answer all together."""
        for asked in forwards:
            if asked.cache.length + len(asked.tokens) > self.max_tokens:
                raise ValueError(f"{asked.cache.length} + {len(asked.tokens)} positions exceed {self.max_tokens}")
        logits = [own(asked.cache).follow(asked.tokens)[len(asked.tokens) - asked.rows :] for asked in forwards]
        answers = self.scorer.answer(torch.cat(logits), forwards)
        for asked in forwards:
            own(asked.cache).tokens += asked.tokens
        return answers

    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Refuse: there is no speculative network."""
        raise NotImplementedError(f"{self.name} has no KVSPN, and was asked for {len(proposals)} guesses")

    def run(self, tokens: Sequence[int], state: Any, memory: AutoMemory) -> tuple[Tensor, Any]:
        """Return logits ``(T, V)`` and the state after ``tokens``; ``None`` where the network keeps none."""
        line = torch.tensor([tokens], device=self.device)
        found = self.network(**{self.ear.tokens_name: line}, **memory.given, past_key_values=state, use_cache=True)
        return found.logits[0], found.past_key_values

    @torch.inference_mode()
    def _can_roll_back(self) -> bool:
        """Say whether all that the network keeps of a text are keys and values of all its positions."""
        from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

        memory = self.ear.hear(np.zeros(LEAST, np.float32))
        _, state = self.run([self.eot], copy.deepcopy(memory.state), memory)
        kept = state.self_attention_cache if isinstance(state, EncoderDecoderCache) else state
        return isinstance(kept, DynamicCache) and all(type(layer) is DynamicLayer for layer in kept.layers)


def own(cache: object) -> AutoCache:
    """Return ``cache`` as what it is."""
    assert isinstance(cache, AutoCache), "a model steps only the caches of its own slots"
    return cache
