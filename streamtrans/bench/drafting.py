"""What drafts save: the same utterances decoded in several ways, in one run and in turn.

One text at a time, so a figure is the cost of one stream; every way reads the same encoded audio.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, cast

from streamtrans.audio import Samples
from streamtrans.core import SAMPLE_RATE, BadConfig, DecodeStats, Hypothesis, Tokens, samples
from streamtrans.corpus import Utterance, normalise
from streamtrans.decode import DraftContext, converse, decode, parse_drafters
from streamtrans.decode.beam import BeamConfig, beam, converse_beam
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.dev import acceptance, ratio
from streamtrans.metrics import bleu
from streamtrans.stream import Speller

if TYPE_CHECKING:
    from streamtrans.model.api import Choices, Forward, Guess, Memory, Propose, SpeechModel


@dataclass(frozen=True, slots=True)
class Way:
    """One way of decoding: who drafts how many tokens, how strictly they are verified, how wide is searched."""

    drafter: str = "none"
    top_k: float = 1
    count: int | None = 1
    """Tokens that KVSPN guesses at a time; ``None`` adapts to what was accepted lately."""
    beams: int = 1
    model: str = ""
    """One of the models that are compared; empty takes the first."""

    @property
    def name(self) -> str:
        """A name for tables."""
        parts = [self.model, "" if self.drafter == "none" and self.model else self.drafter]
        if "kvspn" in self.drafter:
            parts.append({None: "adaptive", 1: ""}.get(self.count, f"{self.count} tokens"))
            parts.append("" if self.top_k == 1 else f"k={self.top_k:g}")
        parts.append("" if self.beams == 1 else f"beam {self.beams}")
        return " ".join(part for part in parts if part)

    @property
    def search(self) -> BeamConfig:
        """The search, where it is wider than one text; of the drafters KVSPN takes part in it."""
        speculate = parse_drafters(self.drafter).needs_speculator
        return BeamConfig(self.beams, speculate=speculate and self.beams > 1, top_k=self.top_k)


@dataclass(slots=True)
class Spent:
    """Processor time of this thread for calls of one kind."""

    cpu_s: float = 0.0
    calls: int = 0

    @property
    def ms(self) -> float:
        """Return the mean; 0 where there was none."""
        return ratio(1000 * self.cpu_s, self.calls)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add what one call takes."""
        began = time.thread_time()
        yield
        self.cpu_s += time.thread_time() - began
        self.calls += 1


@dataclass(slots=True)
class Tally:
    """What one way has cost so far. ``cpu_s`` is this thread's processor time, of passes and guesses apart as well."""

    stats: DecodeStats = field(default_factory=DecodeStats)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    passes: Spent = field(default_factory=Spent)
    guesses: Spent = field(default_factory=Spent)
    paces: list[float] = field(default_factory=list)  # seconds per token, utterance by utterance
    texts: list[tuple[str, str, Tokens]] = field(default_factory=list)  # target, reference, tokens

    def figures(self) -> dict[str, Any]:
        """Return costs per token, end-of-text counted as one."""
        tokens = self.stats.tokens
        return {
            "tokens": tokens,
            "passes_per_token": ratio(self.stats.passes, tokens),
            "acceptance": acceptance(self.stats),
            "ms_per_token": ratio(1000 * self.wall_s, tokens),
            "cpu_ms_per_token": ratio(1000 * self.cpu_s, tokens),
            "cpu_ms_per_pass": self.passes.ms,
            "cpu_ms_per_guess": self.guesses.ms,
        }

    def end_utterance(self, before: tuple[float, int]) -> None:
        """Note the pace of an utterance, given the seconds and the tokens ``before`` it."""
        self.paces.append((self.wall_s - before[0]) / max(1, self.stats.tokens - before[1]))


def compare_drafters(
    models: Mapping[str, SpeechModel],
    speller: Speller,
    utterances: Sequence[Utterance],
    targets: Sequence[str],
    ways: Sequence[Way],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Decode every utterance in every target language and way, one text at a time; return figures per way.

    ``speed`` is the median over utterances of how many times faster per token a way is than the first; the ways of
    a text are timed one after the other, in an order drawn anew for each. Speech longer than the models hold is cut,
    and ``cut`` counts it; ``equal`` is the share of texts that are the first way's; ``bleu`` the mean over target
    languages of the score over all spoken ones.

    Args:
        models: the models that ways name; all of one tokenizer.
        speller: that tokenizer.
        utterances: speech with its texts.
        targets: languages to write.
        ways: what is compared; the first is what the others are measured by.
        progress: told after every utterance.

    Raises:
        BadConfig: nothing to decode, or a way needs a model, or a speculative network, that isn't there.
    """
    _check(models, ways, utterances)
    benches = {name: _Bench(model, max(way.search.caches for way in ways)) for name, model in models.items()}
    first, order = next(iter(models)), random.Random(len(utterances))
    tallies = [Tally() for _ in ways]
    longest = min(model.max_samples for model in models.values())
    for number, utterance in enumerate(utterances):
        audio = utterance.audio[:longest]
        memories = {name: model.encode([audio])[0] for name, model in models.items()}
        if number == 0:  # warms up
            for way in ways:
                benches[way.model or first].decode(memories[way.model or first], utterance, targets[0], way)
        before = [(tally.wall_s, tally.stats.tokens) for tally in tallies]
        for target in targets:
            for way, tally in order.sample([*zip(ways, tallies, strict=True)], len(ways)):
                name = way.model or first
                found = benches[name].decode(memories[name], utterance, target, way, tally, heard=len(audio))
                tally.texts.append((target, normalise(utterance.texts[target], target), found.tokens))
        for tally, start in zip(tallies, before, strict=True):
            tally.end_utterance(start)
        if progress is not None:
            progress(number + 1, len(utterances))
    cut = sum(len(utterance.audio) > longest for utterance in utterances)
    return {
        way.name: {
            **tally.figures(),
            "speed": speed(tallies[0], tally),
            **_quality(tally, tallies[0], speller),
            "cut": cut,
        }
        for way, tally in zip(ways, tallies, strict=True)
    }


def compare_rereading(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    targets: Sequence[str],
    ways: Sequence[Way] = (Way("none"), Way("echo"), Way("echo,kvspn", count=None)),
    *,
    step_ms: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Read every utterance anew each time it has grown by ``step_ms``, the last reading being the draft.

    No promise is made in between, so with k = 1 every way reads the same. ``passes_per_reading`` and
    ``ms_per_reading`` leave encoding out: it costs the same in every way.

    Raises:
        BadConfig: nothing to decode, or a way needs a speculative network that the model lacks.
    """
    _check({"": model}, ways, utterances)
    bench, order = _Bench(model), random.Random(len(utterances))
    tallies = [Tally() for _ in ways]
    readings = 0
    warm = model.encode([utterances[0].audio[: model.max_samples]])[0]
    for way in ways:
        bench.decode(warm, utterances[0], targets[0], way)
    for number, utterance in enumerate(utterances, 1):
        previous: dict[tuple[int, str], Tokens] = {}
        for grown in _growing(utterance.audio[: model.max_samples], samples(step_ms)):
            memory = model.encode([grown])[0]
            readings += len(targets)
            for target in targets:
                for index, (way, tally) in order.sample([*enumerate(zip(ways, tallies, strict=True))], len(ways)):
                    draft = previous.get((index, target), ())
                    found = bench.decode(memory, utterance, target, way, tally, draft=draft, heard=len(grown))
                    previous[index, target] = found.tokens
        if progress is not None:
            progress(number, len(utterances))
    return {
        way.name: {
            **tally.figures(),
            "readings": readings,
            "passes_per_reading": ratio(tally.stats.passes, readings),
            "ms_per_reading": ratio(1000 * tally.wall_s, readings),
        }
        for way, tally in zip(ways, tallies, strict=True)
    }


class _Bench:
    """The slots of one conversation or search, used by one after the other."""

    def __init__(self, model: SpeechModel, slots: int = 1) -> None:
        self._model = model
        self._slots = model.allocate(slots)
        self._limits = EngineConfig()

    def decode(
        self,
        memory: Memory,
        utterance: Utterance,
        target: str,
        way: Way,
        tally: Tally | None = None,
        *,
        draft: Tokens = (),
        heard: int | None = None,
    ) -> Hypothesis:
        """Write one text, and add what it cost to ``tally``."""
        model = self._model
        # A model that hears more than it writes is not told what it hears.
        prompt = model.prompt(target, utterance.language if utterance.language in model.languages else None)
        heard = len(utterance.audio) if heard is None else heard
        context = DraftContext(len(prompt), model.eot, draft, way.top_k, way.count, model.draft_acceptance)
        drafter = parse_drafters(way.drafter).make(context)
        caches = [self._slots.open(memory) for _ in range(way.search.caches)]
        limit = self._limits.limit(model.max_tokens, prompt, heard, model.tokens_per_second(target))
        wall, cpu = time.perf_counter(), time.thread_time()
        if way.beams > 1:
            search = beam(prompt, (), caches, way.search, eot=model.eot, limit=limit)
            found = converse_beam(model, search)[0].hypothesis
        else:
            talk = decode(prompt, (), caches[0], drafter, eot=model.eot, limit=limit)
            found = converse(cast("SpeechModel", _Timed(model, tally or Tally())), talk)
        if tally is not None:
            tally.wall_s += time.perf_counter() - wall
            tally.cpu_s += time.thread_time() - cpu
            tally.stats += found.stats
        for cache in caches:
            self._slots.release(cache)
        return found


class _Timed:
    """A model whose passes and guesses are timed, one conversation's at a time."""

    def __init__(self, model: SpeechModel, tally: Tally) -> None:
        self.model, self.tally = model, tally

    def step(self, forwards: Sequence[Forward]) -> list[Choices]:
        """Pass, and time it."""
        with self.tally.passes.timed():
            return self.model.step(forwards)

    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Guess, and time it."""
        with self.tally.guesses.timed():
            return self.model.propose(proposals)


def _growing(audio: Samples, step: int) -> list[Samples]:
    """Return the beginnings of ``audio`` at every multiple of ``step``, and the whole of it."""
    return [audio[:end] for end in (*range(step, len(audio), step), len(audio))]


def speed(first: Tally, other: Tally) -> float:
    """Return how many times faster than the first way the other is: the median over utterances."""
    return round(median(mine / theirs for mine, theirs in zip(first.paces, other.paces, strict=True)), 3)


def _quality(tally: Tally, first: Tally, speller: Speller) -> dict[str, float]:
    pairs = zip(tally.texts, first.texts, strict=True)
    by_target: dict[str, tuple[list[str], list[str]]] = {}
    for target, reference, tokens in tally.texts:
        hyps, refs = by_target.setdefault(target, ([], []))
        hyps.append(normalise(speller.decode(tokens), target))
        refs.append(reference)
    return {
        "equal": ratio(sum(mine == theirs for mine, theirs in pairs), len(tally.texts)),
        "bleu": round(fmean(bleu(hyps, refs, target) for target, (hyps, refs) in by_target.items()), 2),
    }


def _check(models: Mapping[str, SpeechModel], ways: Sequence[Way], utterances: Sequence[Utterance]) -> None:
    if not utterances or not ways or min(len(each.audio) for each in utterances) < SAMPLE_RATE // 10:
        raise BadConfig("a comparison needs a way to decode and utterances of 0.1 s or more")
    for way in ways:
        if way.model and way.model not in models:
            raise BadConfig(f"a way of decoding names the model {way.model!r}; there are {', '.join(models)}")
        model = models[way.model] if way.model else next(iter(models.values()))
        if parse_drafters(way.drafter).needs_speculator and not model.has_speculator:
            raise BadConfig(f"drafter {way.drafter!r} needs a speculative network, and {model.name} has none")
