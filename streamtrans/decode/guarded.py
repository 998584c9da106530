"""A reading that is in doubt is taken again, with its beginning excluded.

A model that has begun in the wrong language goes on in it: what decides is the first word. So the likeliest other
beginnings are tried, in order, and the first whose text is in no doubt is believed if the model holds it for nearly
as likely. Where there is none the reading is given back as it is, with the doubt.

Law: a reading that isn't doubted is the one of :func:`decode`, and takes no more passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamtrans.core import DecodeStats, Doubt, Hypothesis, Tokens
from streamtrans.decode.drafters import DraftContext, Drafter, NoDraft
from streamtrans.decode.loop import Conversation, decode
from streamtrans.model.api import Choices, DecoderCache, Forward

BEGINNINGS = 3
"""Other beginnings that are tried at most; each costs a reading without drafts."""
FAR = 4.0
"""Nats by which another beginning may be less likely than the first token that was chosen."""
WORSE = 1.0
"""Nats per token by which the other text may be less likely than the one in doubt."""

Judge = Callable[[Tokens], Doubt | None]
"""Says what is wrong with the tokens of a whole text."""

Sound = Callable[[Tokens], int]
"""Says how many tokens at the beginning of a text are the text: what comes after them talks about it."""


def judged(conversation: Conversation, judge: Judge, sound: Sound = len, kept: int = 0) -> Conversation:
    """Decode, leave out what isn't ``sound``, and say so, or what else ``judge`` doubts of the text.

    That is enough where a newer reading will come anyway: of a stream that stays in doubt every reading begun otherwise
    would take several times its share of the device. The first ``kept`` tokens are promised, and stay.
    """
    said = yield from conversation
    whole = max(kept, sound(said.tokens))
    if whole == len(said.tokens):
        return replace(said, doubt=judge(said.tokens))
    tokens, logprobs, ends = said.tokens[:whole], said.logprobs[:whole], said.ends[:whole]
    doubt = judge(tokens) or Doubt(chatter=True, cut=True)
    return replace(said, tokens=tokens, logprobs=logprobs, ends=ends, complete=True, doubt=doubt)


def guarded(
    prompt: Tokens,
    prefix: Tokens,
    cache: DecoderCache,
    drafter: Drafter,
    *,
    eot: int,
    limit: int,
    judge: Judge,
    sound: Sound = len,
) -> Conversation:
    """Decode as :func:`decode` does; where ``judge`` doubts the text, try to begin it otherwise.

    Arguments and errors are those of :func:`decode`. The statistics count all that was decoded.
    """
    first = decode(prompt, prefix, cache, drafter, eot=eot, limit=limit)
    said = yield from judged(first, judge, sound, len(prefix))
    if said.doubt is None or said.doubt.cut or not said.doubt.told:
        return said
    stats, kept = said.stats, len(prompt) + len(prefix)
    if len(said.tokens) > len(prefix):
        cache.truncate(kept - 1)
        choices = yield Forward((prompt + prefix)[-1:], cache, 1, (), BEGINNINGS + 1)
        if not isinstance(choices, Choices):
            raise TypeError(f"a Forward is answered by Choices, not by {choices!r}")
        stats += DecodeStats(passes=1)
        [candidates], [best] = choices.candidates, choices.logprobs
        for token, logprob in candidates:
            if token in (eot, said.tokens[len(prefix)]) or best - logprob > FAR:
                continue
            cache.truncate(kept - 1)
            undrafted = NoDraft(DraftContext(len(prompt), eot))
            second = decode(prompt, (*prefix, token), cache, undrafted, eot=eot, limit=limit)
            other = yield from judged(second, judge, sound, len(prefix) + 1)
            stats += other.stats
            logprobs = (*other.logprobs[: len(prefix)], logprob, *other.logprobs[len(prefix) + 1 :])
            ends = (*said.ends[: len(prefix)], *other.ends[len(prefix) :])  # where the prefix listened was read before
            other = replace(other, logprobs=logprobs, ends=ends if said.ends and other.ends else ())
            if other.doubt is None and _likelihood(said, prefix) - _likelihood(other, prefix) <= WORSE:
                return replace(other, stats=stats)
    return replace(said, stats=stats)


def _likelihood(hypothesis: Hypothesis, prefix: Tokens) -> float:
    """Return the mean log-probability of what was decoded."""
    new = hypothesis.logprobs[len(prefix) :]
    return sum(new) / max(1, len(new))
