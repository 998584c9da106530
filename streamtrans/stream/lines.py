"""What one segment says in one language: believed, promised, and shown.

Law: the promised tokens only grow; every reading that is shown starts with them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamtrans.core import Caption, Hypothesis, Target, Tokens
from streamtrans.stream.config import Mode
from streamtrans.stream.policies import Policy

_log = logging.getLogger(__name__)


class Speller(Protocol):
    """What a session needs of a tokenizer."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text; of more tokens it only gets longer."""
        ...

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:
        """Return the largest ``m <= n`` at which ``tokens[:m]`` ends with a whole word."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """What of a segment a caption has heard: samples ``[start, end)``."""

    segment: int
    start: int
    end: int


class Line:
    """The readings of one (segment, language)."""

    def __init__(self, language: str, speller: Speller, policy: Policy, mode: Mode) -> None:
        self.language = language
        self.committed: Tokens = ()
        self.promised_at: int | None = None  # end of the audio whose reading promised something last
        self._speller = speller
        self._policy = policy
        self._mode = mode
        self._hypothesis = Hypothesis((), ())
        self._readings: tuple[Tokens, ...] = ()
        self._shown = ("", "")
        self._revision = 0
        self._closed = False

    def target(self) -> Target:
        """Return what to ask the engine: go on after the promise, with the last reading as draft."""
        return Target(self.language, prefix=self.committed, draft=self._hypothesis.tokens)

    def read(self, hypothesis: Hypothesis, span: Span, *, promising: bool) -> Caption | None:
        """Take a reading of the open segment; return a caption if it shows anything new.

        Where not ``promising`` the audio read may yet fall to the next segment, so nothing is promised.
        """
        if self._accepts(hypothesis):
            self._hypothesis = hypothesis
            self._readings = (*self._readings, hypothesis.tokens)[-self._policy.memory :]
            if promising:
                self._promise(span)
        return self._show(span)

    def finish(self, hypothesis: Hypothesis | None, span: Span) -> Caption:
        """Promise the last reading, or without one what was believed before, and close the line."""
        if hypothesis is not None and self._accepts(hypothesis):
            self._hypothesis = hypothesis
        self.committed = self._hypothesis.tokens
        self._closed = True
        return self._caption(self._speller.decode(self.committed), "", span)

    def _accepts(self, hypothesis: Hypothesis) -> bool:
        if hypothesis.tokens[: len(self.committed)] == self.committed:
            return True
        _log.error(
            "a reading in %s doesn't start with the %d tokens promised; it is dropped",
            self.language,
            len(self.committed),
        )
        return False

    def _promise(self, span: Span) -> None:
        tokens = self._hypothesis.tokens
        wanted = min(self._policy.promise(self._readings), len(tokens))
        if wanted > len(self.committed):
            granted = self._speller.boundary(tokens, wanted)
            if granted > len(self.committed):
                self.committed = tokens[:granted]
                self.promised_at = span.end

    def _show(self, span: Span) -> Caption | None:
        committed = self._speller.decode(self.committed)
        tentative = ""
        if self._mode == "live":
            tentative = self._speller.decode(self._hypothesis.tokens)[len(committed) :]
        if (committed, tentative) == self._shown:
            return None
        return self._caption(committed, tentative, span)

    def _caption(self, committed: str, tentative: str, span: Span) -> Caption:
        self._shown = (committed, tentative)
        self._revision += 1
        tail = self._hypothesis.logprobs[len(self.committed) :]
        return Caption(
            segment=span.segment,
            revision=self._revision,
            language=self.language,
            committed=committed,
            tentative=tentative,
            final=self._closed,
            start=span.start,
            end=span.end,
            heard=span.end,
            stability=min(1.0, math.exp(min(tail))) if tentative and tail else 1.0,
        )
