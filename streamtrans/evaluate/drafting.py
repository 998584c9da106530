"""What drafts save: the same utterances decoded in several ways, in one run and in turn.

One text at a time, so a figure is the cost of one stream; every way reads the same encoded audio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamtrans.audio import Samples
from streamtrans.core import SAMPLE_RATE, BadConfig, DecodeStats, Hypothesis, Tokens, samples
from streamtrans.corpus import Utterance, normalise
from streamtrans.decode import DraftContext, converse, decode, parse_drafters
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.dev import acceptance, ratio
from streamtrans.metrics import bleu
from streamtrans.stream import Speller

if TYPE_CHECKING:
    from streamtrans.model.api import Memory, SpeechModel


@dataclass(frozen=True, slots=True)
class Way:
    """One way of decoding, as the ``--drafter`` and ``--top-k`` options spell it."""

    drafter: str
    top_k: float = 1

    @property
    def name(self) -> str:
        """A name for tables."""
        return self.drafter if self.top_k == 1 else f"{self.drafter} k={self.top_k:g}"


WAYS = (
    Way("none"),
    Way("ngram"),
    Way("kvspn"),
    Way("kvspn", 2),
    Way("kvspn", 3),
    Way("kvspn", float("inf")),
)
"""What is compared by default; only the first three always write the same."""


@dataclass(slots=True)
class Tally:
    """What one way has cost so far. ``cpu_s`` is this thread's processor time."""

    stats: DecodeStats = field(default_factory=DecodeStats)
    wall_s: float = 0.0
    cpu_s: float = 0.0
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
        }


def compare_drafters(
    model: SpeechModel,
    speller: Speller,
    utterances: Sequence[Utterance],
    targets: Sequence[str],
    ways: Sequence[Way] = WAYS,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Decode every utterance in every target language and way; return figures per way.

    ``equal`` is the share of texts that are the first way's, ``bleu`` the score over all directions together
    with the first target's tokenizer.

    Raises:
        BadConfig: nothing to decode, or a way needs a speculative network that the model lacks.
    """
    _check(model, ways, utterances)
    bench = _Bench(model)
    tallies = [Tally() for _ in ways]
    bench.decode(model.encode([utterances[0].audio])[0], utterances[0], targets[0], ways[0])  # warms up
    for number, utterance in enumerate(utterances, 1):
        memory = model.encode([utterance.audio])[0]
        for target in targets:
            for way, tally in zip(ways, tallies, strict=True):
                found = bench.decode(memory, utterance, target, way, tally)
                tally.texts.append((target, normalise(utterance.texts[target], target), found.tokens))
        if progress is not None:
            progress(number, len(utterances))
    return {
        way.name: {**tally.figures(), **_quality(tally, tallies[0], speller, targets[0])}
        for way, tally in zip(ways, tallies, strict=True)
    }


def compare_rereading(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    targets: Sequence[str],
    ways: Sequence[Way] = (Way("none"), Way("echo"), Way("echo,kvspn")),
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
    _check(model, ways, utterances)
    bench = _Bench(model)
    tallies = [Tally() for _ in ways]
    readings = 0
    for number, utterance in enumerate(utterances, 1):
        previous: dict[tuple[int, str], Tokens] = {}
        for grown in _growing(utterance.audio, samples(step_ms)):
            memory = model.encode([grown])[0]
            readings += len(targets)
            for target in targets:
                for index, (way, tally) in enumerate(zip(ways, tallies, strict=True)):
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
    """One slot, used by one conversation after the other."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._slots = model.allocate(1)
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
        prompt = model.prompt(target, utterance.language)
        heard = len(utterance.audio) if heard is None else heard
        context = DraftContext(len(prompt), model.eot, draft, way.top_k)
        drafter = parse_drafters(way.drafter).make(context)
        cache = self._slots.open(memory)
        limit = self._limits.limit(model.max_tokens, prompt, heard)
        wall, cpu = time.perf_counter(), time.thread_time()
        found = converse(model, decode(prompt, (), cache, drafter, eot=model.eot, limit=limit))
        if tally is not None:
            tally.wall_s += time.perf_counter() - wall
            tally.cpu_s += time.thread_time() - cpu
            tally.stats += found.stats
        self._slots.release(cache)
        return found


def _growing(audio: Samples, step: int) -> list[Samples]:
    """Return the beginnings of ``audio`` at every multiple of ``step``, and the whole of it."""
    return [audio[:end] for end in (*range(step, len(audio), step), len(audio))]


def _quality(tally: Tally, first: Tally, speller: Speller, language: str) -> dict[str, float]:
    pairs = zip(tally.texts, first.texts, strict=True)
    hyps = [speller.decode(tokens).strip() for _, _, tokens in tally.texts]
    return {
        "equal": ratio(sum(mine == theirs for mine, theirs in pairs), len(hyps)),
        "bleu": bleu(hyps, [reference for _, reference, _ in tally.texts], language),
    }


def _check(model: SpeechModel, ways: Sequence[Way], utterances: Sequence[Utterance]) -> None:
    if not utterances or not ways or min(len(each.audio) for each in utterances) < SAMPLE_RATE // 10:
        raise BadConfig("a comparison needs a way to decode and utterances of 0.1 s or more")
    for way in ways:
        if parse_drafters(way.drafter).needs_speculator and not model.has_speculator:
            raise BadConfig(f"drafter {way.drafter!r} needs a speculative network, and {model.name} has none")
