"""What ``streamtrans evaluate MANIFEST.tsv`` does: talks played to sessions virtually, or to a server in real time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrans.audio import duration_seconds
from streamtrans.core import SAMPLE_RATE, BadConfig, DecodeStats, Option, SpeechEnded, SpeechStarted, samples
from streamtrans.runtime import Loaded, ModelChoice, load

if TYPE_CHECKING:
    from streamtrans.cli.report import Kept
    from streamtrans.client import StreamEvent, StreamOptions, Summary
    from streamtrans.evaluate.manifest import Talk
    from streamtrans.evaluate.scoring import TalkRun
    from streamtrans.evaluate.settings import Setting
    from streamtrans.evaluate.streaming import SettingResult

MOST_TARGETS = 5
"""Languages per stream that a server writes by default."""

_ON_THE_WIRE = {"reading_interval_ms": "min_interval_ms"}
"""Field of ``SessionConfig`` → what ``StreamOptions`` calls it; where the names are equal nothing is said here."""
_SERVED = ("mode", "policy", "policy_n", "bias", "masked", "reading_interval_ms")
"""Fields of a measured row that set a session."""
_ENDPOINTS_ON_THE_WIRE = ("min_silence_ms", "max_segment_ms")


@dataclass(frozen=True, slots=True)
class Talks:
    """How talks are played, and in which settings."""

    mode: Annotated[str | None, Option("Caption mode: live, stable or final.")] = None
    values: Annotated[
        tuple[str, ...],
        Option("A setting of the session, such as policy=hold, policy_n=3 or bias=0.2; may be repeated.", name="--set"),
    ] = ()
    settings: Annotated[Path | None, Option("A .toml with a table per setting: all are compared in one table.")] = None
    realtime: Annotated[bool, Option("Play to a real server in real time.")] = False
    streams: Annotated[int | None, Option("Talks at once in real time; it says --realtime.", least=1)] = None
    offline: Annotated[bool, Option("Also read the same segments offline, to compare.")] = True
    log: Annotated[Path | None, Option("Folder for a log per talk, also as simulstream and OmniSTEval read it.")] = None
    write_table: Annotated[
        Path | None,
        Option("Model folder to write streaming.json to: the settings that won, for servers to choose from."),
    ] = None

    def play(self, manifest: Path, targets: tuple[str, ...], together: int, choice: ModelChoice, kept: Kept) -> None:
        """Play the manifest's talks in every setting, and say how well that went."""
        wanted = Wanted(
            manifest,
            targets,
            self._settings(choice.vad),
            self.streams or (1 if self.realtime else None),
            together,
            self.offline,
            kept.as_json,
            kept.results,
            self.log,
            self.write_table,
        )
        evaluate_manifest(wanted, choice)

    def _settings(self, vad: str) -> tuple[Setting, ...]:
        """Return the settings of the file, or the one that the command line gives."""
        from streamtrans.evaluate.settings import Setting, parse_values, read_settings

        chosen = None if vad == "silero" else vad
        if self.settings is not None:
            more = {"--mode": self.mode, "--set": self.values or None, "--vad": chosen}
            if named := [name for name, value in more.items() if value is not None]:
                raise BadConfig(f"the settings are in the file: leave out {', '.join(named)}")
            return read_settings(self.settings)
        said = {"mode": self.mode, "vad": chosen}
        given = {
            **{name: value for name, value in said.items() if value is not None},
            **parse_values(list(self.values)),
        }
        setting = Setting(" ".join(f"{name}={value}" for name, value in given.items()) or "default", given)
        setting.session(("en",), None)
        return (setting,)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for; checked before a model is loaded."""

    manifest: Path
    targets: tuple[str, ...]
    settings: tuple[Setting, ...]
    streams: int | None
    """Talks at once to a real server, in real time; ``None`` plays on a virtual clock."""
    together: int
    offline: bool
    as_json: bool
    results: Path | None
    log: Path | None
    table: Path | None = None
    """Model folder whose table of settings is to be written."""


def evaluate_manifest(wanted: Wanted, choice: ModelChoice) -> None:
    """Play the manifest's talks in every setting, and say how well that went."""
    from streamtrans.evaluate.machine import Watch, describe_machine, invocation
    from streamtrans.evaluate.manifest import read_talks
    from streamtrans.evaluate.report import averaged
    from streamtrans.runtime import identity

    talks = read_talks(wanted.manifest)
    _check(wanted, talks)
    who = identity(choice.model)
    with Watch() as watch:
        results = _virtual(wanted, choice, talks) if wanted.streams is None else _real(wanted, choice, talks)
        settings = [averaged(result.figures()) for result in results]
    report = {
        "model": who,
        "clock": "virtual (computation-unaware)" if wanted.streams is None else "wall (computation-aware)",
        "streams": wanted.streams,
        "talks": [
            {"name": run.talk.name, "language": run.talk.language, "audio_s": round(run.samples / SAMPLE_RATE, 1)}
            for run in results[0].runs
        ],
        "settings": settings,
    }
    if wanted.results is not None:
        _keep(wanted.results, report, watch.measured)
    if wanted.table is not None:
        from streamtrans.evaluate.table import write_table

        about = {"command": invocation(), "machine": asdict(describe_machine()), "talks": report["talks"]}
        chosen = write_table(wanted.table, settings, about)
        typer.echo(f"{wanted.table}: {', '.join(row.name for row in chosen)}", err=True)
    if wanted.as_json:
        about = {"command": invocation(), "machine": asdict(describe_machine()), "model": who, "clock": report["clock"]}
        for setting in settings:
            for direction in setting["directions"]:
                line = {**direction, "setting": setting["setting"], "values": setting["values"], **about}
                typer.echo(json.dumps(line, ensure_ascii=False))
    else:
        _show(settings)


def _check(wanted: Wanted, talks: Sequence[Talk]) -> None:
    """Refuse what could only fail after all the work."""
    from streamtrans.stream import Settings

    if wanted.table is not None and not (wanted.table / "config.json").exists():
        raise BadConfig(f"--write-table {wanted.table} is no model folder: it holds no config.json")
    if wanted.table is not None:
        Settings.load(wanted.table)  # what it says of the model stays
    if wanted.table is not None and not wanted.offline:
        raise BadConfig("--write-table needs what is lost against offline reading: leave --no-offline out")
    if wanted.streams is not None:
        for setting in wanted.settings:
            stream_options(setting, ("en",), "en")
    for talk in talks:
        missing = [target for target in wanted.targets if target not in talk.references]
        if missing:
            known = ", ".join(talk.references) or "none"
            raise BadConfig(f"the manifest has no references in {', '.join(missing)}; it has {known}")


def _virtual(wanted: Wanted, choice: ModelChoice, talks: Sequence[Talk]) -> list[SettingResult]:
    from streamtrans.cli.report import progress
    from streamtrans.evaluate.streaming import StreamingConfig, evaluate_streaming, targets_of, write_logs

    most = max(len(wanted.targets or talk.references) for talk in talks)
    together = min(wanted.together, len(talks))
    loaded = load(choice, slots=max(16, together * most))
    chosen = tuple(_as_served(setting, loaded) for setting in wanted.settings)
    config = StreamingConfig(chosen, wanted.targets, together, offline=wanted.offline)

    def keep(result: SettingResult) -> None:
        if wanted.log is not None:
            write_logs(result, wanted.log)

    with loaded.engine, progress() as bar:
        for talk in talks:
            loaded.check_languages(targets_of(talk, wanted.targets, loaded.languages), talk.language)
        task = bar.add_task("seconds of talks", total=None)
        return evaluate_streaming(
            talks,
            loaded.spellers,
            loaded.engine,
            config,
            languages=loaded.languages,
            endpoints=loaded.endpoints,
            level_db=loaded.settings.level_db,
            progress=lambda name, done, total: bar.update(
                task, description=name, completed=done // SAMPLE_RATE, total=total // SAMPLE_RATE
            ),
            done=keep,
        )


def _as_served(setting: Setting, loaded: Loaded) -> Setting:
    """Return a setting that names no policy with what the model is served with in its mode."""
    row = loaded.settings.default(setting.values.get("mode", "live"))
    if row is None or "policy" in setting.values:
        return setting
    served = {name: value for name, value in asdict(row).items() if name in _SERVED}
    return replace(setting, values={**served, **setting.values})


def _real(wanted: Wanted, choice: ModelChoice, talks: Sequence[Talk]) -> list[SettingResult]:
    """Play talks to a server in a process of its own; the model is loaded here only to read offline afterwards."""
    from streamtrans.cli.report import progress
    from streamtrans.evaluate.streaming import OfflineReader, write_logs

    results = []
    listed = [talks[number % len(talks)] for number in range(max(wanted.streams or 1, len(talks)))]
    total_s = sum(duration_seconds(talk.audio) for talk in listed)
    with progress() as bar:
        for setting in wanted.settings:
            task = bar.add_task(f"{setting.name}, {wanted.streams} at a time, seconds of talks", total=round(total_s))
            heard = partial(bar.advance, task)
            results.append(asyncio.run(_play(setting, wanted, choice, talks, heard)))
    if wanted.offline:
        loaded: Loaded = load(choice)
        with loaded.engine:
            reader = OfflineReader(loaded.engine, loaded.spellers)
            results = [
                replace(result, runs=tuple(reader.read(run, run.talk.load()) for run in result.runs))
                for result in results
            ]
    for result in results:
        if wanted.log is not None:
            write_logs(result, wanted.log)
    return results


async def _play(
    setting: Setting, wanted: Wanted, choice: ModelChoice, talks: Sequence[Talk], heard: Callable[[float], None]
) -> SettingResult:
    """Let ``wanted.streams`` speakers read the talks out to a server of their own; tell ``heard`` how many seconds."""
    from streamtrans.bench.realtime import STAGGER_S, ask, served
    from streamtrans.bench.server import Wish
    from streamtrans.client import TranslationClient
    from streamtrans.evaluate.streaming import SettingResult

    streams = wanted.streams or 1
    listed = [talks[number % len(talks)] for number in range(max(streams, len(talks)))]
    waiting = list(enumerate(listed))[::-1]
    found: dict[int, tuple[TalkRun, Summary]] = {}
    most = max(len(targets_of_stream(talk, wanted.targets, None)) for talk in talks)
    wish = Wish(choice, max(16, 2 * streams * most), sessions=streams, cores=0)
    async with served(wish) as (process, before), TranslationClient(f"127.0.0.1:{before['port']}") as client:
        known = (await client.capabilities()).languages

        async def speaker(number: int) -> None:
            await asyncio.sleep(number * STAGGER_S)
            while waiting:
                place, talk = waiting.pop()
                targets = targets_of_stream(talk, wanted.targets, known)
                found[place] = await _stream(client, talk, targets, setting, heard)

        async with asyncio.TaskGroup() as group:
            for number in range(streams):
                group.create_task(speaker(number))
        after = await ask(process)
    runs = tuple(_named(found[place][0], place // len(talks)) for place in sorted(found))
    summaries = [found[place][1] for place in sorted(found)]
    return SettingResult(setting, runs, after["busy_s"] - before["busy_s"], shared=_told(summaries))


def targets_of_stream(talk: Talk, asked: tuple[str, ...], known: Sequence[str] | None) -> tuple[str, ...]:
    """Return the languages to ask a server for: without being told, no more than it writes, translations first."""
    from streamtrans.evaluate.streaming import targets_of

    found = targets_of(talk, asked, talk.references if known is None else known)
    if asked or len(found) <= MOST_TARGETS:
        return found
    return tuple(target for target in found if target != talk.language)[:MOST_TARGETS]


async def _stream(
    client: Any, talk: Talk, targets: tuple[str, ...], setting: Setting, moved: Callable[[float], None]
) -> tuple[TalkRun, Summary]:
    from streamtrans.bench.realtime import speak
    from streamtrans.core import Caption
    from streamtrans.evaluate.logs import Logged
    from streamtrans.evaluate.scoring import TalkRun

    audio, logged = talk.load(), list[Logged]()
    before = 0

    def told(event: StreamEvent, heard: int, seconds: float) -> None:
        nonlocal before
        moved((heard - before) / SAMPLE_RATE)
        before = heard
        if isinstance(event, (Caption, SpeechStarted, SpeechEnded)):
            logged.append(Logged(heard, event, 1000 * seconds))

    summary = await speak(client, audio, stream_options(setting, targets, talk.language), 0, told=told)
    timed = tuple((samples(each.wall_ms or 0), each.event) for each in logged)
    return TalkRun(talk, targets, timed, len(audio), logged=tuple(logged)), summary


def stream_options(setting: Setting, targets: tuple[str, ...], source: str) -> StreamOptions:
    """Return what to ask of a server so that it does what the setting says.

    Raises:
        BadConfig: the setting says something that can't be asked for over the wire.
    """
    from streamtrans.client import StreamOptions

    known = {field.name for field in fields(StreamOptions)}
    values = dict(setting.values)
    endpoints = values.pop("endpoints", {})
    asked = {_ON_THE_WIRE.get(name, name): value for name, value in values.items()}
    unknown = [name for name in asked if name not in known]
    unknown += [f"endpoints.{name}" for name in endpoints if name not in _ENDPOINTS_ON_THE_WIRE]
    if unknown:
        raise BadConfig(
            f"setting {setting.name!r}: {', '.join(unknown)} can't be asked of a server: no --realtime, no --streams"
        )
    return StreamOptions(targets, "pcm_s16le", source_languages=(source,), **asked, **endpoints)


def _told(summaries: Sequence[Summary]) -> dict[str, Any]:
    """Return what a server tells of all languages together."""
    from streamtrans.evaluate.dev import ratio

    decode = sum((summary.decoding for summary in summaries), DecodeStats())
    return {
        "passes_per_token": ratio(decode.passes, decode.tokens),
        "acceptance": ratio(decode.accepted, decode.drafted) if decode.drafted else None,
        "lag_p50_ms": max(summary.lag_p50_ms for summary in summaries),
        "lag_p95_ms": max(summary.lag_p95_ms for summary in summaries),
    }


def _named(run: TalkRun, repeat: int) -> TalkRun:
    """Tell the runs of one talk apart."""
    return replace(run, talk=replace(run.talk, name=f"{run.talk.name}.{repeat + 1}")) if repeat else run


def _keep(folder: Path, report: Mapping[str, Any], measured: Any) -> None:
    """Store the report as JSON, Markdown and plots."""
    from streamtrans.cli.report import keep
    from streamtrans.evaluate.machine import invocation
    from streamtrans.evaluate.plots import draw
    from streamtrans.evaluate.report import markdown

    name = "streaming" if report["streams"] is None else "streaming-realtime"
    keep(name, report, measured, folder)
    plots = draw(report["settings"], folder)
    text = markdown({**report, "command": f"`{invocation()}`"}, [path.name for path in plots])
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def _show(settings: Sequence[Mapping[str, Any]]) -> None:
    from streamtrans.cli.report import show
    from streamtrans.evaluate.report import DELAYS, QUALITY, direction_rows, headings, rows

    for what, columns in (("quality and cost", QUALITY), ("delays in seconds", DELAYS)):
        if len(settings) > 1:
            show(f"{what}, means over directions", ["setting", *headings(columns)], rows(settings, columns))
        else:
            lines = direction_rows(settings[0], columns)
            show(f"{settings[0]['setting']}: {what}", ["direction", *headings(columns)], lines)
    for setting in settings:
        for problem in setting["problems"]:
            typer.echo(f"{setting['setting']}: {problem}", err=True)
