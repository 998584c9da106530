"""``streamtrans bench rereading``: what the reading before saves as a draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from streamtrans.cli.bench.verbs import RESULTS, Results, bench, counts
from streamtrans.cli.options import Device, Dtype, Model, Threads, To, languages
from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.runtime import Loaded, ModelChoice

if TYPE_CHECKING:
    from streamtrans.audio import Samples
    from streamtrans.stream import Mode, SessionConfig


@bench.command()
def rereading(
    manifest: Annotated[
        Path | None,
        typer.Argument(help="Talks, as streamtrans talks makes them. By default some are made.", show_default=False),
    ] = None,
    *,
    text: Annotated[
        Path, typer.Option(help="Folder with massive_dev.tsv (streamtrans corpus prepare), or a table of that form.")
    ] = Path("data/text"),
    source: Annotated[str, typer.Option("--from", help="Languages that are spoken in turn, where talks are made.")] = (
        "en,de,es,fr,it,zh"
    ),
    talks: Annotated[int, typer.Option(min=1, help="Talks that are made.")] = 8,
    seconds: Annotated[float, typer.Option(min=5, help="Length of a talk that is made, in about.")] = 60,
    to: To = "de",
    mode: Annotated[str, typer.Option(help="Caption mode: live or stable.")] = "live",
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the sessions, such as policy=hold, instead of the model's best."),
    ] = None,
    drafters: Annotated[
        str, typer.Option(help="Ways of drafting, joined by semicolons; the first is what others are measured by.")
    ] = "none;echo;echo,kvspn",
    streams: Annotated[str, typer.Option(help="Sessions at once, one measurement each.")] = "1,8",
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 1,
) -> None:
    """Decode every reading of live captions afresh, from the reading before, and with KVSPN besides.

    Sessions run on a virtual clock; all ways decode the same readings behind the same promises. The stability bias
    is 0, so all write the same.

        streamtrans bench rereading --talks 8 --seconds 120
    """
    from streamtrans.bench.rereading import RereadingConfig, measure_rereading
    from streamtrans.cli.bench.report import identity, keep, progress
    from streamtrans.evaluate.machine import Watch
    from streamtrans.runtime import load

    if mode not in ("live", "stable"):
        raise BadConfig(f"--mode is {mode!r}; use live or stable: final captions are read once")
    config = RereadingConfig(tuple(drafters.split(";")), tuple(counts("--streams", streams)))
    spoken = _manifest(manifest) if manifest else _made(text, languages(source, "--from"), talks, seconds)
    loaded = load(ModelChoice(model, device, dtype, threads=threads), slots=1)
    loaded.engine.close()  # each way of drafting gets its own
    chosen = [(_session(loaded, languages(to), code, mode, values or []), audio) for code, audio in spoken]
    with Watch() as watch, progress() as bar:
        task = bar.add_task("samples", total=None)
        found = measure_rereading(
            loaded.model,  # type: ignore[arg-type]  # its caches are of its own class
            loaded.model.tokenizer,
            chosen,
            config,
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )
    told = {"model": identity(model), **_description(chosen), "measurements": found}
    keep("rereading", told, watch.measured, results)
    _show(found)


def _description(chosen: Sequence[tuple[SessionConfig, Samples]]) -> dict[str, Any]:
    first = chosen[0][0]
    return {
        "targets": first.targets,
        "session": {name: getattr(first, name) for name in ("mode", "policy", "policy_n", "reading_interval_ms")},
        "talks": len(chosen),
        "audio_s": round(sum(len(audio) for _, audio in chosen) / SAMPLE_RATE, 1),
    }


def _show(found: Sequence[Mapping[str, Any]]) -> None:
    from streamtrans.cli.bench.report import show

    for case in found:
        title = f"{case['streams']} at once, {case['readings_at_once']:.2g} readings together"
        show(f"passes per reading; {title}; {case['different']} texts differ", *_passes(case["drafters"]))
        show(f"ms per reading in the decoder, and with hearing; {title}", *_times(case["drafters"]))


def _manifest(path: Path) -> list[tuple[str, Samples]]:
    from streamtrans.evaluate.manifest import read_talks

    return [(talk.language, talk.load()) for talk in read_talks(path)]


def _made(text: Path, codes: Sequence[str], count: int, seconds: float) -> list[tuple[str, Samples]]:
    from streamtrans.cli.bench.report import dev_rows
    from streamtrans.corpus import Speaker
    from streamtrans.corpus.talks import TalkConfig, speak_talk

    rows, speaker = dev_rows(text), Speaker()
    made = []
    for number in range(count):
        language, seed = codes[number % len(codes)], 1 + number // len(codes)
        config = TalkConfig(seconds=seconds, seed=seed)
        made.append((language, speak_talk(f"{language}-{seed}", rows, language, config, speaker).audio))
    return made


def _session(loaded: Loaded, targets: tuple[str, ...], source: str, mode: str, values: Sequence[str]) -> SessionConfig:
    """Return the settings that the model does best with in ``mode``, or those that are asked for, without a bias."""
    from streamtrans.evaluate.settings import Setting, parse_values

    if not values:
        return replace(loaded.session_config(targets, source, mode=cast("Mode", mode)), bias=0.0)
    return Setting("--set", {"mode": mode, **parse_values(values)}).session(targets, source, loaded.endpoints)


def _passes(drafters: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Lay passes out: a line per length of the reading, promised tokens included, and columns per way."""
    first, *others = drafters
    columns = ["tokens", "readings", first]
    lines = [[label, cell["readings"], cell["passes_per_reading"]] for label, cell in drafters[first].items()]
    for drafter in others:
        columns += [drafter, "times fewer", "drafts kept"]
        for line, cell in zip(lines, drafters[drafter].values(), strict=True):
            line.extend([cell["passes_per_reading"], cell["fewer_passes"], _kept(cell["acceptance"])])
    return columns, lines


def _times(drafters: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Lay times out in the same way."""
    columns, lines = ["tokens"], [[label] for label in next(iter(drafters.values()))]
    for number, (drafter, cells) in enumerate(drafters.items()):
        columns += [drafter, "with hearing", *(["times faster"] if number else [])]
        for line, cell in zip(lines, cells.values(), strict=True):
            faster = [cell["faster_decoding"]] if number else []
            line.extend([cell["decode_ms_per_reading"], cell["ms_per_reading"], *faster])
    return columns, lines


def _kept(acceptance: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in acceptance.items()) or "–"
