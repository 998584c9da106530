"""Our engine beside faster-whisper, transformers, whisper.cpp and OpenVINO, on the same weights and real speech.

Each runs in a process of its own and is asked in turn, recording by recording: what else the machine does hits all of
them. Greedy, one try, the same detector's segments, the same threads. Offline the segments of a recording are read
joined as far as a window of Whisper goes; live each segment is read again every half second as it grows, as for
captions while people speak. Unpadded, stock Whisper hears what it wasn't trained on: look at its errors too. Loops are
left out of everybody's text, as captions leave them out, and counted; their time counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from streamtrans.audio import Samples
from streamtrans.bench.measurement import Progress, Report, Table, languages, names, silent, some_of
from streamtrans.bench.racing import BESIDE, ENTRANTS, WINDOW, Entrant
from streamtrans.bench.racing.convert import as_stock, converted, form
from streamtrans.bench.racing.loops import without_loops
from streamtrans.bench.racing.pace import paced
from streamtrans.bench.racing.running import Read, Running, started
from streamtrans.bench.segments import segment
from streamtrans.core import SAMPLE_RATE, BadConfig, Option
from streamtrans.corpus import normalise
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.dev import ratio
from streamtrans.evaluate.machine import describe_machine
from streamtrans.evaluate.manifest import Talk, read_talks
from streamtrans.evaluate.spoken import sample
from streamtrans.metrics import percentile, word_error_rate
from streamtrans.runtime import identity
from streamtrans.text import Tokenizer
from streamtrans.text.density import tokens_per_second
from streamtrans.vad import SileroVad


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Let programs read the same recordings with the same weights: speed, delay, errors and memory, side by side.

    The extra `race` brings the programs of others; who isn't installed is left out, and said. The weights are
    converted for each. Error rates want the extra `eval`.

        streamtrans bench race talks.tsv --weights whisper-base --from en
    """

    manifest: Annotated[Path, Option("Recordings and what is said in them, as evaluate reads them.", argument=True)]
    weights: Annotated[Path, Option("Folder of a stock Whisper in the Hugging Face layout, with one safetensors file.")]
    beside: Annotated[Path | None, Option("Folder of a model of ours that needn't pad, with weights of its own.")] = (
        None
    )
    source: Annotated[
        tuple[str, ...], Option("Spoken languages that take part. By default all.", name="--from", read=languages)
    ] = ()
    rows: Annotated[int | None, Option("Recordings read offline, evenly spread. By default all.", least=1)] = None
    live_rows: Annotated[int, Option("Recordings of these read live; 0 reads none.", least=0)] = 12
    step: Annotated[float, Option("Seconds of audio between two live readings.", least=0.1)] = 0.5
    entrants: Annotated[
        tuple[str, ...], Option("Some of them, such as 'ours int8 padded'. By default all.", read=names)
    ] = ()
    threads: Annotated[int | None, Option("CPU threads of each. By default all cores.", least=1)] = None

    def measure(self, progress: Progress = silent) -> Report:
        """Let all read in turn."""
        wanted = some_of(self.entrants, ENTRANTS, "--entrants")
        threads = self.threads or describe_machine().cores
        detector, tokenizer = SileroVad(), Tokenizer.load(self.weights)
        recordings = [_cut(talk, detector, tokenizer) for talk in sample(self._talks(), self.rows)]
        with ExitStack() as stack:
            runners, missing = stack.enter_context(self._started(wanted, threads))
            if not runners:
                raise BadConfig(f"nobody can race: {'; '.join(f'{who}: {why}' for who, why in missing.items())}")
            offline = _read_offline(runners, recordings, progress)
            live = _read_live(runners, sample(recordings, self.live_rows), self.step, progress)
            memory = {name: runner.memory_mb for name, runner in runners.items()}
        figures = {
            "weights": identity(str(self.weights)),
            "beside": None if self.beside is None else identity(str(self.beside)),
            "threads": threads,
            "recordings": len(recordings),
            "audio_s": round(sum(len(each.audio) for each in recordings) / SAMPLE_RATE, 1),
            "missing": missing,
            "offline": offline,
            "live": live,
            "memory": memory,
        }
        return Report(figures, race_tables(figures), [f"{who}: {why}" for who, why in missing.items()], markdown=True)

    def _talks(self) -> list[Talk]:
        talks = [talk for talk in read_talks(self.manifest) if not self.source or talk.language in self.source]
        if not talks:
            raise BadConfig(f"{self.manifest.name} has no recording in {', '.join(self.source)}")
        return talks

    @contextmanager
    def _started(self, wanted: Sequence[str], threads: int) -> Iterator[tuple[dict[str, Running], dict[str, str]]]:
        """Convert for and start each; yield who runs, and why others don't."""
        runners, missing = dict[str, Running](), dict[str, str]()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            for name in wanted:
                found = self._weights(name, folder)
                if isinstance(found, Path):
                    entrant = Entrant.named(name, str(found), threads)
                    running = stack.enter_context(started(name, entrant))
                    if isinstance(running, Running):
                        runners[name] = running
                        continue
                    found = running
                missing[name] = found
            yield runners, missing

    def _weights(self, name: str, folder: Path) -> Path | str:
        """Return the folder that an entrant reads, or why there is none."""
        entrant = Entrant.named(name, "", 1)
        needed = form(entrant.program, entrant.precision)
        if not entrant.beside:
            return converted(self.weights, folder, needed) if needed else self.weights
        if self.beside is None:
            return "no model of ours is named to race beside; give --beside"
        if not needed:
            return self.beside
        stock = as_stock(self.beside, self.weights, folder / BESIDE)
        return converted(stock, stock.parent, needed) if isinstance(stock, Path) else stock


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording ``(samples,)``, the segments ``[start, end)`` of speech in it, and tokens per second at most.

    Without a ``tokenizer`` texts are left as they were written.
    """

    talk: Talk
    audio: Samples
    segments: tuple[tuple[int, int], ...]
    rate: float = 0.0
    tokenizer: Tokenizer | None = None

    def read(self, runner: Running, start: int, end: int) -> Read:
        """Have ``[start, end)`` read, in as many tokens as an engine of ours allows; loops don't count as text."""
        # Ours counts the silence behind the audio in, so everybody may.
        heard = end - start + Entrant.named(runner.name, "", 1).silence(end - start)
        most = EngineConfig().limit(sys.maxsize, (), heard, self.rate)
        read = runner.read(self.audio[start:end], self.talk.language, most)
        if self.tokenizer is None:
            return read
        text = without_loops(read.text, self.tokenizer, most)
        return replace(read, text=text, looped=text != read.text)

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The segments, joined as far as a window goes."""
        joined: list[tuple[int, int]] = []
        for start, end in self.segments:
            if joined and end - joined[-1][0] <= WINDOW:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        return joined


def _cut(talk: Talk, detector: SileroVad, tokenizer: Tokenizer) -> Recording:
    audio = talk.load()
    found = segment(detector, audio).segments
    return Recording(talk, audio, found, tokens_per_second(tokenizer, talk.language), tokenizer)


def _in_turn(runners: Mapping[str, Running], number: int) -> list[Running]:
    """Return all, each time another first: what is warm from the one before helps nobody in particular."""
    order = list(runners.values())
    first = number % len(order)
    return order[first:] + order[:first]


def _read_offline(
    runners: Mapping[str, Running], recordings: Sequence[Recording], progress: Progress
) -> dict[str, dict[str, Any]]:
    found: dict[str, list[list[Read]]] = {name: [] for name in runners}
    heard = next((each for each in recordings if each.segments), None)
    if heard is None:
        raise BadConfig("the detector finds no speech in these recordings: there is nothing to read")
    for runner in runners.values():  # warms up
        heard.read(runner, *heard.windows[0])
    for number, recording in enumerate(recordings):
        for runner in _in_turn(runners, number):
            found[runner.name].append([recording.read(runner, start, end) for start, end in recording.windows])
        progress("recordings", number + 1, len(recordings))
    seconds = sum(len(each.audio) for each in recordings) / SAMPLE_RATE
    texts = {name: [_joined(each) for each in reads] for name, reads in found.items()}
    first = next(iter(found))
    return {
        name: {
            "real_time_factor": ratio(_wall(reads), seconds),
            "cpu_per_audio_second": ratio(sum(read.cpu_s for each in reads for read in each), seconds),
            "loops": _loops(reads),
            "ratio": _paired([_wall([each]) for each in reads], [_wall([each]) for each in found[first]]),
            **_compared(recordings, texts[name], texts[first]),
        }
        for name, reads in found.items()
    }


def _read_live(
    runners: Mapping[str, Running], recordings: Sequence[Recording], step_s: float, progress: Progress
) -> dict[str, dict[str, Any]]:
    spans = [(each, span) for each in recordings for span in each.segments]
    found: dict[str, list[list[Read]]] = {name: [] for name in runners}
    for number, (recording, (start, end)) in enumerate(spans):
        ends = _ends(end - start, step_s)
        for runner in _in_turn(runners, number):
            found[runner.name].append([recording.read(runner, start, start + at) for at in ends])
        progress("segments read live", number + 1, len(spans))
    if not spans:
        return {}
    first = next(iter(found))
    lengths = [_ends(end - start, step_s) for _, (start, end) in spans]
    said = {name: _by_recording(recordings, reads) for name, reads in found.items()}
    return {
        name: {
            **_live_costs(reads, lengths),
            "loops": _loops(reads),
            "ratio": _paired([_wall([each]) for each in reads], [_wall([each]) for each in found[first]]),
            **_compared(recordings, said[name], said[first]),
        }
        for name, reads in found.items()
    }


def _ends(samples: int, step_s: float) -> list[int]:
    """Return how much of a segment each reading hears; the last hears all of it."""
    step = round(step_s * SAMPLE_RATE)
    return [*range(step, samples, step), samples]


def _live_costs(reads: Sequence[Sequence[Read]], lengths: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return costs per reading, and delays as they would be if readings fell due in real time."""
    costs = [1000 * read.wall_s for each in reads for read in each]
    lags, firsts, made = list[float](), list[float](), 0
    for each, ends in zip(reads, lengths, strict=True):
        run = paced([at / SAMPLE_RATE for at in ends], each)
        lags += run.lags_s
        made += run.readings
        if run.first_words_s is not None:
            firsts.append(run.first_words_s)
    return {
        "updates": len(costs),
        "ms_per_update": round(sum(costs) / len(costs), 1),
        "ms_p95": round(percentile(costs, 95), 1),
        "cpu_ms_per_update": round(sum(1000 * read.cpu_s for each in reads for read in each) / len(costs), 1),
        "made_in_time": ratio(made, len(costs)),
        "first_words_ms": round(1000 * median(firsts)) if firsts else None,
        "lag_p50_ms": round(1000 * percentile(lags, 50)),
        "lag_p95_ms": round(1000 * percentile(lags, 95)),
    }


def _by_recording(recordings: Sequence[Recording], reads: Sequence[Sequence[Read]]) -> list[str]:
    """Join the last readings of each recording's segments."""
    last = iter(reads)
    return [" ".join(next(last)[-1].text for _ in each.segments) for each in recordings]


def _compared(recordings: Sequence[Recording], texts: Sequence[str], first: Sequence[str]) -> dict[str, Any]:
    """Return errors per word in each language and overall, and the share of texts that are those of the first."""
    written = [normalise(text, each.talk.language) for each, text in zip(recordings, texts, strict=True)]
    others = [normalise(text, each.talk.language) for each, text in zip(recordings, first, strict=True)]
    pairs: dict[str, list[tuple[str, str]]] = {}
    for each, text in zip(recordings, written, strict=True):
        language = each.talk.language
        if wanted := normalise(each.talk.references.get(language, ""), language):
            pairs.setdefault(language, []).append((text, wanted))
    errors = {
        language: round(word_error_rate([text for text, _ in both], [wanted for _, wanted in both], language), 4)
        for language, both in pairs.items()
    }
    return {
        "error_rate": errors,
        "mean_error_rate": ratio(sum(errors.values()), len(errors)) if errors else None,
        "same_text": ratio(sum(map(str.__eq__, written, others)), len(written)),
        "texts": written,
    }


def _wall(reads: Sequence[Sequence[Read]]) -> float:
    return sum(read.wall_s for each in reads for read in each)


def _loops(reads: Sequence[Sequence[Read]]) -> int:
    return sum(read.looped for each in reads for read in each)


def _joined(reads: Sequence[Read]) -> str:
    return " ".join(read.text for read in reads)


def _paired(mine: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of ratios within a recording or segment; where nothing was read there is none."""
    ratios = [mine_s / base_s for mine_s, base_s in zip(mine, base, strict=True) if base_s]
    return round(median(ratios), 3)


def race_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay out what was measured."""
    where = f"{describe_machine().cpu}, threads: {figures['threads']}"
    offline = ("real_time_factor", "cpu_per_audio_second", "ratio", "mean_error_rate", "loops", "same_text")
    costs, delays = ("ms_per_update", "cpu_ms_per_update", "ratio"), ("first_words_ms", "lag_p50_ms", "lag_p95_ms")
    live = (*costs, *delays, "mean_error_rate", "loops")
    tables = []
    for kind, columns in (("offline", offline), ("live", live)):
        rows = [
            (name, *(each[column] for column in columns), figures["memory"][name]["peak_rss_mb"])
            for name, each in figures[kind].items()
        ]
        if rows:
            tables.append(
                Table(f"{kind}; {where}", ("", *(column.replace("_", " ") for column in columns), "MB"), rows)
            )
    return tables
