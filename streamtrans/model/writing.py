"""What every torch model that writes has in common: a ragged pass over slots, and its answers.

Law: a model remembers nothing between calls, and a batch of one equals a row of many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from streamtrans.core import UnsupportedLanguage
from streamtrans.model.api import Choices, Forward
from streamtrans.model.cache import SlotBatch, SlotCache, Slots, SlotShape, SlotSpan
from streamtrans.model.linear import JOINED
from streamtrans.model.scoring import Rules, Scorer
from streamtrans.text import LANGUAGES, Vocabulary, canonical, tokens_per_second

N = TypeVar("N", bound=nn.Module)

Frames = Sequence[Sequence[int]]
"""Per text and token of a pass the frame of the memory that it looked at; nothing where nobody can tell."""


class Writer(ABC):
    """Weights that go on with texts in slots. Stateless; one thread calls it.

    Args:
        name: to show.
        vocabulary: of what it writes.
        rules: what it may write.
        shape: of its slots.
        device: where it computes.
        dtype: of what isn't packed.
    """

    rolls_back = True
    asked_in_words = False
    keeps_states = False
    """Whether its drafts start from normalised states of the newest positions, as Medusa's do."""

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        rules: Rules,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name, self.vocabulary = name, vocabulary
        self.device, self.dtype = torch.device(device), dtype
        self.precision = str(dtype).removeprefix("torch.")
        self.scorer = Scorer(name, rules, self.device, dtype)
        self._rates: dict[str, float] = {}  # tokens per second, by language

    def _held(self, network: N) -> N:
        """Count what ``network`` holds, and put it where it computes; from then on it is only read."""
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        return network.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    @property
    @abstractmethod
    def shape(self) -> SlotShape:
        """What one of its slots holds, as long as it has the layers that it has."""

    @property
    def eot(self) -> int:
        """The end-of-text token."""
        return self.scorer.rules.eot

    @property
    def suppression(self) -> Tensor:
        """What is added to the scores ``(V,)``: minus infinity for tokens that are never chosen."""
        return self.scorer.suppression

    @property
    def max_tokens(self) -> int:
        """Text positions including the prompt."""
        return self.shape.positions

    def tokens_per_second(self, language: str) -> float:
        """Return how many tokens the fastest speech needs per second in ``language``."""
        code = canonical(language)
        if code not in self._rates:
            self._rates[code] = tokens_per_second(self.vocabulary, code)
        return self._rates[code]

    def allocate(self, slots: int) -> Slots:
        """Allocate decoder caches for ``slots`` texts at once."""
        return Slots(self.shape, slots, self.device, self.dtype)

    @torch.inference_mode()
    def step(self, forwards: Sequence[Forward]) -> list[Choices]:
        """Run one pass over a ragged batch; moves each cache on by its tokens."""
        order = sorted(range(len(forwards)), key=lambda at: slot_of(forwards[at].cache))
        asked = [forwards[at] for at in order]
        caches = [slot_cache(item.cache) for item in asked]
        counts = [len(item.tokens) for item in asked]
        positions = self.shape.positions
        for cache, count in zip(caches, counts, strict=True):
            if cache.end + count > positions:
                raise ValueError(f"{cache.end} + {count} positions exceed the model's {positions}")
        answered, frames = self._pass(asked, caches)
        hidden, logits = self._score(answered)
        answers = self.scorer.answer(logits, asked)
        if frames:
            answers = [
                replace(answer, frames=tuple(line[:count]))
                for answer, line, count in zip(answers, frames, counts, strict=True)
            ]
        rows = hidden.split([item.rows for item in asked])
        found = [*answers]
        for at, cache, count, states, answer in zip(order, caches, counts, rows, answers, strict=True):
            cache.length += count
            found[at] = answer
            if self.keeps_states:
                cache.keep_hidden(states)
        return found

    def pack(self, precision: str) -> None:
        """Lay the linears out for speed, once, after loading: see :mod:`streamtrans.model.linear`."""
        self._pack(precision)
        if precision != JOINED:
            self.precision = precision

    @abstractmethod
    def _pack(self, precision: str) -> None:
        """Lay out those of its network, and of what else it computes with."""

    def _pass(self, asked: Sequence[Forward], caches: Sequence[SlotCache]) -> tuple[Tensor, Frames]:
        """Return the last layer's states ``(R, E)`` of the rows that are answered, and what all tokens looked at."""
        batch = SlotBatch(caches)
        span = SlotSpan(batch, [len(item.tokens) for item in asked])
        x, frames = self._read(self.scorer.stack([item.tokens for item in asked]), batch, span)
        return self.scorer.answered(x, asked), frames

    @abstractmethod
    def _read(self, tokens: Tensor, batch: SlotBatch, span: SlotSpan) -> tuple[Tensor, Frames]:
        """Return the last layer's states ``(B, T, E)`` of ``tokens`` ``(B, T)``, and what they looked at."""

    @abstractmethod
    def _score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised states and logits ``(R, V)`` for the last layer's states ``(R, E)``."""


def slot_cache(cache: object) -> SlotCache:
    """Return ``cache`` as what it is."""
    assert isinstance(cache, SlotCache), "a torch model steps only the caches of its own slots"
    return cache


def slot_of(cache: object) -> int:
    """Return the slot of a cache."""
    return slot_cache(cache).slot


def known(name: str, does: str, language: str, languages: Collection[str]) -> str:
    """Return the code of a language that the translator ``name`` "reads" or "writes".

    Raises:
        UnsupportedLanguage: it isn't among its ``languages``.
    """
    code = canonical(language)
    if code not in languages:
        raise UnsupportedLanguage(f"{name} {does} no {code} ({LANGUAGES[code]}); it {does} {', '.join(languages)}")
    return code
