"""Who guesses the next tokens: nobody, the previous reading, what followed the same words before, or KVSPN.

Law: a drafter only guesses. The loop verifies every guess, so a bad drafter costs time and changes nothing.
A new drafter is one class and one line in :data:`DRAFTERS`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Protocol, cast

from streamtrans.core import BadConfig, Tokens
from streamtrans.model.api import DecoderCache, Propose

DRAFTERS: dict[str, str] = {
    "none": "streamtrans.decode.drafters:NoDraft",
    "echo": "streamtrans.decode.drafters:Echo",
    "ngram": "streamtrans.decode.drafters:Ngram",
    "kvspn": "streamtrans.decode.drafters:Kvspn",
}
"""Drafter name → ``module:Class``. The class is called with a :class:`DraftContext`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens, who guessed them, and how strictly they are verified.

    A token is kept if fewer than ``top_k`` tokens are preferred to it: 1 keeps only what the model would have
    written itself, ``math.inf`` keeps everything.
    """

    tokens: Tokens = ()
    name: str = "none"
    top_k: float = 1


Drafting = Generator[Propose, int, Draft]
"""A drafter's side of the conversation: it may ask the speculative network before it answers."""


@dataclass(frozen=True, slots=True)
class DraftContext:
    """What a drafter knows about its conversation.

    ``previous`` is an earlier reading of the same speech, whole, without prompt and end-of-text. ``top_k``
    applies to the drafts of a speculative network only.
    """

    prompt_length: int
    eot: int
    previous: Tokens = ()
    top_k: float = 1


class Drafter(Protocol):
    """Guesses for one conversation; made anew for each."""

    @property
    def needs_speculator(self) -> bool:
        """Whether it yields :class:`Propose`."""
        ...

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Guess at most ``room`` tokens that follow ``tokens``, which start with the prompt."""
        ...


class NoDraft:
    """Guess nothing: greedy decoding."""

    needs_speculator = False

    def __init__(self, context: DraftContext) -> None:
        del context

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return the empty draft."""
        del tokens, cache, room
        yield from ()
        return Draft()


class Echo:
    """Repeat the rest of the previous reading for as long as the text follows it.

    After a first mismatch it is silent; :class:`Ngram` finds the way back.
    """

    needs_speculator = False

    def __init__(self, context: DraftContext) -> None:
        self.prompt_length = context.prompt_length
        self.previous = (*context.previous, context.eot) if context.previous else ()

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return what the previous reading said next, its end of text included."""
        del cache
        yield from ()
        text = tuple(tokens[self.prompt_length :])
        if self.previous[: len(text)] != text:
            return Draft(name="echo")
        return Draft(self.previous[len(text) :][:room], "echo")


class Ngram:
    """Guess what followed the last few tokens before: in the previous reading, else earlier in this text.

    This is prompt look-up decoding; over a previous reading it re-aligns the old suffix after a changed word.
    """

    needs_speculator = False
    orders = (3, 2)  # longer matches first: they are right more often
    longest = 6  # tokens per guess; larger wins more where it is right and wastes more where it is wrong

    def __init__(self, context: DraftContext) -> None:
        self.prompt_length = context.prompt_length
        self.previous = (*context.previous, context.eot) if context.previous else ()

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return up to ``longest`` tokens that followed the newest three or two tokens elsewhere."""
        del cache
        yield from ()
        text = tuple(tokens[self.prompt_length :])
        count = min(room, self.longest)
        for order in self.orders:
            if len(text) < order:
                continue
            key = text[-order:]
            for corpus, expected in ((self.previous, len(text)), (text, len(text))):
                end = _nearest(corpus, key, expected)
                if end is not None:
                    return Draft(corpus[end:][:count], "ngram")
        return Draft(name="ngram")


def _nearest(corpus: Tokens, key: Tokens, expected: int) -> int | None:
    """Return where ``key`` ends in ``corpus`` with something after it, nearest to ``expected``."""
    ends = (end for end in range(len(key), len(corpus)) if corpus[end - len(key) : end] == key)
    return min(ends, key=lambda end: abs(end - expected), default=None)


class Kvspn:
    """Ask KVSPN for one token (arXiv 2508.11189, section 2.2).

    It reads the base model's keys of every earlier position, so it can speak only when the newest token alone
    is unread; and since it reads no keys of its own guesses, one token is all that it was trained to guess.
    """

    needs_speculator = True

    def __init__(self, context: DraftContext) -> None:
        self.top_k = context.top_k

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return the network's guess, or nothing while there are unread tokens before the newest."""
        if room < 1 or cache.length != len(tokens) - 1:
            return Draft(name="kvspn")
        guess = yield Propose(tokens[-1], cache)
        return Draft((guess,), "kvspn", self.top_k)


class Chain:
    """Take the first guess that is not empty."""

    def __init__(self, members: Sequence[Drafter]) -> None:
        self.members = tuple(members)
        self.needs_speculator = any(member.needs_speculator for member in self.members)

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return the first member's guess that says something; it keeps that member's name and k."""
        for member in self.members:
            draft = yield from member.propose(tokens, cache, room)
            if draft.tokens:
                return draft
        return Draft()


class DrafterClass(Protocol):
    """What a table entry names: a class that makes a drafter for one conversation."""

    needs_speculator: bool

    def __call__(self, context: DraftContext) -> Drafter:
        """Make a drafter."""
        ...


@dataclass(frozen=True, slots=True)
class DrafterFactory:
    """A parsed choice of drafters: makes one drafter per conversation."""

    spec: str
    classes: tuple[DrafterClass, ...]

    @property
    def needs_speculator(self) -> bool:
        """Whether the model must have a speculative network."""
        return any(each.needs_speculator for each in self.classes)

    def make(self, context: DraftContext) -> Drafter:
        """Make the drafter of one conversation."""
        members = [each(context) for each in self.classes]
        return members[0] if len(members) == 1 else Chain(members)


def parse_drafters(spec: str) -> DrafterFactory:
    """Read a chain such as ``"echo,kvspn"``: names of :data:`DRAFTERS`, or ``module:Class`` of your own.

    Raises:
        BadConfig: a name is unknown, or ``module:Class`` can't be imported.
    """
    names = [name.strip() for name in spec.split(",")]
    return DrafterFactory(",".join(names), tuple(_load(name) for name in names))


def _load(name: str) -> DrafterClass:
    path = name if ":" in name else DRAFTERS.get(name)
    if path is None:
        near = get_close_matches(name, DRAFTERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise BadConfig(f"unknown drafter {name!r}: {hint}choose from {', '.join(DRAFTERS)}, joined by commas")
    module, _, attribute = path.partition(":")
    try:
        return cast(DrafterClass, getattr(import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise BadConfig(f"drafter {name!r} can't be imported as module:Class: {error}") from error


def parse_top_k(value: str | float) -> float:
    """Read ``1``, ``2``, ``3``, … or ``inf``.

    Raises:
        BadConfig: it is none of these.
    """
    try:
        top_k = float(value)
    except ValueError:
        top_k = math.nan
    if top_k == math.inf or (top_k >= 1 and top_k.is_integer()):
        return top_k
    raise BadConfig(f"top-k is {value!r}: give a whole number from 1 (exact) up, or inf (no validation)")
