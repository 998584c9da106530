"""How much the engine does at once, and how it decodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamtrans.core import SAMPLE_RATE, BadConfig, Tokens
from streamtrans.decode import COSTS, DraftCosts, parse_drafters, parse_top_k


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of one :class:`~streamtrans.engine.Engine`.

    Raises:
        BadConfig: a value is out of range, or a drafter is unknown.
    """

    slots: int = 16  # texts decoded at once (streams × languages); larger serves more and takes more memory
    max_batch: int = 16  # rows of one device call; larger is more throughput, smaller is less delay
    drafter: str | None = None  # a chain such as "echo,kvspn"; None = that, or "echo,ngram" without a speculator
    top_k: float = 1  # for the speculator's drafts: 1 is exact, larger is faster and looser, inf never checks
    costs: DraftCosts = COSTS  # what drafts cost, where their length follows what is accepted
    draft_tokens: int | None = None  # the speculator's guesses at a time, 0 to 8; None follows what is accepted
    spare_tokens: int = 12  # with tokens_per_s the guard against endless repetition: a text of `s` seconds may hold
    tokens_per_s: float = 12.0  # spare_tokens + tokens_per_s * s tokens, or what its language needs if that is more
    final_hearing: str = "blocks"  # a last reading hears on in "blocks", or the "whole" anew: better, less calm
    guard: bool = True  # read again, and hold back, what is in another language than was asked for
    state_s: float = 300.0  # until a stream goes on, what it said is kept for this long; larger asks less for all of it
    stall_s: float = 4.0  # one call of the device longer than this, and than eight times the longest, is a stall
    final_head_start: int = 64  # places a final job jumps the queue; larger = finals first, smaller = oldest first

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("max_batch", 1), ("spare_tokens", 1), ("final_head_start", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise BadConfig(f"{name} is {value!r}: give a whole number from {least} up")
        for name in ("stall_s", "state_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadConfig(f"{name} is {getattr(self, name)}: give a finite time of more than 0")
        if not 0 <= self.tokens_per_s < math.inf:
            raise BadConfig(f"tokens_per_s is {self.tokens_per_s}: give a finite rate of 0 or more")
        if self.draft_tokens is not None and self.draft_tokens not in range(9):
            raise BadConfig(f"draft_tokens is {self.draft_tokens}: give 0 to 8, or None to follow what is accepted")
        if self.final_hearing not in ("blocks", "whole"):
            raise BadConfig(f"final_hearing is {self.final_hearing!r}: give 'blocks' or 'whole'")
        parse_top_k(self.top_k)
        if self.drafter is not None:
            parse_drafters(self.drafter)

    def limit(self, max_tokens: int, prompt: Tokens, heard: int, needed: float = 0.0) -> int:
        """Return the most positions that a text about ``heard`` samples may fill, prompt included.

        ``needed`` is what the fastest speech in its language takes, in tokens per second.
        """
        guard = self.spare_tokens + math.ceil(max(self.tokens_per_s, needed) * heard / SAMPLE_RATE)
        return min(max_tokens, len(prompt) + guard)
