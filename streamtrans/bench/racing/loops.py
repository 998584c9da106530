"""Texts as captions show them: without the loops of a reader that has lost its way."""

from __future__ import annotations

from streamtrans.stream.guards import without_loop
from streamtrans.text import Tokenizer

NEAR = 8
"""So many tokens below what was allowed, a text is taken for one that its limit ended: some count their prompt."""


def without_loops(text: str, tokenizer: Tokenizer, most: int) -> str:
    """Return ``text``, of ``most`` tokens at most, up to the first round of a loop that goes on to its end."""
    tokens = tokenizer.encode(text)
    kept = without_loop(tokens, 0, tokenizer.decode, complete=len(tokens) < most - NEAR)
    return text if kept == len(tokens) else tokenizer.decode(tokens[:kept])
