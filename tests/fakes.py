"""The simplest tokenizer and detector, for tests that are about something else."""

import numpy as np


class Words:
    """Token ``i`` is the word ``w<i>``; every token but the last ends with a whole word; 0 ends a sentence."""

    def decode(self, tokens):
        return " ".join(f"w{token}" for token in tokens)

    def boundary(self, tokens, n, *, final=False):
        return max(0, min(n, len(tokens) - (not final)))

    def sentence_end(self, tokens):
        at = tokens.index(0) if 0 in tokens else 0
        return (at, at + 1) if 0 < at < len(tokens) - 1 else None


class Loud:
    """Speech is what is loud."""

    def detect(self, streams):
        return [(np.where(np.square(windows).mean(1) > 1e-4, 0.95, 0.05), None) for windows, _ in streams]
