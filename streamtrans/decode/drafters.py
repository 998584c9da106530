"""Who guesses the next tokens: nobody, the previous reading, what follows the same words elsewhere, or KVSPN.

Law: a drafter only guesses. The loop verifies every guess, so a bad drafter costs time and changes nothing.
A new drafter is one class and one line in :data:`DRAFTERS`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from streamtrans.core import BadConfig, Tokens
from streamtrans.foreign import Chosen, Table
from streamtrans.model.api import DecoderCache, Guess, Propose


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens, who guessed them, and how strictly they are verified.

    A token is kept if fewer than ``top_k`` tokens are preferred to it: 1 keeps only what the model would have
    written itself, ``math.inf`` keeps everything. ``biases`` hold a stability bias β per token, which keeps more of
    them; tokens behind the last one have none. ``chosen``, once they are verified, is what the model would have
    written in the place of each, given those before it, and behind the last.
    """

    tokens: Tokens = ()
    name: str = "none"
    top_k: float = 1
    biases: tuple[float, ...] = ()
    chosen: Tokens = ()


Drafting = Generator[Propose, Guess, Draft]
"""A drafter's side of the conversation: it may ask the speculative network before it answers."""


@dataclass(frozen=True, slots=True)
class DraftCosts:
    """What drafting costs, in passes of the base over one token: the scale on which a draft must pay.

    The defaults are those of the embedded model on one CPU thread (``streamtrans bench costs --shape nano``): a draft
    pays from an acceptance of one half on.

    Raises:
        BadConfig: a cost is no number of 0 or more, or ``longest`` is outside of 1 … 8.
    """

    guess: float = 0.3  # one guess of the speculative network; larger drafts less far ahead
    opening: float = 0.15  # a pass over two tokens instead of one; larger drafts more rarely
    verify: float = 0.03  # each further token in the pass that verifies; larger drafts less far ahead
    longest: int = 8  # most tokens of a draft

    def __post_init__(self) -> None:
        for name in ("guess", "opening", "verify"):
            cost = getattr(self, name)
            if type(cost) not in (int, float) or not 0 <= cost < math.inf:
                raise BadConfig(f"{name} of drafts costs {cost!r} passes; give a number, 0 or more")
        if type(self.longest) is not int or not 1 <= self.longest <= 8:
            raise BadConfig(f"drafts of {self.longest!r} tokens at most; give a whole number, 1 to 8")

    def best(self, acceptance: float, most: int) -> int:
        """Return how many of at most ``most`` tokens to draft, each right with ``acceptance`` if all before are.

        A draft of ``g`` tokens makes ``(1 - a^(g+1)) / (1 - a)`` tokens of a pass (Leviathan et al. 2023,
        equation 1), which then costs ``1 + opening + g (guess + verify)``. 0 says that drafting doesn't pay.
        """
        best, count = 1.0, 0
        tokens = right = 1.0
        for drafted in range(1, min(most, self.longest) + 1):
            right *= acceptance
            tokens += right
            rate = tokens / (1 + self.opening + drafted * (self.guess + self.verify))
            if rate > best:
                best, count = rate, drafted
        return count


COSTS = DraftCosts()
"""Where nobody has measured them."""


@dataclass(frozen=True, slots=True)
class DraftContext:
    """What a drafter knows about its conversation.

    ``previous`` is an earlier reading of the same speech, whole, without prompt and end-of-text; ``biases`` hold a
    stability bias β for each of its tokens, or nothing. The rest is for drafts of a speculative network only:
    ``top_k`` says how strictly they are verified, ``count`` how many tokens they have (``None`` follows what is
    accepted), ``acceptance`` how often a guess is right until that is known, and guessing stops when all guesses of
    a draft are together less probable than ``floor``.

    Raises:
        BadConfig: ``count`` is outside of 0 … 8, a rate outside of 0 … 1, or a bias outside of 0 … 1 or without
            its token.
    """

    prompt_length: int
    eot: int
    previous: Tokens = ()
    top_k: float = 1
    count: int | None = None
    acceptance: float = 0.7
    floor: float = 0.0
    costs: DraftCosts = COSTS
    biases: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.biases and len(self.biases) != len(self.previous):
            raise BadConfig(f"{len(self.biases)} biases for {len(self.previous)} draft tokens: give one each, or none")
        if wrong := [bias for bias in self.biases if not 0 <= bias < 1]:
            raise BadConfig(f"a stability bias is {wrong[0]}: give 0 (exact) up to, but not including, 1")
        if self.count is not None and not 0 <= self.count <= 8:
            raise BadConfig(f"a draft of {self.count} tokens: give 0 to 8, or none to follow what is accepted")
        if not (0 <= self.acceptance <= 1 and 0 <= self.floor <= 1):
            raise BadConfig(f"acceptance {self.acceptance} and floor {self.floor} are probabilities: give 0 to 1")


class Drafter(Protocol):
    """Guesses for one conversation; made anew for each."""

    @property
    def needs_speculator(self) -> bool:
        """Whether it yields :class:`Propose`."""
        ...

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Guess at most ``room`` tokens that follow ``tokens``, which start with the prompt."""
        ...

    def verified(self, draft: Draft, accepted: int) -> None:
        """Learn how many of the tokens were kept that it last drafted, or another one of its chain."""
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

    def verified(self, draft: Draft, accepted: int) -> None:
        """Learn nothing."""


class Echo:
    """Repeat the rest of the previous reading for as long as the text follows it.

    After a first mismatch it is silent; :class:`Ngram` finds the way back.
    """

    needs_speculator = False

    def __init__(self, context: DraftContext) -> None:
        self.prompt_length = context.prompt_length
        self.previous = (*context.previous, context.eot) if context.previous else ()
        self.biases = context.biases

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return what the previous reading said next, its end of text included."""
        del cache
        yield from ()
        text = tuple(tokens[self.prompt_length :])
        if self.previous[: len(text)] != text:
            return Draft(name="echo")
        rest = slice(len(text), len(text) + room)
        return Draft(self.previous[rest], "echo", biases=self.biases[rest])

    def verified(self, draft: Draft, accepted: int) -> None:
        """Learn nothing."""


class Following:
    """What follows the last few tokens: the newest that is known of the most of them."""

    orders = (3, 2, 1)  # tokens that are looked up, longer ones first: they are right more often

    def __init__(self) -> None:
        self.known: dict[Tokens, int] = {}

    def learn(self, before: Tokens, token: int) -> None:
        """Learn what follows."""
        self.known.update((before[-order:], token) for order in self.orders if len(before) >= order)

    def next(self, before: Tokens) -> int | None:
        """Return what follows, if that is known."""
        keys = (before[-order:] for order in self.orders if len(before) >= order)
        return next((self.known[key] for key in keys if key in self.known), None)


class Ngram:
    """Guess what follows the last few tokens: where they stood before, or would have if the draft had been right.

    This is prompt look-up decoding, and over a previous reading it re-aligns the old suffix after a changed word. A
    draft that is wrong somewhere has been read to its end all the same: behind each of its tokens the pass says what
    the model would write there now. The text often comes to these tokens a word sooner or later, and else to what would
    have followed at the same places (as in lookahead decoding, Fu et al. 2024). What was said before is believed
    instead while it is right more often.

    ```
    draft    a  b  c  d          b is wrong, x is right: of the text, a x is known by now
    chosen   a  x  e  f  g       b would be followed by e, c by f, d by g, and if x is but in b's place, so is x
    ```
    """

    needs_speculator = False
    longest = 8  # tokens per guess; larger wins more where it is right and wastes more where it is wrong

    def __init__(self, context: DraftContext) -> None:
        self.prompt_length, self.eot = context.prompt_length, context.eot
        self.said, self.would = Following(), Following()
        self.trust = 0  # how often the second was right where they differed, less how often the first was
        self.text: Tokens = ()
        self.rest: Tokens = ()
        if context.previous:
            self._learn((*context.previous, context.eot))

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return up to ``longest`` tokens, each what follows those before it."""
        del cache
        yield from ()
        text = tuple(tokens[self.prompt_length :])
        self._learn(text)
        following = self.would if self.trust >= 0 else self.said
        found: Tokens = ()
        while len(found) < self.longest and self.eot not in found[-1:]:
            if (token := following.next(text + found)) is None:
                break
            found = (*found, token)
        if self.eot not in found:
            found += self.rest[len(found) : self.longest]
        return Draft(found[:room], "ngram")

    def verified(self, draft: Draft, accepted: int) -> None:
        """Learn what would have followed each token that was wrong."""
        rest = draft.chosen[accepted + 1 :]
        self.rest = rest[: rest.index(self.eot) + 1] if self.eot in rest else rest
        for end, token in enumerate(rest, accepted + 1):
            self.would.learn(draft.tokens[:end], token)

    def _learn(self, text: Tokens) -> None:
        """Learn what each token follows, but for what was learnt with the last text already."""
        same = takewhile(lambda pair: pair[0] == pair[1], zip(self.text, text, strict=False))
        for end in range(len([*same]), len(text)):
            before, token = text[:end], text[end]
            self.trust += (self.would.next(before) == token) - (self.said.next(before) == token)
            self.would.learn(before, token)
            self.said.learn(before, token)
        self.text = text


class Kvspn:
    """Ask KVSPN for the next tokens (arXiv 2508.11189, section 2.2), as many as pay, going by what was accepted.

    It speaks only when the newest token alone is unread: then it reads the base model's keys of every earlier
    position. With k = ∞ everything is accepted, which teaches nothing: unless ``count`` says otherwise it guesses one.
    """

    needs_speculator = True
    learning = 0.1  # weight of the newest outcome; larger follows the text faster and forgets sooner
    patience = 16  # tokens without a draft, where it doesn't pay, before the next try; larger tries less often

    def __init__(self, context: DraftContext) -> None:
        self.context = context
        self.acceptance = context.acceptance
        self.silent = 0

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return the network's guesses, or nothing while there are unread tokens before the newest."""
        if room < 1 or cache.length != len(tokens) - 1:
            return Draft(name="kvspn")
        count = self._count(room)
        if count < 1:
            self.silent += 1
            return Draft(name="kvspn")
        self.silent = 0
        guess = yield Propose((tokens[-1],), cache, count, self.context.floor)
        return Draft(guess.tokens, "kvspn", self.context.top_k)

    def verified(self, draft: Draft, accepted: int) -> None:
        """Learn from the kept guesses and from the first wrong one: what follows it was never put to the test."""
        if draft.name != "kvspn":
            return
        for outcome in (1.0,) * accepted + (0.0,) * (accepted < len(draft.tokens)):
            self.acceptance += self.learning * (outcome - self.acceptance)

    def _count(self, room: int) -> int:
        fixed = self.context.count
        if fixed is not None:
            return min(fixed, room)
        if self.silent >= self.patience or self.context.top_k == math.inf:
            return 1
        return self.context.costs.best(self.acceptance, room)


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

    def verified(self, draft: Draft, accepted: int) -> None:
        """Tell all members: from what became of one's draft another one learns."""
        for member in self.members:
            member.verified(draft, accepted)


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


DRAFTERS: Table[DrafterClass] = Table(
    "drafter",
    {
        "none": "streamtrans.decode.drafters:NoDraft",
        "echo": "streamtrans.decode.drafters:Echo",
        "ngram": "streamtrans.decode.drafters:Ngram",
        "kvspn": "streamtrans.decode.drafters:Kvspn",
    },
)
"""Drafter name → ``module:Class``. The class is called with a :class:`DraftContext`."""


def parse_drafters(spec: str) -> DrafterFactory:
    """Read a chain such as ``"echo,kvspn"``: names of :data:`DRAFTERS`, joined by commas.

    A :class:`~streamtrans.foreign.Chosen` chain may hold the paths of drafters of installed packages.

    Raises:
        BadConfig: a name is unknown, or what it names isn't there.
    """
    word = Chosen if isinstance(spec, Chosen) else str
    names = [word(name.strip()) for name in spec.split(",")]
    return DrafterFactory(",".join(names), tuple(DRAFTERS.load(name) for name in names))


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
