"""Replay whole talks through the objects that serve, in one or many settings, and score them.

The model and the audio are loaded once; talks are played at once on a virtual clock, so that computing time is no part
of a delay (:mod:`streamtrans.evaluate.together`). What was said is compared with the reference, and with the same
segments read offline.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from streamtrans.audio import Samples
from streamtrans.core import SAMPLE_RATE, BadConfig, Job, Reading, StreamtransError, Target, samples
from streamtrans.engine.stats import EngineStats
from streamtrans.evaluate.exports import export_omnisteval, export_simulstream
from streamtrans.evaluate.logs import Log, write_log
from streamtrans.evaluate.manifest import Talk
from streamtrans.evaluate.scoring import TalkRun, as_log, score_direction
from streamtrans.evaluate.settings import Setting
from streamtrans.evaluate.together import Played, replay_together
from streamtrans.segment import EndpointRules
from streamtrans.stream import EngineLike, Spellers, spelling
from streamtrans.stream.leveller import raised

Progress = Callable[[str, int, int], None]
"""Called with (what is done, samples done, of how many)."""


class Measuring(EngineLike, Protocol):
    """An engine that counts what it does."""

    @property
    def stats(self) -> EngineStats:
        """A snapshot of its counters."""
        ...


@dataclass(frozen=True, slots=True)
class StreamingConfig:
    """What is evaluated.

    Raises:
        BadConfig: a number is out of range, or two settings have one name.
    """

    settings: tuple[Setting, ...] = (Setting("default", {}),)
    targets: tuple[str, ...] = ()
    """Languages to write; empty takes every reference in a language that the model knows."""
    together: int = 8
    """Talks played at once: larger fills the engine's batches, and takes more memory."""
    chunk_ms: int = 100
    """Audio that arrives at a time, and so how exactly times are known."""
    offline: bool = True
    """Whether each run's segments are also read offline, to compare."""

    def __post_init__(self) -> None:
        for name in ("together", "chunk_ms"):
            if getattr(self, name) < 1:
                raise BadConfig(f"{name} is {getattr(self, name)}; use 1 or more")
        names = [setting.name for setting in self.settings]
        if not names or len(set(names)) < len(names):
            raise BadConfig(f"settings {', '.join(names) or 'are missing'}: give one or more, each its own name")


@dataclass(frozen=True, slots=True)
class SettingResult:
    """All talks in one setting.

    ``busy_s`` is the engine's computing time without the offline reading. ``shared`` are figures of all directions
    together, where nobody could tell them apart.
    """

    setting: Setting
    runs: tuple[TalkRun, ...]
    busy_s: float
    shared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def audio_s(self) -> float:
        """Audio played, all talks together."""
        return sum(run.samples for run in self.runs) / SAMPLE_RATE

    def figures(self) -> dict[str, Any]:
        """Score every direction."""
        directions = dict.fromkeys((run.talk.language, target) for run in self.runs for target in run.targets)
        factor = round(self.busy_s / self.audio_s, 4) if self.audio_s else None
        scored = []
        for source, target in directions:
            mine = [run for run in self.runs if run.talk.language == source]
            found = score_direction(source, target, mine)
            problems = found.pop("problems")
            scored.append({**found, **self.shared, "realtime_factor": factor, "problems": problems})
        return {
            "setting": self.setting.name,
            "values": dict(self.setting.values),
            "talks": len(self.runs),
            "audio_s": round(self.audio_s, 1),
            "busy_s": round(self.busy_s, 2),
            "realtime_factor": factor,
            "directions": scored,
        }


def targets_of(talk: Talk, asked: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the languages to write for a talk: ``asked``, by default every reference that the model knows.

    Raises:
        BadConfig: the manifest has no column for one that was asked for, or nothing is left to write.
    """
    for target in asked:
        if target not in talk.references:
            raise BadConfig(
                f"the manifest has no references in {target!r}; it has {', '.join(talk.references) or 'none'}"
            )
    found = tuple(asked) or tuple(code for code in talk.references if code in known)
    if not found:
        raise BadConfig(f"the manifest has {', '.join(talk.references)}, and the model knows none of them")
    return found


def evaluate_streaming(
    talks: Sequence[Talk],
    speller: Spellers,
    engine: Measuring,
    config: StreamingConfig,
    *,
    languages: Collection[str],
    endpoints: EndpointRules | None = None,
    level_db: float | None = None,
    progress: Progress | None = None,
    done: Callable[[SettingResult], None] | None = None,
) -> list[SettingResult]:
    """Play all talks in every setting.

    Args:
        talks: of a manifest.
        speller: the model's tokenizer.
        engine: what would be served.
        config: what is evaluated.
        languages: that the model knows.
        endpoints: where segments begin and end, if a setting doesn't say.
        level_db: what speech is brought to, likewise.
        progress: told what is done.
        done: given each setting's result when it is there.

    Raises:
        BadAudio: a talk's audio can't be read.
        BadConfig: a setting doesn't fit, or a target has no reference.
    """
    wanted = [targets_of(talk, config.targets, languages) for talk in talks]
    loaded = [talk.load() for talk in talks]
    total = sum(map(len, loaded)) * len(config.settings)
    offline = OfflineReader(engine, speller)
    heard, results = 0, list[SettingResult]()
    for setting in config.settings:
        before, runs = engine.stats.busy_s, list[TalkRun]()

        def told(count: int, name: str = setting.name) -> None:
            nonlocal heard
            heard += count
            if progress is not None:
                progress(name, heard, total)

        for start in range(0, len(talks), config.together):
            chosen = slice(start, start + config.together)
            recordings = [
                (setting.session(targets, talk.language, endpoints, level_db), audio)
                for talk, targets, audio in zip(talks[chosen], wanted[chosen], loaded[chosen], strict=True)
            ]
            played = replay_together(recordings, speller, engine, chunk=samples(config.chunk_ms), heard=told)
            runs += map(_run, talks[chosen], wanted[chosen], map(len, loaded[chosen]), played)
        busy = engine.stats.busy_s - before
        if config.offline:
            runs = [offline.read(run, audio) for run, audio in zip(runs, loaded, strict=True)]
        results.append(SettingResult(setting, tuple(runs), busy))
        if done is not None:
            done(results[-1])
    return results


def _run(talk: Talk, targets: tuple[str, ...], count: int, played: Played) -> TalkRun:
    lost = played.replay.stats.failures
    problems = (f"{talk.name}: {lost} requests to the engine failed",) if lost else ()
    return TalkRun(talk, targets, played.replay.timed, count, played.costs, problems=problems)


class OfflineReader:
    """Reads the segments of runs at once, each alone and without drafts; what was read once is remembered.

    They are read as loud as the session had them read, where it says so; a server doesn't.
    """

    def __init__(self, engine: EngineLike, speller: Spellers) -> None:
        self._engine = engine
        self._speller = speller
        self._texts: dict[tuple[str, int, int, float, tuple[str, ...]], tuple[str, ...]] = {}

    def read(self, run: TalkRun, audio: Samples) -> TalkRun:
        """Return ``run`` with what its segments say offline; one that can't be read is empty, and a problem."""
        targets, source = run.targets, run.talk.language
        keys = [(run.talk.name, *run.segments[number], gain, targets) for number, gain in run.gains.items()]
        asked = {
            key: self._engine.submit(
                Job(0, 0, end - start, True, raised(audio[start:end], gain), tuple(map(Target, targets)), source)
            )
            for key in keys
            for _, start, end, gain, _ in (key,)
            if key not in self._texts
        }
        problems: list[str] = []
        for key, future in asked.items():
            try:
                reading = future.result()
            except StreamtransError as error:
                problems.append(f"{run.talk.name}: samples {key[1]} to {key[2]} can't be read offline: {error}")
                self._texts[key] = ("",) * len(targets)
                continue
            assert isinstance(reading, Reading)
            self._texts[key] = tuple(
                spelling(self._speller, target, source).decode(each.tokens)
                for target, each in zip(targets, reading.hypotheses, strict=True)
            )
        offline = {target: [self._texts[key][index] for key in keys] for index, target in enumerate(targets)}
        return replace(run, offline=offline, problems=(*run.problems, *problems))


def write_logs(result: SettingResult, folder: Path) -> None:
    """Write a log per talk, and per direction what simulstream and OmniSTEval read.

    Raises:
        BadConfig: a file can't be written.
    """
    logs: dict[tuple[str, str], list[Log]] = {}
    place = folder / result.setting.name.replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    for run in result.runs:
        log = as_log(run, result.setting.values)
        path = place / f"{run.talk.name.replace('/', '-')}.jsonl"
        write_log(path, log.header, log.events, log.totals)
        for target in run.targets:
            logs.setdefault((run.talk.language, target), []).append(log)
    for (source, target), chosen in logs.items():
        export_simulstream(chosen, place / f"{source}-{target}.simulstream.jsonl", target)
        export_omnisteval(chosen, place / f"{source}-{target}.omnisteval.jsonl", target)
