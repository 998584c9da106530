"""One direction's figures: what streams said in a language, against references and against offline decoding.

Nothing here fails for a text that is empty: a figure that can't be had is ``None``, and ``problems`` says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamtrans.core import Caption, SpeechEnded, SpeechStarted, milliseconds
from streamtrans.evaluate.dev import acceptance, ratio
from streamtrans.evaluate.logs import Header, Log, Logged
from streamtrans.evaluate.manifest import Talk
from streamtrans.evaluate.together import Cost
from streamtrans.metrics import bleu, chrf, percentile, word_error_rate
from streamtrans.metrics.captions import Erased, Timed, count_erased, first_caption_after_ms, first_caption_ms, units
from streamtrans.metrics.latency import commit_lag_ms, corpus_latency, settled
from streamtrans.metrics.segments import cut_like
from streamtrans.text import joins_without_spaces

PAUSE_MS = 500
"""Silence after which speech starts anew: as long as closes a segment by default."""


@dataclass(frozen=True, slots=True)
class TalkRun:
    """What was said about one talk in one setting.

    ``timed`` holds all events and when each came, in samples: of the stream, or of the wall clock since it began.
    ``costs`` are per language, where whoever streamed could tell them apart. ``offline`` holds per language what the
    run's own segments say when they are read at once, in order. ``logged`` has the events with both clocks, where
    there was a wall clock.
    """

    talk: Talk
    targets: tuple[str, ...]
    timed: tuple[Timed, ...]
    samples: int
    costs: Mapping[str, Cost] = field(default_factory=dict)
    offline: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    logged: tuple[Logged, ...] = ()

    def captions(self, language: str) -> list[tuple[int, Caption]]:
        """Return the captions in ``language`` with their times."""
        return [(at, event) for at, event in self.timed if isinstance(event, Caption) and event.language == language]

    def text(self, language: str) -> str:
        """Return the final captions as one line."""
        finals = sorted((event for _, event in self.captions(language) if event.final), key=lambda each: each.segment)
        return one_line([final.text for final in finals], language)

    @property
    def segments(self) -> dict[int, tuple[int, int]]:
        """Segment → its samples ``[start, end)``, for the segments that came to their end."""
        starts = {event.segment: event.start for _, event in self.timed if isinstance(event, SpeechStarted)}
        ends = {event.segment: event.end for _, event in self.timed if isinstance(event, SpeechEnded)}
        return {segment: (start, ends[segment]) for segment, start in sorted(starts.items()) if segment in ends}

    @property
    def gains(self) -> dict[int, float]:
        """Segment → how many times as loud as it came the model heard it, for the same segments in the same order."""
        gains = {event.segment: event.gain for _, event in self.timed if isinstance(event, SpeechStarted)}
        return {segment: gains[segment] for segment in self.segments}


@dataclass(frozen=True, slots=True)
class Quality:
    """How near texts are to their references; ``None`` where there is nothing to compare."""

    bleu: float | None
    chrf: float | None
    talk_bleu: float | None
    talk_chrf: float | None
    error_rate: float | None


def score_direction(source: str, target: str, runs: Sequence[TalkRun]) -> dict[str, Any]:
    """Score everything that was said in ``target`` about talks in ``source``.

    ``bleu`` and ``chrf`` compare sentence by sentence, corpus level: a talk's text is dealt out to the reference's
    sentences with the fewest word errors; a talk without sentence times counts as one sentence. ``talk_bleu`` and
    ``talk_chrf`` compare whole talks. Transcripts (``target`` is ``source``) have ``wer`` or ``cer`` over whole talks
    besides. ``offline_…`` score the run's own segments decoded at once, without drafts and promises. Times are
    in milliseconds; ``first_caption_ms`` and ``commit_lag_ms`` are medians.
    """
    problems = [problem for run in runs for problem in (*run.talk.problems(target), *run.problems)]
    usable = [run for run in runs if run.talk.references.get(target, "").strip()]
    texts = [run.text(target) for run in usable]
    problems += [
        f"{run.talk.name}: nothing was written in {target}"
        for run, text in zip(usable, texts, strict=True)
        if not text.strip()
    ]
    quality = measure_quality(texts, [run.talk for run in usable], target)
    with_offline = [run for run in usable if target in run.offline]
    offline = measure_quality(
        [one_line(run.offline[target], target) for run in with_offline], [run.talk for run in with_offline], target
    )
    lost = None if offline.bleu is None or quality.bleu is None else offline.bleu - quality.bleu
    figures: dict[str, Any] = {
        "source": source,
        "target": target,
        **{name: _round(getattr(quality, name)) for name in ("bleu", "chrf", "talk_bleu", "talk_chrf")},
        "offline_bleu": _round(offline.bleu),
        "offline_chrf": _round(offline.chrf),
        "bleu_lost": _round(lost),
    }
    if source == target:
        rate = "cer" if joins_without_spaces(target) else "wer"
        figures |= {rate: _round(quality.error_rate, 4), f"offline_{rate}": _round(offline.error_rate, 4)}
    figures |= _calm(target, runs) | _waits(target, usable, problems) | _costs(target, runs)
    segments = [run.segments for run in runs]
    figures |= {
        "talks": len(usable),
        "segments": sum(map(len, segments)),
        "words": sum(len(units(text, target)) for text in texts),
        "reference_words": sum(len(units(run.talk.references[target], target)) for run in usable),
        "problems": list(dict.fromkeys(problems)),
    }
    return figures


def one_line(texts: Iterable[str], language: str) -> str:
    """Join texts of segments; line ends only separate sentences."""
    between = "" if joins_without_spaces(language) else " "
    return between.join(line.strip() for text in texts for line in text.split("\n") if line.strip())


def measure_quality(texts: Sequence[str], talks: Sequence[Talk], language: str) -> Quality:
    """Compare one text per talk with its references, sentence by sentence and as a whole."""
    hyps: list[str] = []
    refs: list[str] = []
    for text, talk in zip(texts, talks, strict=True):
        sentences = [segment.text for segment in talk.reference_segments(language)]
        for hyp, ref in zip(deal_out(text, sentences, language), sentences, strict=True):
            if ref.strip():
                hyps.append(hyp)
                refs.append(ref)
    whole = [talk.references[language] for talk in talks]
    return Quality(
        _if_any(lambda: bleu(hyps, refs, language), hyps),
        _if_any(lambda: chrf(hyps, refs), hyps),
        _if_any(lambda: bleu(texts, whole, language), texts),
        _if_any(lambda: chrf(texts, whole), texts),
        _if_any(lambda: word_error_rate(texts, whole, language), texts) if whole else None,
    )


def deal_out(text: str, sentences: Sequence[str], language: str) -> list[str]:
    """Cut ``text`` into a stretch per sentence of the reference: fewest word errors in total."""
    found = [*re.finditer(r"\S" if joins_without_spaces(language) else r"\S+", text)]
    cuts = cut_like([unit[0] for unit in found], [units(sentence, language) for sentence in sentences])
    return [text[found[cut.start].start() : found[cut.stop - 1].end()] if cut else "" for cut in cuts]


def _calm(target: str, runs: Sequence[TalkRun]) -> dict[str, Any]:
    erased = sum((count_erased(caption for _, caption in run.captions(target)) for run in runs), Erased())
    return {"normalized_erasure": _round(erased.normalised, 4)}


def _waits(target: str, runs: Sequence[TalkRun], problems: list[str]) -> dict[str, Any]:
    """Return every kind of delay."""
    timed = [run.captions(target) for run in runs]
    lags = corpus_latency(
        [(settled(each), run.talk.reference_segments(target)) for each, run in zip(timed, runs, strict=True)], target
    )
    if lags.empty:
        problems.append(f"{lags.empty} reference sentences in {target} got no words, and have no lag")
    problems += [f"latency in {target}: {problem}" for problem in lags.problems]
    firsts: list[int] = []
    after: list[int | None] = []
    for run in runs:
        mine = [
            (at, event)
            for at, event in run.timed
            if isinstance(event, SpeechStarted) or (isinstance(event, Caption) and event.language == target)
        ]
        firsts += first_caption_ms(mine)
        after += first_caption_after_ms(mine, speech_starts_ms(run.talk))
    commits = [lag for each in timed for lag in commit_lag_ms(each)]
    known = [delay for delay in after if delay is not None]
    return {
        "stream_laal_ms": _round(lags.stream_laal_ms, 1),
        "long_yaal_ms": _round(lags.long_yaal_ms, 1),
        "al_ms": _round(lags.al_ms, 1),
        "laal_ms": _round(lags.laal_ms, 1),
        "dal_ms": _round(lags.dal_ms, 1),
        "first_caption_ms": _percentile(firsts, 50),
        "first_caption_p95_ms": _percentile(firsts, 95),
        "first_caption_after_speech_ms": _percentile(known, 50),
        "first_caption_after_speech_p95_ms": _percentile(known, 95),
        "speech_starts_without_caption": len(after) - len(known),
        "commit_lag_ms": _percentile(commits, 50),
        "commit_lag_p95_ms": _percentile(commits, 95),
        "commit_lag_mean_ms": _round(sum(commits) / len(commits), 1) if commits else None,
    }


def speech_starts_ms(talk: Talk) -> list[float]:
    """Return when somebody starts to speak after a pause, where the talk's sentences say so."""
    starts: list[float] = []
    before = None
    for sentence in talk.sentences:
        if before is None or milliseconds(sentence.start - before) >= PAUSE_MS:
            starts.append(milliseconds(sentence.start))
        before = sentence.end
    return starts


def _costs(target: str, runs: Sequence[TalkRun]) -> dict[str, Any]:
    cost = sum((run.costs[target] for run in runs if target in run.costs), Cost())
    return cost_figures(cost)


def cost_figures(cost: Cost) -> dict[str, Any]:
    """Return what readings cost: passes, and how much of the drafts was kept."""
    decode = cost.decode
    return {
        "passes_per_partial": ratio(cost.partial_passes, cost.partials) if cost.partials else None,
        "passes_per_final": ratio(cost.final_passes, cost.finals) if cost.finals else None,
        "passes_per_token": ratio(decode.passes, decode.tokens) if decode.tokens else None,
        "acceptance": ratio(decode.accepted, decode.drafted) if decode.drafted else None,
        "acceptance_by_drafter": acceptance(decode),
        "partials": cost.partials,
        "decode": {"passes": decode.passes, "tokens": decode.tokens, "drafted": decode.drafted},
    }


def as_log(run: TalkRun, settings: Mapping[str, Any]) -> Log:
    """Return the run as a log can keep it."""
    header = Header(
        audio=run.talk.name + run.talk.audio.suffix,  # repeated talks have names of their own
        source=run.talk.language,
        targets=run.targets,
        samples=run.samples,
        row={"audio": run.talk.audio.name, "language": run.talk.language, **run.talk.references},
        references={target: run.talk.reference_segments(target) for target in run.targets},
        settings=settings,
    )
    totals = {target: cost_figures(cost) for target, cost in run.costs.items()}
    return Log(header, run.logged or tuple(Logged(at, event) for at, event in run.timed), totals, run.problems)


def _if_any(score: Callable[[], float], texts: Sequence[str]) -> float | None:
    return score() if texts else None


def _round(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(percentile(values, percent), 1) if values else None
