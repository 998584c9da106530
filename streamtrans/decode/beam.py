"""Beam search, with drafts verified inside it.

Law: with drafts verified at k = 1 the texts and their scores are those of the search without drafts.

```
 one beam    tokens     prompt | prefix | decoded so far
             row        what may follow them, best first; unknown while the newest token is unread
             ahead      continuations that are read already: token → the row after it
 one step    predict    who will survive? KVSPN scores what may follow each beam, and the likeliest few are drafted
             read       one pass: the newest tokens, for their rows, and the drafts behind them
             branch     the best continuations of all rows survive; a drafted one has its row already
```

Where every survivor was drafted the next step needs no pass. A beam with several drafts needs as many caches: what
its text has read is copied, and its newest token read once more.

The search is that of ``transformers`` with ``num_beams`` and no sampling: of the best continuations an ending one
is kept if it is among the first ``beams``, the first ``beams`` others go on, and texts compare by the sum of their
log-probabilities over their length to the power of ``length_penalty``. arXiv 2508.11189 reports speculative decoding
with three beams and doesn't say how drafts, validation and beams meet; what is done here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streamtrans.core import BadConfig, DecodeStats, Hypothesis, Tokens
from streamtrans.decode.drafters import parse_top_k
from streamtrans.model.api import Candidates, Choices, DecoderCache, Forward, Guess, Propose, SpeechModel

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BeamConfig:
    """How wide and how long is searched, and whether with drafts.

    With ``top_k`` above 1 a drafted continuation that is among the ``top_k`` best of its own beam survives before
    better ones, as KVSPN's choice; its score stays true. With ``math.inf`` KVSPN decides every second step alone.

    Raises:
        BadConfig: a value is out of range.
    """

    beams: int = 3  # texts that are continued at once; more find likelier texts and cost more
    length_penalty: float = 1.0  # power of the length that scores are divided by; larger prefers longer texts
    early_stopping: bool = False  # stop when `beams` texts have ended; else when none that goes on looks better
    speculate: bool = False  # KVSPN drafts who will survive the next step
    top_k: float = 1  # 1 is exact, larger is faster and looser, inf never checks

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise BadConfig(f"beams is {self.beams}: give a whole number from 1 up")
        if not math.isfinite(self.length_penalty):
            raise BadConfig(f"length_penalty is {self.length_penalty}: give a finite power, such as 1.0")
        parse_top_k(self.top_k)

    @property
    def caches(self) -> int:
        """Caches that a search can use: drafts may branch before it is known who survives."""
        return 2 * self.beams - 1 if self.speculate else self.beams

    @property
    def width(self) -> int:
        """Candidates that a step can need of one row: all survivors, an end besides, and the k best."""
        return max(self.beams + 1, int(self.top_k) if self.top_k < math.inf else 0)


@dataclass(frozen=True, slots=True)
class Scored:
    """A hypothesis and what it is ranked by: the log-probability of its text and end over their length's power.

    ``hypothesis.stats`` are those of the whole search in each of its hypotheses, ``tokens`` the best one's.
    """

    hypothesis: Hypothesis
    score: float


BeamRequests = tuple[Forward, ...] | tuple[Propose, ...]
BeamConversation = Generator[BeamRequests, Sequence[Any], tuple[Scored, ...]]
"""Yields what all beams wait for, is sent one answer each, returns the texts best first."""


def beam(
    prompt: Tokens,
    prefix: Tokens,
    caches: Sequence[DecoderCache],
    config: BeamConfig | None = None,
    *,
    eot: int,
    limit: int,
) -> BeamConversation:
    """Search for the likeliest continuations of ``prompt + prefix``.

    In the statistics a pass over all beams counts as one, and ``accepted`` the drafted continuations that survived.

    Args:
        prompt: what the model needs to be asked; at least one token.
        prefix: text that stands already, without end-of-text; it counts as certain, and not in the length.
        caches: at least one per beam, all about one memory; up to ``config.caches`` hold more drafts. The first may
            have read the beginning of the tokens.
        config: the width, when to stop, and whether to draft.
        eot: the end-of-text token.
        limit: most positions of prompt, text and end-of-text together.

    Raises:
        ValueError: the prompt is empty, the prefix contains ``eot``, there is not one cache per beam, or the first
            is ahead of the tokens.
    """
    config = config or BeamConfig()
    start = (*prompt, *prefix)
    if not prompt or eot in prefix or len(caches) < config.beams or caches[0].length >= len(start):
        raise ValueError(
            f"beam search needs a prompt (got {len(prompt)} tokens), a prefix without end-of-text ({eot}; got"
            f" {prefix}), {config.beams} caches (got {len(caches)}), and a newest token that the first has not read"
        )
    if len(start) >= limit:
        return (Scored(Hypothesis(prefix, (0.0,) * len(prefix), complete=False), 0.0),)
    search = _Search(config, eot, limit, len(start), [(cache, ()) for cache in caches[1:]])
    beams = [_Beam(start, (), 0.0, caches[0])]
    while beams:
        if any(beam.row is None for beam in beams):
            drafts = yield from search.predict(beams)
            yield from search.read(beams, drafts)
        beams = search.branch(beams)
    return search.ranked(prefix)


def converse_beam(model: SpeechModel, conversation: BeamConversation) -> tuple[Scored, ...]:
    """Hold one search with a model to its end: a pass serves all of its beams."""
    return converse_beams(model, [conversation])[0]


def converse_beams(model: SpeechModel, conversations: Sequence[BeamConversation]) -> list[tuple[Scored, ...]]:
    """Hold several searches at once: what they ask for at the same time shares passes."""
    talks = _in_step(conversations)
    try:
        asked = next(talks)
        while True:
            asked = talks.send(_answer(model, asked))
    except StopIteration as stop:
        found: list[tuple[Scored, ...]] = stop.value
        return found


def _answer(model: SpeechModel, asked: Sequence[tuple[Forward, ...] | tuple[Propose, ...]]) -> list[list[Any]]:
    """Answer each conversation's requests, all of one kind in one call."""
    forwards = [request for each in asked for request in each if isinstance(request, Forward)]
    proposals = [request for each in asked for request in each if isinstance(request, Propose)]
    choices = iter(model.step(forwards) if forwards else ())
    guesses = iter(model.propose(proposals) if proposals else ())
    return [[next(choices) if isinstance(request, Forward) else next(guesses) for request in each] for each in asked]


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A continuation that has been read: the row after it, the cache that holds it, and its own log-probability.

    ``guessed`` tells KVSPN's drafts from continuations that were known to be good, and were read on the way.
    """

    row: Candidates
    cache: DecoderCache
    logprob: float
    guessed: bool


@dataclass(slots=True)
class _Beam:
    """One text: its tokens with the prompt, and what is known of what may follow."""

    tokens: Tokens
    logprobs: tuple[float, ...]
    score: float
    cache: DecoderCache
    row: Candidates | None = None
    ahead: dict[int, _Ahead] = field(default_factory=dict)

    def options(self, top_k: float) -> list[_Option]:
        """Return this text's continuations, best first."""
        assert self.row is not None, "a beam branches when its row is read"
        known = {token for token, _ in self.row}
        lost = {token: read.logprob for token, read in self.ahead.items() if token not in known}
        found = []
        for rank, (token, logprob) in enumerate((*self.row, *(lost.items() if top_k == math.inf else ()))):
            favoured = token in self.ahead and self.ahead[token].guessed and top_k > 1 and rank < top_k
            found.append(_Option(self, token, logprob, favoured))
        return found


@dataclass(frozen=True, slots=True)
class _Option:
    """A beam and a token that may continue it; a favoured one survives before better ones."""

    beam: _Beam
    token: int
    logprob: float
    favoured: bool = False

    @property
    def score(self) -> float:
        """The longer text's."""
        return self.beam.score + self.logprob

    @property
    def read(self) -> _Ahead | None:
        """What was read of it, if it was drafted."""
        return self.beam.ahead.get(self.token)

    def extended(self, cache: DecoderCache) -> _Beam:
        """Return the longer text."""
        row = self.read.row if self.read else None
        tokens, logprobs = (*self.beam.tokens, self.token), (*self.beam.logprobs, self.logprob)
        return _Beam(tokens, logprobs, self.score, cache, row)


@dataclass(slots=True)
class _Search:
    """What outlives a step: ended texts, free caches and counts."""

    config: BeamConfig
    eot: int
    limit: int
    start: int  # positions before the first decoded token
    spare: list[tuple[DecoderCache, Tokens]]  # free caches, and tokens of which each has read the beginning
    ended: list[tuple[float, _Beam]] = field(default_factory=list)  # best first
    passes: int = 0
    drafted: int = 0
    accepted: int = 0

    def predict(self, beams: Sequence[_Beam]) -> Generator[BeamRequests, Sequence[Any], list[_Option]]:
        """Return who will probably survive the next step; beams with a row need no guess for that."""
        if not self.config.speculate or len(beams[0].tokens) + 1 >= self.limit:
            return []
        # KVSPN was trained to read the newest token where the base has read all others.
        asked = [beam for beam in beams if beam.row is None and beam.cache.length == len(beam.tokens) - 1]
        rows = {id(beam): beam.row for beam in beams}
        if asked:
            width = self.config.beams + 1
            guesses = yield tuple(Propose(beam.tokens[-1:], beam.cache, 1, width=width) for beam in asked)
            for beam, guess in zip(asked, guesses, strict=True):
                if not isinstance(guess, Guess):
                    raise TypeError(f"a Propose is answered by a Guess, not by {guess!r}")
                rows[id(beam)] = guess.candidates
        likely = [_Option(beam, *pair) for beam in beams for pair in rows[id(beam)] or () if pair[0] != self.eot]
        return sorted(likely, key=lambda option: -option.score)[: self.config.beams]

    def read(self, beams: Sequence[_Beam], drafts: Sequence[_Option]) -> Generator[BeamRequests, Sequence[Any], None]:
        """Run one pass for the beams that lack their row, over their drafts besides."""
        plan: list[tuple[_Beam, int | None, Forward]] = []
        for beam in beams:
            tokens = [option.token for option in drafts if option.beam is beam]
            branches = [self._branch(beam) for _ in tokens[1:]]
            if tokens or beam.row is None:
                plan.append((beam, tokens[0] if tokens else None, self._forward(beam, beam.cache, tuple(tokens[:1]))))
            for branch, cache in zip(tokens[1:], branches, strict=True):
                if cache is not None:
                    plan.append((beam, branch, self._forward(beam, cache, (branch,))))
        answers = yield tuple(forward for _, _, forward in plan)
        self.passes += 1
        known = {id(beam) for beam in beams if beam.row is not None}
        for (beam, token, forward), choices in zip(plan, answers, strict=True):
            if not isinstance(choices, Choices):
                raise TypeError(f"a Forward is answered by Choices, not by {choices!r}")
            if len(choices.candidates) != forward.rows or not all(choices.candidates):
                raise ValueError("a row came back without candidates: the model's scores are masked, or no numbers")
            if beam.row is None:
                beam.row = choices.candidates[0]
            if token is not None:
                guessed = id(beam) not in known
                own = choices.draft_logprobs
                logprob = own[0] if own else dict(beam.row).get(token, -math.inf)
                beam.ahead[token] = _Ahead(choices.candidates[-1], forward.cache, logprob, guessed)
                self.drafted += guessed

    def branch(self, beams: Sequence[_Beam]) -> list[_Beam]:
        """Continue the best texts by one token and keep those that end; nothing is left when the search is over."""
        width, length = self.config.beams, len(beams[0].tokens) + 1
        options = [option for beam in beams for option in beam.options(self.config.top_k)]
        options.sort(key=lambda option: -option.score)
        going: list[_Option] = []
        for place, option in enumerate(options):
            if option.token != self.eot and length < self.limit:
                going.append(option)
            elif place < width:
                text = option.extended(option.beam.cache)
                self.ended = sorted([*self.ended, (text.score / self._norm(length), text)], key=lambda each: -each[0])
        self.ended = self.ended[:width]
        chosen = sorted(going, key=lambda option: not option.favoured)[:width]
        self.accepted += sum(option.read is not None and option.read.guessed for option in chosen)
        return [] if self._over(chosen, length) else self._place(beams, chosen)

    def ranked(self, prefix: Tokens) -> tuple[Scored, ...]:
        """Return the texts that ended, best first."""
        by_drafter = {"kvspn": (self.drafted, self.accepted)} if self.drafted else {}
        decoded = len(self.ended[0][1].logprobs)
        found = []
        for score, beam in self.ended:
            complete = beam.tokens[-1] == self.eot
            text = (*prefix, *beam.tokens[self.start : len(beam.tokens) - complete])
            logprobs = ((0.0,) * len(prefix) + beam.logprobs)[: len(text)]
            stats = DecodeStats(self.passes, decoded, self.drafted, self.accepted, by_drafter)
            found.append(Scored(Hypothesis(text, logprobs, complete, stats), score))
        return tuple(found)

    def _branch(self, beam: _Beam) -> DecoderCache | None:
        """Return a free cache that has read what the beam's has, or nothing where none is left."""
        return self._copied(beam, beam.cache.length) if self.spare else None

    def _forward(self, beam: _Beam, cache: DecoderCache, draft: Tokens) -> Forward:
        """Return the pass over a beam's newest token, where that is unread, and over a draft.

        A branch of a beam needs the last row only, unless the draft's log-probability may be lost otherwise.
        """
        unread = beam.tokens[cache.length :]
        first = cache is beam.cache or self.config.top_k == math.inf
        rows = len(draft) + bool(unread and first)
        return Forward((*unread, *draft), cache, rows, draft[len(draft) - rows + 1 :], self.config.width)

    def _over(self, chosen: Sequence[_Option], length: int) -> bool:
        """Tell whether to stop; a running text is judged as if it ended at its length now, as transformers does."""
        if not chosen or len(self.ended) < self.config.beams:
            return not chosen
        best = max(option.score for option in chosen)
        return self.config.early_stopping or best / self._norm(length) <= self.ended[-1][0]

    def _norm(self, length: int) -> float:
        return float((length - self.start) ** self.config.length_penalty)

    def _place(self, beams: Sequence[_Beam], chosen: Sequence[_Option]) -> list[_Beam]:
        """Give each survivor a cache: the one that holds it, else its beam's own, else a copy of that."""
        caches = {id(option): option.read.cache for option in chosen if option.read}
        taken = {id(cache) for cache in caches.values()}
        heirs = []
        for option in chosen:
            if option.read is None and id(option.beam.cache) not in taken:
                caches[id(option)] = option.beam.cache
                taken.add(id(option.beam.cache))
                heirs.append(option.beam)
        for beam in beams:
            held = {id(beam.cache): (beam.cache, beam.tokens)}
            held |= {id(read.cache): (read.cache, (*beam.tokens, token)) for token, read in beam.ahead.items()}
            self.spare += [each for key, each in held.items() if key not in taken]
        for option in chosen:
            if id(option) not in caches:
                caches[id(option)] = self._copied(option.beam, len(option.beam.tokens))
        for beam in heirs:
            beam.cache.truncate(len(beam.tokens))
        return [option.extended(caches[id(option)]) for option in chosen]

    def _copied(self, beam: _Beam, length: int) -> DecoderCache:
        """Return a free cache that has read ``length`` positions of a beam; the one that has most of them already."""
        place = max(range(len(self.spare)), key=lambda at: _shared(self.spare[at][1], beam.tokens))
        cache, tokens = self.spare.pop(place)
        cache.truncate(min(cache.length, length, _shared(tokens, beam.tokens)))
        cache.copy_from(beam.cache, length)
        return cache


def _shared(one: Tokens, other: Tokens) -> int:
    """Count the leading tokens that two texts have in common."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _in_step(talks: Sequence[Generator[Any, Any, R]]) -> Generator[tuple[Any, ...], Sequence[Any], list[R]]:
    """Run conversations side by side: what they ask at the same time is asked in one request."""
    found: dict[int, R] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(talks)))  # sending None begins one
    while True:
        asked = {}
        for place, answer in answers.items():
            try:
                asked[place] = talks[place].send(answer)
            except StopIteration as stop:
                found[place] = stop.value
        if not asked:
            return [found[place] for place in range(len(talks))]
        given = yield tuple(asked.values())
        answers = dict(zip(asked, given, strict=True))
