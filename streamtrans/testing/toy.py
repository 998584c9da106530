"""A model without weights: hashes decide what it says, so that its laws are exact and its tests are fast.

Law: the next token is a function of the audio heard and of every token before it, and of nothing else.
It refuses what a real model would silently get wrong: stale caches, one cache twice in a batch, full slots.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from streamtrans.core import SAMPLE_RATE, AudioTooLong, BadAnswer, BadAudio, Tokens, UnsupportedLanguage
from streamtrans.model.api import (
    Candidates,
    Choices,
    DecoderCache,
    Forward,
    Guess,
    Heard,
    Hearing,
    Memory,
    Propose,
    Written,
)
from streamtrans.text import Pieces, Vocabulary

EOT, SOT = 0, 1


@dataclass(frozen=True, slots=True)
class ToyMemory:
    """One digest per ``stretch`` of audio, each of everything heard up to its end.

    The token at text position ``i`` depends on digest ``i``: when audio grows, old text stays as it was but
    for its end, as with a real model.
    """

    digests: tuple[bytes, ...]
    frames: int
    prompt: Tokens = ()
    reach: tuple[int, ...] = ()
    """Of a text: there is a digest per word, and a frame."""


@dataclass(frozen=True, slots=True)
class ToyState:
    """What was heard of a segment: a digest per whole stretch from ``start`` on, and the ``rest`` before ``heard``."""

    start: int
    heard: int
    digests: tuple[bytes, ...]
    rest: bytes


class ToyCache:
    """One row of :class:`ToySlots`, and how much of it counts."""

    def __init__(self, row: NDArray[np.int64], index: int, memory: ToyMemory) -> None:
        self.row = row
        self.index = index
        self.memory = memory
        self.length = 0
        self.floor = 0
        self.open = True

    def truncate(self, length: int) -> None:
        """Lower the length; what lies beyond stays in the row as rubbish."""
        if not self.floor <= length <= self.length:
            raise ValueError(f"truncate({length}): a cache of floor {self.floor} has read {self.length} positions")
        self.length = length

    def copy_from(self, source: DecoderCache, length: int) -> None:
        """Copy what another row about the same audio has read, after what both have read."""
        other = _toy(source)
        if other.memory is not self.memory or not (self.open and other.open):
            raise ValueError("a cache is copied from another open one about the same memory")
        if not self.length <= length <= other.length or (self.row[: self.length] != other.row[: self.length]).any():
            raise ValueError(f"copy_from({length}): {self.length} and {other.length} positions are read, not all alike")
        self.row[self.length : length] = other.row[self.length : length]
        self.length = length


class ToySlots:
    """Rows of tokens in one array, handed out again without being cleaned."""

    def __init__(self, capacity: int, max_tokens: int) -> None:
        self.rows = np.full((capacity, max_tokens), -1, np.int64)
        self.unused = list(range(capacity))

    @property
    def capacity(self) -> int:
        """Slots altogether."""
        return len(self.rows)

    @property
    def free(self) -> int:
        """Slots not handed out."""
        return len(self.unused)

    def open(self, memory: Memory, prompt: Tokens = ()) -> ToyCache:
        """Hand out the slot that was given back last."""
        del prompt
        assert isinstance(memory, ToyMemory)
        if not self.unused:
            raise RuntimeError(f"all {self.capacity} slots are taken")
        index = self.unused.pop()
        return ToyCache(self.rows[index], index, memory)

    def wipe(self, cache: DecoderCache) -> None:
        """Fill a slot with rubbish, as it was at first."""
        _toy(cache).row[:] = -1

    def release(self, cache: DecoderCache) -> None:
        """Take a slot back, once."""
        if not _toy(cache).open:
            raise RuntimeError("this slot was given back before")
        _toy(cache).open = False
        self.unused.append(_toy(cache).index)


@dataclass(frozen=True, slots=True)
class ToyConfig:
    """How a toy speaks."""

    seed: int = 0
    words: int = 20  # text tokens; smaller repeats itself sooner
    languages: tuple[str, ...] = ("en", "zh", "de", "es", "fr", "it")
    order: int | None = None  # how many tokens back the next one depends on; None = all of them
    stretch: int = SAMPLE_RATE // 5  # samples per token: five words a second
    agreement: float = 0.8  # how often the speculator guesses what the model will say
    speculator: bool = True
    rolls_back: bool = True
    asked_in_words: bool = False
    max_tokens: int = 64
    max_samples: int = 30 * SAMPLE_RATE


class ToyModel:
    """A :class:`~streamtrans.model.api.SpeechModel` made of hashes.

    Token ids: end-of-text 0, start 1, then the languages, then the words. A text ends when its audio does, or
    now and then earlier. ``encodes``, ``steps`` and ``guesses`` record the batch size of every call, and
    ``threads`` who called.
    """

    def __init__(self, config: ToyConfig | None = None) -> None:
        self.config = config or ToyConfig()
        self.name, self.device, self.precision, self.parameters = "toy", "nowhere", "exact", 0
        self.eot = EOT
        self.languages = self.config.languages
        self.first_word = SOT + 1 + len(self.languages)
        self.size = self.first_word + self.config.words
        self.translations: tuple[tuple[str, tuple[str, ...]], ...] = ()  # any language becomes any
        words = [f" w{number}".encode() for number in range(self.config.words)]
        self.vocabulary: Vocabulary = Pieces([b""] * self.first_word + words, EOT)
        self.max_tokens = self.config.max_tokens
        self.max_samples = self.config.max_samples
        self.frame_samples = self.config.stretch
        self.has_speculator = self.config.speculator
        self.draft_acceptance = self.config.agreement
        self.rolls_back, self.asked_in_words = self.config.rolls_back, self.config.asked_in_words
        self.encodes: list[int] = []
        self.steps: list[int] = []
        self.guesses: list[int] = []
        self.threads: set[int] = set()

    def tokens_per_second(self, language: str) -> float:  # noqa: ARG002
        """Return 0: nobody speaks the toy's language."""
        return 0.0

    def taught(self, target: str, source: str | None) -> bool:
        """Say that it was."""
        del target, source
        return True

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return ``(start, language)``."""
        for code in (target, source):
            if code is not None and code not in self.languages:
                raise UnsupportedLanguage(f"the toy knows no {code!r}: choose from {', '.join(self.languages)}")
        return SOT, SOT + 1 + self.languages.index(target)

    def encode(self, audios: Sequence[NDArray[np.float32]]) -> list[Memory]:
        """Digest each stretch of audio; one bad member fails the whole batch, as it would on a device."""
        self._receive(audios)
        return [self._digest(audio) for audio in audios]

    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Digest what is new; who hands in another stream's state hears that stream's beginning."""
        self._receive([hearing.audio for hearing in hearings])
        return [self._go_on(hearing) for hearing in hearings]

    def _receive(self, audios: Sequence[NDArray[np.float32]]) -> None:
        self.threads.add(threading.get_ident())
        for audio in audios:
            if len(audio) > self.max_samples:
                raise AudioTooLong(f"{len(audio)} samples of audio: the toy holds {self.max_samples}")
            if not np.isfinite(audio).all():
                raise BadAudio("the audio holds samples that are no numbers: send finite float32")
        self.encodes.append(len(audios))

    def allocate(self, slots: int) -> ToySlots:
        """Allocate ``slots`` rows."""
        return ToySlots(slots, self.max_tokens)

    def step(self, forwards: Sequence[Forward]) -> list[Choices]:
        """Read each ragged row into its cache and answer its last rows."""
        self.threads.add(threading.get_ident())
        caches = [_toy(forward.cache) for forward in forwards]
        if len({id(cache) for cache in caches}) != len(caches):
            raise ValueError("one cache occurs twice in this batch")
        for forward, cache in zip(forwards, caches, strict=True):
            self._check(forward, cache)
        self.steps.append(len(forwards))
        answers = []
        for forward, cache in zip(forwards, caches, strict=True):
            end = cache.length + len(forward.tokens)
            cache.row[cache.length : end] = forward.tokens
            cache.length = end
            answers.append(self._choose(forward, cache))
        return answers

    def targets(self, source: str) -> tuple[str, ...]:
        """Return all languages but ``source``: the toy translates texts, too."""
        return tuple(code for code in self.languages if code != source) if source in self.languages else ()

    def check(self, target: str, source: str) -> None:
        """Refuse languages that aren't the toy's."""
        self.prompt(target, source)

    def read(self, texts: Sequence[Written]) -> list[ToyMemory]:
        """Digest each word of each text with the words before it; one bad member fails the whole batch."""
        self.threads.add(threading.get_ident())
        if any(len(text.text.split()) > self.max_tokens for text in texts):
            raise BadAnswer(f"a text of more than {self.max_tokens} words: the toy holds no more")
        self.encodes.append(len(texts))
        return [self._digest_text(text) for text in texts]

    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Guess the model's next tokens, each rightly with the configured rate."""
        self.threads.add(threading.get_ident())
        if not self.has_speculator:
            raise RuntimeError("this toy has no speculator")
        self.guesses.append(len(proposals))
        return [self._guess(proposal, _toy(proposal.cache)) for proposal in proposals]

    def greedy(self, prompt: Tokens, about: NDArray[np.float32] | Written, limit: int) -> Tokens:
        """Return the text after ``prompt`` by definition, without cache or loop: the reference."""
        memory = self._digest_text(about) if isinstance(about, Written) else self._digest(about)
        tokens = list(prompt)
        while tokens[-1] != EOT and len(tokens) < limit:
            tokens.append(int(np.argmax(self._logits(memory, tuple(tokens)))))
        return tuple(token for token in tokens[len(prompt) :] if token != EOT)

    def _digest(self, audio: NDArray[np.float32]) -> ToyMemory:
        return self._memory(self._append(ToyState(0, 0, (), b""), audio))

    def _digest_text(self, text: Written) -> ToyMemory:
        digests, reach = list[bytes](), list[int]()
        for word in text.text.split():
            digests.append(_chain(digests, word.encode()))
            reach.append(text.text.index(word, reach[-1] if reach else 0) + len(word))
        return ToyMemory(tuple(digests), len(digests), self.prompt(text.target, text.source), tuple(reach))

    def _go_on(self, hearing: Hearing) -> Heard:
        """Append what is new; begin anew where the state is another segment's, or has heard more than is asked."""
        end, state = hearing.start + len(hearing.audio), hearing.state
        known = isinstance(state, ToyState) and state.start == hearing.start and state.heard <= end
        before = state if known and isinstance(state, ToyState) else ToyState(hearing.start, hearing.start, (), b"")
        after = self._append(before, hearing.audio[before.heard - hearing.start :])
        memory = self._digest(hearing.audio) if hearing.whole else self._memory(after)
        return Heard(memory, after, hearing.start, end - before.heard)

    def _append(self, state: ToyState, audio: NDArray[np.float32]) -> ToyState:
        """Digest the stretches that ``audio`` completes, each with the digest before it."""
        sound = state.rest + np.round(audio * 32767).astype("<i2").tobytes()
        size, digests = 2 * self.config.stretch, [*state.digests]
        while len(sound) >= size:
            digests.append(_chain(digests, sound[:size]))
            sound = sound[size:]
        return ToyState(state.start, state.heard + len(audio), tuple(digests), sound)

    def _memory(self, state: ToyState) -> ToyMemory:
        """Return what texts read; an unfinished stretch counts, but is not remembered."""
        rest = (_chain(state.digests, state.rest),) if state.rest else ()
        return ToyMemory((*state.digests, *rest), (state.heard - state.start) // 320)

    def _check(self, forward: Forward, cache: ToyCache) -> None:
        if not cache.open:
            raise RuntimeError("this slot was given back and is no longer yours")
        if not 1 <= forward.rows <= len(forward.tokens) or len(forward.draft) != forward.rows - 1:
            raise ValueError(f"{forward.rows} rows of {len(forward.tokens)} tokens, {len(forward.draft)} drafted")
        if forward.draft != forward.tokens[len(forward.tokens) - len(forward.draft) :]:
            raise ValueError("the draft is not the end of the tokens")
        if cache.length + len(forward.tokens) > self.max_tokens:
            raise ValueError(f"{cache.length} + {len(forward.tokens)} positions: the toy has {self.max_tokens}")

    def _choose(self, forward: Forward, cache: ToyCache) -> Choices:
        tokens, logprobs, ranks, draft_logprobs = [], [], [], []
        candidates: list[Candidates] = []
        for row in range(forward.rows):
            seen = cache.length - forward.rows + row + 1
            logits = self._logits(cache.memory, tuple(cache.row[:seen].tolist()))
            if forward.width:
                candidates.append(_candidates(logits, forward.width))
            total = np.log(np.exp(logits).sum())
            best = int(np.argmax(logits))
            tokens.append(best)
            logprobs.append(float(logits[best] - total))
            if row < len(forward.draft):
                ranks.append(_rank(logits, forward.draft[row]))
                draft_logprobs.append(float(logits[forward.draft[row]] - total))
        positions = range(cache.length - len(forward.tokens), cache.length)
        # The text's first token, at position 2, is written at position 1: it listens to the first digest.
        frames = tuple(max(0, min(position - 1, len(cache.memory.digests) - 1)) for position in positions)
        return Choices(tuple(tokens), tuple(logprobs), tuple(ranks), tuple(candidates), tuple(draft_logprobs), frames)

    def _guess(self, proposal: Propose, cache: ToyCache) -> Guess:
        if not proposal.tokens or proposal.count < 1:
            raise ValueError(f"{proposal.count} guesses after {len(proposal.tokens)} tokens: give 1 or more of both")
        seen = (*cache.row[: cache.length].tolist(), *proposal.tokens)
        guesses: list[int] = []
        logprobs: list[float] = []
        while len(guesses) < proposal.count and EOT not in guesses and math.exp(sum(logprobs)) >= proposal.floor:
            logits = self._logits(cache.memory, (*seen, *guesses))
            order = np.argsort(-logits, kind="stable")
            luck = self._random(
                b"speculator", cache.memory.digests[-1] if cache.memory.digests else b"", (*seen, *guesses)
            )
            right = luck.random() < self.config.agreement
            guesses.append(int(order[0] if right else order[1 + luck.integers(min(3, self.config.words))]))
            logprobs.append(float(logits[guesses[-1]] - np.log(np.exp(logits).sum())))
        return Guess(tuple(guesses), tuple(logprobs), self._alternatives(cache, seen, guesses[0], proposal.width))

    def _alternatives(self, cache: ToyCache, seen: Tokens, guess: int, width: int) -> Candidates:
        """Return what the speculator holds likely: what the model does, but for its guess and the best one's places."""
        candidates = _candidates(self._logits(cache.memory, seen), self.size)
        tokens = [token for token, _ in candidates]
        place = tokens.index(guess)
        tokens[0], tokens[place] = tokens[place], tokens[0]
        return tuple(zip(tokens, (logprob for _, logprob in candidates), strict=True))[:width]

    def _logits(self, memory: ToyMemory, seen: Tokens) -> NDArray[np.float64]:
        """Return ``(V,)`` logits after ``seen``, the special tokens masked but for end-of-text."""
        position = max(0, len(seen) - 2)
        over = position >= len(memory.digests)
        order = self.config.order
        context = seen if order is None else (*seen[:2], *seen[2:][-order:])
        heard = b"" if over else memory.digests[position if order is None else 0]
        logits = 2 * self._random(b"model", heard, context).standard_normal(self.size)
        logits[SOT : self.first_word] = -math.inf
        logits[EOT] += 30.0 if over else -5.0
        return logits

    def _random(self, salt: bytes, heard: bytes, seen: Tokens) -> np.random.Generator:
        digest = blake2b(salt + heard, digest_size=8, key=self.config.seed.to_bytes(8, "little"))
        digest.update(np.array(seen, "<i4").tobytes())
        return np.random.default_rng(int.from_bytes(digest.digest(), "little"))


def toy_audio(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Return noise ``(samples,)``; a longer one of the same seed begins with the shorter one."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE))
    return noise.astype(np.float32)


def _chain(digests: Sequence[bytes], sound: bytes) -> bytes:
    return blake2b(b"".join(digests[-1:]) + sound, digest_size=8).digest()


def _rank(logits: NDArray[np.float64], token: int) -> int:
    """Count the tokens preferred to ``token``; between equals the lower one is preferred."""
    return int((logits > logits[token]).sum() + (logits[:token] == logits[token]).sum())


def _candidates(logits: NDArray[np.float64], width: int) -> Candidates:
    """Return the best tokens that aren't masked; between equals the lower one is preferred."""
    logprobs = logits - np.log(np.exp(logits).sum())
    order = np.argsort(-logits, kind="stable")[:width]
    return tuple((int(token), float(logprobs[token])) for token in order if logits[token] > -math.inf)


def _toy(cache: DecoderCache) -> ToyCache:
    assert isinstance(cache, ToyCache), f"a toy reads toy caches only, not {type(cache).__name__}"
    return cache
