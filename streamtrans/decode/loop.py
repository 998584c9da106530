"""The one loop: draft, verify in one pass, keep what agrees, truncate the rest.

Law: with every draft verified at k = 1 and β = 0 the text is the greedy one, whoever drafts, and takes no more passes.

```
 tokens      prompt | prefix | decoded so far        the newest one is always unread
 cache       [0 ............... length)
 Forward                       [length: unread | draft)      answered at the newest token and at the draft
```
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from streamtrans.core import DecodeStats, Hypothesis, Tokens
from streamtrans.decode.drafters import Draft, DraftContext, Drafter, NoDraft
from streamtrans.model.api import Choices, DecoderCache, Forward, Guess, Propose, SpeechModel

Conversation = Generator[Forward | Propose, Choices | Guess, Hypothesis]
"""Yields the pass it waits for, is sent that pass's answer, returns the hypothesis."""


def decode(
    prompt: Tokens,
    prefix: Tokens,
    cache: DecoderCache,
    drafter: Drafter,
    *,
    eot: int,
    limit: int,
    locate: Callable[[int], int] = int,
) -> Conversation:
    """Continue ``prompt + prefix`` until end of text, or until ``limit`` positions are filled.

    The hypothesis starts with ``prefix``, whose tokens count as certain (log-probability 0). A kept draft
    token that is not the model's own choice (k > 1, or β > 0) carries the model's log-probability of that token, not
    of its choice. In the statistics ``tokens`` counts what was decoded, end-of-text included: greedy decoding takes one
    pass per token.

    Args:
        prompt: what the model needs to be asked; at least one token.
        prefix: text that stands already, without end-of-text.
        cache: what the model has read of exactly these tokens, usually nothing yet.
        drafter: guesses what comes next.
        eot: the end-of-text token.
        limit: most positions of prompt, text and end-of-text together.
        locate: maps a frame of the memory to the sample where it ends, and -1, for what the cache had read before.

    Raises:
        ValueError: the prompt is empty, the prefix contains ``eot``, or the cache is ahead of the tokens.
    """
    tokens = [*prompt, *prefix]
    if not prompt or eot in prefix or cache.length >= len(tokens):
        raise ValueError(
            f"decoding needs a prompt (got {len(prompt)} tokens), a prefix without end-of-text ({eot}; got"
            f" {prefix}) and a newest token that is unread (got {cache.length} read of {len(tokens)})"
        )
    logprobs = [0.0] * len(prefix)
    attended = [-1] * cache.length  # per position read: the frame of the memory that it looked at
    stats = DecodeStats()
    while (tokens[-1] != eot or len(tokens) == len(prompt)) and len(tokens) < limit:  # prompts, too, may end with it
        room = limit - len(tokens) - 1  # the pass adds a token of its own
        draft = _cut(room, (yield from _drafting(drafter, tokens, cache, room)))
        unread = (*tokens[cache.length :], *draft.tokens)
        choices = yield Forward(unread, cache, len(draft.tokens) + 1, draft.tokens)
        if not isinstance(choices, Choices):
            raise TypeError(f"a Forward is answered by Choices, not by {choices!r}")
        agreed = _agreed(draft, choices)
        new = _through(eot, (*draft.tokens[:agreed], choices.tokens[agreed]))
        tokens += new
        logprobs += (*choices.draft_logprobs[:agreed], choices.logprobs[agreed])[: len(new)]
        attended += choices.frames
        cache.truncate(len(tokens) - 1)  # the newest token has been read by no one yet
        del attended[len(tokens) - 1 :]
        accepted = min(agreed, len(new))
        drafter.verified(replace(draft, chosen=choices.tokens), accepted)
        stats += _cost(draft, accepted, len(new))
    complete = tokens[-1] == eot and len(tokens) > len(prompt)
    text = tuple(tokens[len(prompt) : len(tokens) - complete])
    # A token comes from where the position before it looked: there the model wrote it.
    frames = attended[len(prompt) - 1 :][: len(text)] if len(attended) == len(tokens) - 1 else ()
    return Hypothesis(text, tuple(logprobs[: len(text)]), complete, stats, tuple(map(locate, frames)))


def greedy(prompt: Tokens, prefix: Tokens, cache: DecoderCache, *, eot: int, limit: int) -> Conversation:
    """Decode without drafts: the reference that every other way must equal."""
    drafter = NoDraft(DraftContext(prompt_length=len(prompt), eot=eot))
    return decode(prompt, prefix, cache, drafter, eot=eot, limit=limit)


def converse(model: SpeechModel, conversation: Conversation) -> Hypothesis:
    """Hold one conversation with a model to its end, alone and at once."""
    try:
        request = next(conversation)
        while True:
            if isinstance(request, Forward):
                request = conversation.send(model.step([request])[0])
            else:
                request = conversation.send(model.propose([request])[0])
    except StopIteration as stop:
        hypothesis: Hypothesis = stop.value
        return hypothesis


def _drafting(
    drafter: Drafter, tokens: Sequence[int], cache: DecoderCache, room: int
) -> Generator[Propose, Choices | Guess, Draft]:
    """Run the drafter's side, and see that it is answered with guesses."""
    drafting = drafter.propose(tokens, cache, room)
    try:
        request = next(drafting)
        while True:
            guess = yield request
            if not isinstance(guess, Guess):
                raise TypeError(f"a Propose is answered by a Guess, not by {guess!r}")
            request = drafting.send(guess)
    except StopIteration as stop:
        draft: Draft = stop.value
        return draft


def _cut(room: int, draft: Draft) -> Draft:
    """Hold a draft to the room there is, whatever the drafter made of it."""
    return replace(draft, tokens=draft.tokens[:room]) if len(draft.tokens) > room else draft


def _agreed(draft: Draft, choices: Choices) -> int:
    """Count the leading draft tokens that the model would have written, or with k > 1 or β > 0 nearly so."""
    for index, token in enumerate(draft.tokens):
        if token != choices.tokens[index] and not (_ranked(draft, choices, index) or _biased(draft, choices, index)):
            return index
    return len(draft.tokens)


def _ranked(draft: Draft, choices: Choices, index: int) -> bool:
    """Say whether a token that isn't the model's choice is among its ``top_k`` best."""
    return draft.top_k > 1 and choices.ranks[index] < draft.top_k


def _biased(draft: Draft, choices: Choices, index: int) -> bool:
    """Say whether a token that isn't the model's choice outweighs it with its stability bias β.

    A draft of probability p counts as ``(1 - β) p + β``, everything else as ``(1 - β) p``: from β = 0.5 on every
    draft is kept (arXiv 2509.21740), but for a token that the model never writes.
    """
    bias = draft.biases[index] if index < len(draft.biases) else 0.0
    if not bias or choices.draft_logprobs[index] == -math.inf:
        return False
    own, best = (math.exp(logprobs[index]) for logprobs in (choices.draft_logprobs, choices.logprobs))
    return (1 - bias) * own + bias >= (1 - bias) * best


def _through(eot: int, tokens: Tokens) -> Tokens:
    """Return ``tokens`` up to and including the first end-of-text."""
    return tokens[: tokens.index(eot) + 1] if eot in tokens else tokens


def _cost(draft: Draft, accepted: int, new: int) -> DecodeStats:
    drafted = len(draft.tokens)
    by_drafter = {draft.name: (drafted, accepted)} if drafted else {}
    return DecodeStats(passes=1, tokens=new, drafted=drafted, accepted=accepted, by_drafter=by_drafter)
