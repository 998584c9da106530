"""How well detectors and the segmenter find speech whose bounds are known.

What is compared is speech: a segment's beginning without its pre-roll, and its end without its padding. Segments that
were cut for their length count as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from streamtrans.audio import Samples, read_audio
from streamtrans.bench.measurement import DETECTORS, NOISE, Progress, Report, Table, decibels, silent, use_threads
from streamtrans.bench.mixtures import Mixture, Span, cut, join, made_noise, read_bounds, spoil
from streamtrans.core import SAMPLE_RATE, Detection, Option, samples
from streamtrans.foreign import Chosen
from streamtrans.metrics import percentile
from streamtrans.segment import Closed, EndpointRules, Opened
from streamtrans.stream.listener import Listener
from streamtrans.vad import VADS, Vad, load_vad

TOLERANCE_MS = 200
"""How far a boundary may be from the truth."""

CHUNKS_MS: tuple[int | None, ...] = (1000, 20, 100, None)
"""Sizes of chunk that the same audio arrives in; ``None`` draws them."""

_DETECT_LIMIT_MS = 2_000


_SHOWN = ("within", "starts_within", "ends_within", "start_median_ms", "start_p95_ms", "end_median_ms", "end_p95_ms")
_COUNTED = ("missed", "false", "split", "merged", "lost_share", "alarm_share", "windows_lost", "windows_alarm")


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector and the segmenter made of a recording.

    ``segments``: as a session would read them. ``speech``: the same without pre-roll and padding, joined where only
    their length cut them. ``probabilities``: one per window of ``window`` samples.
    """

    segments: tuple[Span, ...]
    speech: tuple[Span, ...]
    probabilities: tuple[float, ...]
    window: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one recording was segmented. Errors are found minus true, in milliseconds, one per stretch that was found.

    ``truths`` and ``found`` count stretches and segments; ``missed`` stretches lie in no segment, ``false`` segments
    hold no speech, ``split`` counts what a stretch has more than one segment, ``merged`` gaps that no segment ends in.
    Samples: ``speech`` and ``silence`` are the truth's, ``lost`` of the first and ``alarm`` of the second are what
    the segments got wrong; ``windows_*`` the same of the detector's windows alone.
    """

    starts_ms: tuple[float, ...]
    ends_ms: tuple[float, ...]
    truths: int
    found: int
    missed: int
    false: int
    split: int
    merged: int
    speech: int
    silence: int
    lost: int
    alarm: int
    windows_lost: float
    windows_alarm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Find real speech whose bounds are known: joined with known gaps, clean and in noise, with every detector.

    Errors are found minus true; segments count without their pre-roll and padding. Each mixture arrives in chunks of
    four sizes, drawn ones among them, and must be cut alike.
    """

    speech: Annotated[Path, Option("Folder with the recordings that the table of stretches names.")]
    bounds: Annotated[Path, Option("Where speech is in them: file, start_ms, end_ms.")] = Path(
        "benchmarks/speech_bounds.tsv"
    )
    noise: Annotated[tuple[Path, ...], NOISE] = ()
    snr: Annotated[tuple[float, ...], Option("Speech over noise in dB, joined by commas.", read=decibels)] = (
        20.0,
        10.0,
        5.0,
    )
    orders: Annotated[int, Option("Mixtures, each in another order and with other gaps.", least=1)] = 3
    vads: Annotated[tuple[str, ...], DETECTORS] = tuple(VADS)

    def measure(self, progress: Progress = silent) -> Report:
        """Mix, and find speech with every detector."""
        use_threads(1)
        stretches = cut(self.speech, read_bounds(self.bounds))
        mixtures = self._mixtures(stretches)
        detectors = {name: load_vad(Chosen(name)) for name in self.vads}
        found: dict[str, Any] = {}
        for number, (name, vad) in enumerate(detectors.items()):
            progress("detectors", number, len(detectors))
            found |= measure({name: vad}, mixtures)
        minutes = sum(len(each.audio) for each in mixtures["clean"]) / SAMPLE_RATE / 60
        about = {"stretches": len(stretches), "minutes_per_condition": round(minutes, 1), "tolerance_ms": TOLERANCE_MS}
        tables = [
            Table(
                f"{name}: boundaries within ±{TOLERANCE_MS} ms, errors in ms",
                ["", *columns],
                [[condition, *(told[column] for column in columns)] for condition, told in table.items()],
            )
            for name, table in found.items()
            for columns in (_SHOWN, (*_COUNTED, "chunks_differ"))
        ]
        return Report({**about, "vads": found}, tables)

    def _mixtures(self, stretches: Sequence[Samples]) -> dict[str, list[Mixture]]:
        """Return condition → mixtures: clean, then every noise at every level."""
        recorded = {path.stem: read_audio(path) for path in self.noise}
        clean = [join(stretches, seed) for seed in range(self.orders)]
        mixtures = {"clean": clean}
        for kind in ("white", "pink", *recorded):
            for snr in self.snr:
                mixtures[f"{kind} {snr:g} dB"] = [
                    spoil(each, recorded[kind] if kind in recorded else made_noise(kind, len(each.audio), seed), snr)
                    for seed, each in enumerate(clean)
                ]
        return mixtures


def segment(
    vad: Vad, audio: Samples, rules: EndpointRules | None = None, *, chunk_ms: int | None = 1000, seed: int = 0
) -> Found:
    """Stream ``audio`` through the listener of a session.

    Args:
        vad: the detector.
        audio: ``(samples,)`` mono float32 at 16 kHz.
        rules: of the segmenter; by default those of a session.
        chunk_ms: how much arrives at a time; ``None`` draws up to 1.5 s each time.
        seed: of what is drawn.
    """
    rules = rules or EndpointRules()
    listener = Listener(rules, vad.window, "", _DETECT_LIMIT_MS)
    probabilities: list[float] = []
    boundaries: list[Opened | Closed] = []
    for chunk in _chunks(audio, chunk_ms, seed):
        if chunk is None:
            listener.end()
        else:
            listener.hear(chunk)
        while request := listener.detect():
            [(answer, state)] = vad.detect([(request.windows, request.state)])
            listener.detected(request, Detection(tuple(answer.tolist()), state))
            probabilities += answer.tolist()
        while (crossed := listener.step()) is not None:
            boundaries += crossed
        listener.forget(listener.position)
    return Found(*_spans(boundaries, rules, vad.window), tuple(probabilities), vad.window)


def compare(mixture: Mixture, found: Found, threshold: float = 0.5) -> Outcome:
    """Compare what was found with the truth; a window counts as speech from ``threshold`` on."""
    truth, speech = mixture.truth, found.speech
    starts: list[float] = []
    ends: list[float] = []
    split = 0
    for start, end in truth:
        hits = [span for span in speech if span[0] < end and span[1] > start]
        if hits:
            starts.append((hits[0][0] - start) * 1000 / SAMPLE_RATE)
            ends.append((hits[-1][1] - end) * 1000 / SAMPLE_RATE)
            split += len(hits) - 1
    spoken, heard = _mask(truth, len(mixture.audio)), _mask(speech, len(mixture.audio))
    middles = np.minimum((np.arange(len(found.probabilities)) + 0.5) * found.window, len(spoken) - 1).astype(int)
    said, likely = spoken[middles], np.array(found.probabilities) >= threshold
    return Outcome(
        starts_ms=tuple(starts),
        ends_ms=tuple(ends),
        truths=len(truth),
        found=len(speech),
        missed=len(truth) - len(starts),
        false=sum(not spoken[start:end].any() for start, end in speech),
        split=split,
        merged=sum(
            any(start < before[1] and after[0] < end for start, end in speech) for before, after in pairwise(truth)
        ),
        speech=int(spoken.sum()),
        silence=int((~spoken).sum()),
        lost=int((spoken & ~heard).sum()),
        alarm=int((~spoken & heard).sum()),
        windows_lost=float((said & ~likely).sum() / max(1, said.sum())),
        windows_alarm=float((~said & likely).sum() / max(1, (~said).sum())),
    )


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Sum up recordings of one kind.

    ``within`` is the share of all true boundaries that were found within ±200 ms; those of missed stretches were not.
    """
    starts = np.array([error for each in outcomes for error in each.starts_ms])
    ends = np.array([error for each in outcomes for error in each.ends_ms])
    truths = sum(each.truths for each in outcomes)
    near = [int((np.abs(errors) <= TOLERANCE_MS).sum()) for errors in (starts, ends)]
    minutes = sum(each.speech + each.silence for each in outcomes) / SAMPLE_RATE / 60
    alarm = sum(each.alarm for each in outcomes)
    return {
        "stretches": truths,
        "within": round(sum(near) / max(1, 2 * truths), 4),
        "starts_within": round(near[0] / max(1, truths), 4),
        "ends_within": round(near[1] / max(1, truths), 4),
        **_errors("start", starts),
        **_errors("end", ends),
        **{name: sum(getattr(each, name) for each in outcomes) for name in ("missed", "false", "split", "merged")},
        "lost_share": round(sum(each.lost for each in outcomes) / max(1, sum(each.speech for each in outcomes)), 4),
        "alarm_share": round(alarm / max(1, sum(each.silence for each in outcomes)), 4),
        "alarm_ms_per_minute": round(alarm * 1000 / SAMPLE_RATE / max(minutes, 1e-9)),
        "windows_lost": round(float(np.mean([each.windows_lost for each in outcomes])), 4),
        "windows_alarm": round(float(np.mean([each.windows_alarm for each in outcomes])), 4),
    }


def measure(
    vads: Mapping[str, Vad], mixtures: Mapping[str, Sequence[Mixture]], rules: EndpointRules | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Segment every mixture with every detector: detector → condition → figures.

    ``chunks_differ`` counts recordings whose segments depended on the size of the chunks: none should.
    """
    rules = rules or EndpointRules()
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, vad in vads.items():
        table[name] = {}
        for condition, recordings in mixtures.items():
            outcomes, differing = [], 0
            for recording in recordings:
                ways = [segment(vad, recording.audio, rules, chunk_ms=chunk) for chunk in CHUNKS_MS]
                differing += any(way.segments != ways[0].segments for way in ways)
                outcomes.append(compare(recording, ways[0], rules.threshold))
            table[name][condition] = {**figures(outcomes), "chunks_differ": differing}
    return table


def _chunks(audio: Samples, chunk_ms: int | None, seed: int) -> Iterator[Samples | None]:
    """Yield the audio in chunks, then ``None``."""
    rng = np.random.default_rng(seed)
    at = 0
    while at < len(audio):
        size = samples(chunk_ms) if chunk_ms is not None else int(rng.integers(1, samples(1500)))
        yield audio[at : at + size]
        at += size
    yield None


def _spans(
    boundaries: Sequence[Opened | Closed], rules: EndpointRules, window: int
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Return the segments, and the speech in them."""
    padding = -(-samples(rules.padding_ms) // window) * window
    segments: list[Span] = []
    speech: list[Span] = []
    start = onset = 0
    going_on = False
    for boundary in boundaries:
        if isinstance(boundary, Opened):
            start = boundary.start
            onset = onset if going_on else start + samples(rules.pre_roll_ms) * (start > 0)
            continue
        segments.append((start, boundary.end))
        going_on = boundary.reason in ("length", "sentence")
        if not going_on:
            # what was closed by order has no padding: it ends where the recording does
            end = boundary.end - padding if boundary.reason == "silence" else boundary.end
            speech.append((onset, max(onset + 1, end)))
    return tuple(segments), tuple(speech)


def _mask(spans: Sequence[Span], count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros(count, bool)
    for start, end in spans:
        mask[start:end] = True
    return mask


def _errors(name: str, errors: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float | None]:
    if not len(errors):
        return dict.fromkeys((f"{name}_median_ms", f"{name}_p95_ms", f"{name}_worst_ms"))
    worst = errors[np.argmax(np.abs(errors))]
    return {
        f"{name}_median_ms": round(float(np.median(errors))),
        f"{name}_p95_ms": round(percentile(np.abs(errors).tolist(), 95)),
        f"{name}_worst_ms": round(float(worst)),
    }
