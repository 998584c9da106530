"""How long a viewer waits for words that stay: settled words, commit lags, and the lags of the literature.

Law: a word counts when it last changed, never when it was first guessed. On the virtual clock, where an event
comes with the audio that caused it, the numbers leave computing time out (computation-unaware); given wall-clock
times the same functions give the computation-aware ones.

The lags of the literature are computed by OmniSTEval, which belongs to the ``eval`` extra and is imported when a
score is asked for.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from streamtrans.core import SAMPLE_RATE, BadConfig, Caption, needs
from streamtrans.metrics.captions import Timed, moved, shared, units
from streamtrans.metrics.segments import cut_like, soft_pairs
from streamtrans.text import joins_without_spaces

_PER_MS = SAMPLE_RATE / 1000


@dataclass(frozen=True, slots=True)
class TimedWord:
    """One unit of a final text (a word; a character in languages written without spaces).

    ``at_ms`` is when it settled: since then it and everything before it in its segment stayed as it is.
    """

    text: str
    at_ms: float
    segment: int


@dataclass(frozen=True, slots=True)
class ReferenceSegment:
    """One sentence of the reference: when its audio starts, how long it takes, and its translation."""

    start_ms: float
    duration_ms: float
    text: str


@dataclass(frozen=True, slots=True)
class LatencyScores:
    """Mean lags over the sentences of one or several talks, in ms; ``None`` where nothing could be measured.

    ``sentences`` counts the references that got words; ``empty`` those that have words and got none: they have
    no lag, and the means leave them out. ``problems`` says what else was left out, and why.
    """

    al_ms: float | None = None
    laal_ms: float | None = None
    dal_ms: float | None = None
    stream_laal_ms: float | None = None
    long_yaal_ms: float | None = None
    sentences: int = 0
    empty: int = 0
    problems: tuple[str, ...] = ()


def settled(timed: Iterable[Timed]) -> tuple[TimedWord, ...]:
    """Return the units of every segment's last text, in order, each with the time when it last changed.

    A unit settles with the first caption from which on the text up to it is as in the end (Arivazhagan et al.
    2020, arXiv 2004.03643). White space, line ends included, only separates. A unit that moved along when its
    segment was divided (:func:`streamtrans.metrics.moved`) was shown before that already.

    Args:
        timed: the captions of one talk in one language as they came; other events are passed over. Given
            samples of the stream the times are computation-unaware, given wall-clock samples they are
            computation-aware.

    Raises:
        BadConfig: the captions are of several languages.
    """
    shown: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
    captions = list(_captions(timed))
    for at, caption in captions:
        shown.setdefault(caption.segment, []).append((at, units(caption.text, caption.language)))
    for divided, following in moved(caption for _, caption in captions):
        said = units(divided.text, divided.language)
        before = shown[divided.segment][:-1]  # the final caption has lost what moves
        earlier = [(at, text[len(said) :] if text[: len(said)] == said else ()) for at, text in before]
        shown[following.segment] = [*earlier, *shown[following.segment]]
    return tuple(
        TimedWord(unit, at / _PER_MS, segment)
        for segment in sorted(shown)
        for unit, at in zip(shown[segment][-1][1], _settled_at(shown[segment]), strict=True)
    )


def commit_lag_ms(timed: Iterable[Timed]) -> tuple[float, ...]:
    """Return per unit of the final texts the time from the end of its audio to its commitment.

    Which audio a unit translates is not known without an alignment, so the units of a segment are taken to
    be spread evenly over it: of ``n`` units in ``[start, end)``, unit ``i`` (from 0) ends at
    ``start + (end - start) (i + 1) / n``. A single lag may be negative, where a unit was committed ahead of
    its share; means and percentiles are what counts. Segments without a final caption are left out, for their
    end is unknown.

    Args:
        timed: as for :func:`settled`.

    Raises:
        BadConfig: the captions are of several languages.
    """
    kept: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
    finals: dict[int, Caption] = {}
    for at, caption in _captions(timed):
        kept.setdefault(caption.segment, []).append((at, units(caption.committed, caption.language)))
        if caption.final:
            finals[caption.segment] = caption
    lags: list[float] = []
    for segment, final in sorted(finals.items()):
        times = _settled_at(kept[segment])
        step = (final.end - final.start) / max(1, len(times))
        lags += [(at - final.start - step * number) / _PER_MS for number, at in enumerate(times, 1)]
    return tuple(lags)


def latency(words: Sequence[TimedWord], references: Sequence[ReferenceSegment], language: str) -> LatencyScores:
    """Score one talk, as :func:`corpus_latency` does several."""
    return corpus_latency([(words, references)], language)


def corpus_latency(
    talks: Sequence[tuple[Sequence[TimedWord], Sequence[ReferenceSegment]]], language: str
) -> LatencyScores:
    """Return the mean lags over all sentences of ``talks``; none of them fails, ``problems`` tells.

    The words of a talk are dealt out to the sentences of its reference, and each sentence's lag is counted from
    the start of its audio. The formulas are OmniSTEval's throughout; two ways of dealing out are in use:

    - Average Lagging (Ma et al. 2019, arXiv 1810.08398), its length-adaptive form (Papi et al. 2022, arXiv
      2206.05807), Differentiable Average Lagging (Cherry and Foster 2019, arXiv 1906.00048) and LongYAAL (Polák
      et al. 2025, arXiv 2509.17349) deal out as OmniSTEval does, by SoftSegmenter; its Moses tokenizer, which
      is a Perl program, stays out. LongYAAL passes over words that settle at or after the end of the last
      reference.
    - StreamLAAL (Papi et al. 2024, https://aclanthology.org/2024.acl-long.202) is the length-adaptive average
      lagging over stretches with the fewest word errors, :func:`~streamtrans.metrics.segments.cut_like`, for
      OmniSTEval has no such segmenter.

    Args:
        talks: per talk the settled words, and the sentences of its reference in order.
        language: of both; decides what a unit is.

    Raises:
        BadConfig: OmniSTEval is missing.
    """
    omnisteval = _package("omnisteval")
    soft: list[Any] = []
    cut: list[Any] = []
    problems: list[str] = []
    for number, (words, references) in enumerate(talks, 1):
        usable = [line for line in references if line.duration_ms > 0 and units(line.text, language)]
        if len(usable) < len(references):
            left = len(references) - len(usable)
            problems.append(f"talk {number}: {left} of {len(references)} references have no words or no audio")
        if not usable:
            problems.append(f"talk {number}: no reference to measure {len(words)} words against")
            continue
        if not words:
            problems.append(f"talk {number}: no words for {len(usable)} references")
        texts = [units(line.text, language) for line in usable]
        stretches = cut_like([word.text for word in words], texts)
        soft += _instances(omnisteval, usable, _soft_segments(words, texts, language), language)
        cut += _instances(omnisteval, usable, [[words[at] for at in stretch] for stretch in stretches], language)
    if not talks:
        problems.append("there are no talks")
    return _scores(soft, cut, problems)


def _captions(timed: Iterable[Timed]) -> list[tuple[int, Caption]]:
    captions = [(at, event) for at, event in timed if isinstance(event, Caption)]
    languages = sorted({caption.language for _, caption in captions})
    if len(languages) > 1:
        raise BadConfig(f"captions in {' and '.join(languages)}: words are timed for one language at a time")
    return captions


def _settled_at(shown: Sequence[tuple[int, tuple[str, ...]]]) -> list[int]:
    """Return when each unit of the last text settled, given all texts and their times."""
    final, times, stays = shown[-1][1], [0] * len(shown[-1][1]), len(shown[-1][1])
    for at, text in reversed(shown):
        stays = min(stays, shared(text, final))
        times[:stays] = [at] * stays
    return times


def _soft_segments(words: Sequence[TimedWord], texts: Sequence[Sequence[str]], language: str) -> list[list[TimedWord]]:
    """Deal out ``words`` as OmniSTEval does, but without its process pool and with a faster table."""
    alignment, tokenization = _package("omnisteval.alignment"), _package("omnisteval.tokenization")
    char_level = joins_without_spaces(language)
    given = [alignment.Word(unit, seq_id=index) for index, text in enumerate(texts) for unit in text]
    # the time goes with a word unread, so it can say which word it is
    heard = [alignment.Word(word.text, emission_cu=index) for index, word in enumerate(words)]
    [given, heard] = tokenization.tokenize_words([given, heard], None)

    def likeness(reference: str, hypothesis: str) -> float:
        return float(alignment.similarity(alignment.Word(reference), alignment.Word(hypothesis), char_level))

    pairs = soft_pairs([word.text for word in given], [word.text for word in heard], likeness)
    sides = (
        [None if row is None else given[row] for row, _ in pairs],
        [None if column is None else heard[column] for _, column in pairs],
    )
    segmented: list[list[TimedWord]] = [[] for _ in texts]
    for word in alignment.process_alignment(*sides, char_level):
        segmented[word.seq_id].append(words[word.emission_cu])
    return segmented


def _instances(
    omnisteval: Any, references: Sequence[ReferenceSegment], segmented: Sequence[Sequence[TimedWord]], language: str
) -> list[Any]:
    """Return OmniSTEval's instance per sentence; times count from the sentence's start."""
    end = max(line.start_ms + line.duration_ms for line in references)
    joint, unit = ("", "char") if joins_without_spaces(language) else (" ", "word")
    return [
        omnisteval.Instance(
            index=index,
            prediction=joint.join(word.text for word in words),
            reference=joint.join(units(line.text, language)),
            latency_unit=unit,
            source_length=line.duration_ms,
            emission_cu=[word.at_ms - line.start_ms for word in words],
            time_to_recording_end=end - line.start_ms,
        )
        for index, (line, words) in enumerate(zip(references, segmented, strict=True))
    ]


def _scores(soft: Sequence[Any], cut: Sequence[Any], problems: Sequence[str]) -> LatencyScores:
    reached = sum(bool(instance.emission_cu) for instance in soft)
    scores = LatencyScores(sentences=reached, empty=len(soft) - reached, problems=tuple(problems))
    if not reached:
        return scores
    scoring = _package("omnisteval.scoring")
    return replace(
        scores,
        al_ms=_known(scoring.ALScorer()(soft)),
        laal_ms=_known(scoring.LAALScorer()(soft)),
        dal_ms=_known(scoring.DALScorer()(soft)),
        stream_laal_ms=_known(scoring.LAALScorer()(cut)),
        long_yaal_ms=_known(scoring.YAALScorer(is_longform=True)(soft)),
    )


def _known(score: float) -> float | None:
    return None if math.isnan(score) else float(score)


def _package(name: str) -> ModuleType | Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise BadConfig(needs("latency", "omnisteval", "eval")) from None
