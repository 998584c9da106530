"""What the reading before is worth as a draft: the readings of live sessions, each decoded in several ways.

Sessions run on a virtual clock as they are served. Each job that they submit goes to one engine per way of drafting,
so that all decode the very same readings behind the same promises; in float64 the texts must be identical, in less
exact numbers the few are counted in which rounding decided. Of a translator the translations alone are counted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from streamtrans.audio import Samples
from streamtrans.bench.measurement import (
    TABLES,
    TO,
    Progress,
    Report,
    Table,
    counts,
    languages,
    share_of_drafts,
    silent,
)
from streamtrans.core import (
    SAMPLE_RATE,
    BadConfig,
    CaptionChoice,
    DecodeStats,
    Group,
    Hypothesis,
    Job,
    Mode,
    Option,
    Reading,
    Reply,
    Request,
    StateHandle,
    Target,
)
from streamtrans.corpus import Speaker
from streamtrans.corpus.talks import TalkConfig, speak_talk
from streamtrans.engine import Engine, EngineConfig
from streamtrans.evaluate.dev import ratio
from streamtrans.evaluate.manifest import read_talks
from streamtrans.evaluate.settings import Setting, parse_values
from streamtrans.evaluate.spoken import dev_rows
from streamtrans.evaluate.together import play_together
from streamtrans.foreign import Chosen
from streamtrans.runtime import Loaded, ModelChoice, identities, load
from streamtrans.stream import SessionConfig, Spellers
from streamtrans.vad import load_vad

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel, TextModel
    from streamtrans.vad import Vad

BUCKETS = {"0–4": range(5), "5–9": range(5, 10), "10–19": range(10, 20), "20+": range(20, 10_000)}
"""Label → tokens of a reading, promised ones included."""


@dataclass(frozen=True, slots=True)
class RereadingConfig:
    """What is compared.

    Raises:
        BadConfig: there is nothing to compare, or a number is out of range.
    """

    drafters: tuple[str, ...] = ("none", "echo", "echo,kvspn")
    """Ways of drafting; the first is what the others are measured by, the last is the sessions' own."""
    streams: tuple[int, ...] = (1, 8)
    """Sessions at once, one measurement each: their readings are asked for together."""

    def __post_init__(self) -> None:
        if len(set(self.drafters)) != len(self.drafters) or len(self.drafters) < 2:
            raise BadConfig(f"drafters are {', '.join(self.drafters)}: name two or more, each once")
        if not self.streams or min(self.streams) < 1:
            raise BadConfig(f"streams are {self.streams}: use 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rereading:
    """Decode every reading of live captions afresh, from the reading before, and with KVSPN besides.

    Sessions run on a virtual clock; all ways decode the same readings behind the same promises. The stability bias
    is 0, so all write the same.

        streamtrans bench rereading --talks 8 --seconds 120

        streamtrans bench rereading prompts.tsv --from en --to de,es --model openai/whisper-base --translator FOLDER
    """

    manifest: Annotated[
        Path | None, Option("Talks, as streamtrans talks makes them. By default some are made.", argument=True)
    ] = None
    text: Annotated[Path | None, TABLES] = None
    source: Annotated[
        tuple[str, ...],
        Option(
            "Languages that are spoken: of talks that are made in turn, of a manifest's these.",
            name="--from",
            read=languages,
        ),
    ] = ("en", "de", "es", "fr", "it", "zh")
    talks: Annotated[int, Option("Talks that are made.", least=1)] = 8
    seconds: Annotated[float, Option("Length of a talk that is made, in about.", least=5)] = 60.0
    to: Annotated[tuple[str, ...], TO] = ("de",)
    mode: Annotated[Mode, Option("Caption mode: live or stable.")] = "live"
    values: Annotated[
        tuple[str, ...],
        Option("A setting of the sessions, such as policy=hold, instead of the model's best.", name="--set"),
    ] = ()
    drafters: Annotated[
        str, Option("Ways of drafting, joined by semicolons; the first is what others are measured by.")
    ] = "none;echo;echo,kvspn"
    streams: Annotated[tuple[int, ...], Option("Sessions at once, one measurement each.", read=counts)] = (1, 8)
    choice: Annotated[ModelChoice, Group("model", "device", "dtype", "threads", "translator")] = field(
        default_factory=lambda: ModelChoice(threads=1)
    )

    def __post_init__(self) -> None:
        if self.mode not in ("live", "stable"):
            raise BadConfig(f"--mode is {self.mode!r}; use live or stable: final captions are read once")

    def measure(self, progress: Progress = silent) -> Report:
        """Hear the talks, and decode each reading in every way."""
        config = RereadingConfig(tuple(map(Chosen, self.drafters.split(";"))), self.streams)
        spoken = self._spoken()
        loaded = load(self.choice, slots=1)
        loaded.engine.close()  # each way of drafting gets its own
        chosen = [(self._session(loaded, code), audio) for code, audio in spoken]
        told, behind = partial(progress, "samples"), loaded.translator
        found = measure_rereading(loaded.model, loaded.spellers, chosen, config, translator=behind, progress=told)
        first = chosen[0][0]
        session = {name: getattr(first, name) for name in ("mode", "policy", "policy_n", "reading_interval_ms")}
        about = {
            "targets": first.targets,
            "session": session,
            "talks": len(chosen),
            "audio_s": round(sum(len(audio) for _, audio in chosen) / SAMPLE_RATE, 1),
        }
        tables = [table for case in found for table in rereading_tables(case)]
        return Report({**identities(self.choice), **about, "measurements": found}, tables)

    def _spoken(self) -> list[tuple[str, Samples]]:
        """Return (language, audio) of the manifest's talks, or of talks that are made."""
        if self.manifest is not None:
            return [(talk.language, talk.load()) for talk in read_talks(self.manifest) if talk.language in self.source]
        rows, speaker, made = dev_rows(self.text), Speaker(), []
        for number in range(self.talks):
            language, seed = self.source[number % len(self.source)], 1 + number // len(self.source)
            config = TalkConfig(seconds=self.seconds, seed=seed)
            made.append((language, speak_talk(f"{language}-{seed}", rows, language, config, speaker).audio))
        return made

    def _session(self, loaded: Loaded, source: str) -> SessionConfig:
        """Return the settings that the model does best with, or those that are asked for, without a bias."""
        if not self.values:
            return replace(loaded.session_config(self.to, source, captions=CaptionChoice(self.mode)), bias=0.0)
        setting = Setting("--set", {"mode": self.mode, **parse_values(self.values)})
        return setting.session(self.to, source, loaded.endpoints, loaded.settings.level_db)


@dataclass(slots=True)
class Tally:
    """What readings have cost one way of drafting; seconds are a reading's share of those asked for together."""

    readings: int = 0
    stats: DecodeStats = field(default_factory=DecodeStats)
    wall_s: float = 0.0
    decode_s: float = 0.0

    def add(self, stats: DecodeStats, wall_s: float, decode_s: float) -> None:
        """Count one reading."""
        self.readings += 1
        self.stats += stats
        self.wall_s += wall_s
        self.decode_s += decode_s

    def figures(self, first: Tally) -> dict[str, Any]:
        """Return costs per reading, and how many times less that is than the ``first`` way's."""
        by_drafter = self.stats.by_drafter.items()
        return {
            "readings": self.readings,
            "passes_per_reading": ratio(self.stats.passes, self.readings),
            "kept_per_reading": {name: ratio(kept, self.readings) for name, (_, kept) in by_drafter},
            "ms_per_reading": ratio(1000 * self.wall_s, self.readings),
            "decode_ms_per_reading": ratio(1000 * self.decode_s, self.readings),
            "drafted_per_reading": ratio(self.stats.drafted, self.readings),
            "acceptance": {name: ratio(kept, drafted) for name, (drafted, kept) in by_drafter},
            "fewer_passes": ratio(first.stats.passes, self.stats.passes),
            "faster_decoding": ratio(first.decode_s, self.decode_s),
        }


def measure_rereading(
    model: SpeechModel,
    speller: Spellers,
    recordings: Sequence[tuple[SessionConfig, Samples]],
    config: RereadingConfig | None = None,
    *,
    translator: TextModel | None = None,
    vads: Callable[[str], Vad] = load_vad,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Stream every recording, as many at once as each measurement says, and decode every reading in every way.

    Args:
        model: the weights.
        speller: their tokenizers.
        recordings: a session's settings and its audio ``(samples,)``, mono float32 at 16 kHz. The stability bias must
            be 0, or drafts decide what is written.
        config: what is compared.
        translator: stands behind the model, whose transcripts then aren't counted.
        vads: makes the detector of a name.
        progress: told while recordings are heard, those of all measurements together.

    Raises:
        BadConfig: there is nothing to hear, a session is biased, or the model lacks what a drafter needs.
    """
    config = config or RereadingConfig()
    if not recordings or any(session.bias for session, _ in recordings):
        raise BadConfig(
            f"rereading is measured on recordings (got {len(recordings)}) with a stability bias of 0 (got"
            f" {', '.join(f'{session.bias:g}' for session, _ in recordings)})"
        )
    total, heard = len(config.streams) * sum(len(audio) for _, audio in recordings), 0
    most = max(len(session.targets) for session, _ in recordings) + (translator is not None)  # what it translates

    def told(samples: int) -> None:
        nonlocal heard
        heard += samples
        if progress is not None:
            progress(heard, total)

    found = []
    for streams in config.streams:
        with ExitStack() as stack:
            engines = {
                drafter: stack.enter_context(
                    Engine(
                        model,
                        vads,
                        EngineConfig(streams * most, max_batch=streams * most, drafter=drafter, guard=False),
                        translator,
                    )
                )
                for drafter in config.drafters
            }
            bench = _Bench(model, engines, translated=translator is not None)
            for start in range(0, len(recordings), streams):
                play_together(recordings[start : start + streams], speller, bench.ask, heard=told)
            found.append({"streams": streams, **bench.figures()})
    return found


class _Bench:
    """One engine per way of drafting, asked the same in turn."""

    def __init__(self, model: SpeechModel, engines: dict[str, Engine], *, translated: bool) -> None:
        self._engines, self._only_translated = engines, translated
        *_, self._own = engines
        self._handles: dict[StateHandle, dict[str, StateHandle | None]] = {}
        self._tallies = {drafter: {label: Tally() for label in BUCKETS} for drafter in engines}
        self._order = random.Random(len(engines))
        self._rounds = self._jobs = self._different = self._failed = 0
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
        language = model.languages[0]
        for engine in self._engines.values():  # warms up
            wait([engine.submit(Job(0, 0, SAMPLE_RATE, False, noise, (Target(language),), language))])

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """Put all jobs to every engine, one engine after the other; return what the sessions' own one says."""
        own = self._engines[self._own]
        jobs = [request for request in requests if isinstance(request, Job)]
        detections = [own.submit(request) for request in requests if not isinstance(request, Job)]
        wait(detections)
        answers: dict[str, list[Reply]] = {}
        costs: dict[str, tuple[float, float]] = {}
        for drafter, engine in self._order.sample([*self._engines.items()], len(self._engines)) if jobs else ():
            decoding, started = engine.stats.decode_s, time.perf_counter()
            answers[drafter] = [engine.submit(self._translated(job, drafter)) for job in jobs]
            wait(answers[drafter])
            costs[drafter] = time.perf_counter() - started, engine.stats.decode_s - decoding
        if jobs:
            self._note_handles(answers)
            self._count(jobs, answers, costs)
        of_jobs, others = iter(answers.get(self._own, ())), iter(detections)
        return [next(of_jobs if isinstance(request, Job) else others) for request in requests]

    def _translated(self, job: Job, drafter: str) -> Job:
        """Return a job with the handles of another engine in the place of those of the sessions' own."""
        state, forget = (each and self._handles.get(each, {}).get(drafter) for each in (job.state, job.forget))
        return replace(job, state=state or job.state, forget=forget)

    def _note_handles(self, answers: dict[str, list[Reply]]) -> None:
        """Note under what handles the engines keep what each reading of the sessions' own engine left."""
        for column in zip(*answers.values(), strict=True):
            states = {drafter: _state(reply) for drafter, reply in zip(answers, column, strict=True)}
            if own := states[self._own]:
                self._handles[own] = states

    def figures(self) -> dict[str, Any]:
        """Return what each way has cost by length of the reading, and in all."""
        first = next(iter(self._tallies.values()))
        return {
            "readings_at_once": ratio(self._jobs, self._rounds),
            "different": self._different,
            "failed": self._failed,
            "drafters": {
                drafter: {
                    **{label: tally.figures(first[label]) for label, tally in tallies.items()},
                    "all": _sum(tallies).figures(_sum(first)),
                }
                for drafter, tallies in self._tallies.items()
            },
        }

    def _count(
        self, jobs: Sequence[Job], answers: dict[str, list[Reply]], costs: dict[str, tuple[float, float]]
    ) -> None:
        """Count the readings that all engines answered, each in the bucket of what the sessions see."""
        texts = {drafter: [_hypotheses(future) for future in futures] for drafter, futures in answers.items()}
        together = sum(map(len, texts[self._own]))
        self._rounds += 1
        self._jobs += len(texts[self._own])
        for job, *column in zip(jobs, *texts.values(), strict=True):
            if not all(column):
                self._failed += 1
                continue
            for target, *row in zip(job.targets, *column, strict=True):
                if self._only_translated and target.language == job.source:
                    continue
                hypotheses = dict(zip(texts, row, strict=True))
                own = hypotheses[self._own].tokens
                label = next(label for label, lengths in BUCKETS.items() if len(own) in lengths)
                self._different += any(each.tokens != own for each in row)
                for drafter, hypothesis in hypotheses.items():
                    shares = [seconds / together for seconds in costs[drafter]]
                    self._tallies[drafter][label].add(hypothesis.stats, *shares)


def _state(reply: Reply) -> StateHandle | None:
    reading = None if reply.exception() is not None else reply.result()
    return reading.state if isinstance(reading, Reading) else None


def _hypotheses(future: Reply) -> tuple[Hypothesis, ...]:
    """Return a reading's texts; none where it failed."""
    if future.exception() is not None:
        return ()
    reading = future.result()
    if not isinstance(reading, Reading):
        raise TypeError(f"a job is answered by a Reading, not by a {type(reading).__name__}")
    return reading.hypotheses


def _sum(tallies: dict[str, Tally]) -> Tally:
    whole = Tally()
    for tally in tallies.values():
        whole.readings += tally.readings
        whole.stats += tally.stats
        whole.wall_s += tally.wall_s
        whole.decode_s += tally.decode_s
    return whole


def rereading_tables(case: Mapping[str, Any]) -> list[Table]:
    """Lay one measurement out: passes, then times, a line per length of the reading, promised tokens included."""
    title = f"{case['streams']} at once, {case['readings_at_once']:.2g} readings together"
    drafters: Mapping[str, Mapping[str, Any]] = case["drafters"]
    first, *others = drafters
    columns = ["tokens", "readings", first]
    lines = [[label, cell["readings"], cell["passes_per_reading"]] for label, cell in drafters[first].items()]
    for drafter in others:
        columns += [drafter, "times fewer", "drafts kept"]
        for line, cell in zip(lines, drafters[drafter].values(), strict=True):
            line.extend([cell["passes_per_reading"], cell["fewer_passes"], share_of_drafts(cell["acceptance"])])
    passes = Table(f"passes per reading; {title}; {case['different']} texts differ", columns, lines)
    columns, lines = ["tokens"], [[label] for label in drafters[first]]
    for drafter, cells in drafters.items():
        columns += [drafter, "with hearing", *([] if drafter == first else ["times faster"])]
        for line, cell in zip(lines, cells.values(), strict=True):
            faster = [] if drafter == first else [cell["faster_decoding"]]
            line.extend([cell["decode_ms_per_reading"], cell["ms_per_reading"], *faster])
    return [passes, Table(f"ms per reading in the decoder, and with hearing; {title}", columns, lines)]
