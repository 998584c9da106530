"""``streamtrans evaluate``: how well a model translates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from streamtrans.cli.options import Beams, Device, Drafter, Dtype, Model, Threads, TopK, Vad, languages
from streamtrans.core import BadConfig
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from streamtrans.evaluate import DevResult
    from streamtrans.evaluate.settings import Setting
    from streamtrans.model.api import SpeechModel

_TALKS = "Talks (with a manifest)"


def evaluate(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            help="Talks to replay: a .tsv with the columns audio, language, and a reference per language code. "
            "Without it the model is scored offline on spoken sentences.",
            show_default=False,
        ),
    ] = None,
    *,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to", help="Languages to write. By default every reference.", show_default=False, rich_help_panel=_TALKS
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Caption mode: live, stable or final.", show_default=False, rich_help_panel=_TALKS),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting of the session, such as policy=hold, policy_n=3 or bias=0.2; may be repeated.",
            show_default=False,
            rich_help_panel=_TALKS,
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="A .toml with a table per setting: all are compared in one table.",
            show_default=False,
            rich_help_panel=_TALKS,
        ),
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option("--realtime", help="Play to a real server in real time.", rich_help_panel=_TALKS),
    ] = False,
    streams: Annotated[
        int | None,
        typer.Option(
            min=1, help="Talks at once in real time; it says --realtime.", show_default=False, rich_help_panel=_TALKS
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option(help="Also read the same segments offline, to compare.", rich_help_panel=_TALKS)
    ] = True,
    recordings: Annotated[
        bool,
        typer.Option(
            "--recordings",
            help="Read each line of the manifest at once, as one utterance: errors, BLEU and chrF per direction.",
            rich_help_panel=_TALKS,
        ),
    ] = False,
    silence: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --recordings: milliseconds of silence behind each, in the place of Whisper's 30 s.",
            show_default=False,
            rich_help_panel=_TALKS,
        ),
    ] = None,
    without_layer: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --recordings: leave this decoder layer out, counted from 0.",
            show_default=False,
            rich_help_panel=_TALKS,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a log per talk, also as simulstream and OmniSTEval read it.",
            show_default=False,
            rich_help_panel=_TALKS,
        ),
    ] = None,
    write_table: Annotated[
        Path | None,
        typer.Option(
            help="Model folder to write streaming.json to: the settings that won, for servers to choose from.",
            show_default=False,
            rich_help_panel=_TALKS,
        ),
    ] = None,
    vad: Vad = "silero",
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Folder with massive_dev.tsv (streamtrans corpus prepare), or a table of that form. By default "
            "data/text, or the sentences of the package.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Only so many rows, spread over the table.", show_default=False)
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(help="Languages to speak, such as en,de. By default all.", show_default=False),
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option(help="Languages to write. By default all.", show_default=False)
    ] = None,
    together: Annotated[int, typer.Option(min=1, help="Utterances decoded, or talks played, at once.")] = 16,
    recheck: Annotated[
        int, typer.Option(min=0, help="Utterances to read again without drafts, to compare passes and texts.")
    ] = 240,
    voices: Annotated[
        str, typer.Option(help="Who speaks: 'evaluation' voices, which no training hears, or 'training' ones.")
    ] = "evaluation",
    draft_tokens: Annotated[
        int | None,
        typer.Option(min=0, max=8, help="KVSPN's guesses at a time. By default what pays.", show_default=False),
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Encoder frames heard at once; 0: all of an utterance. By default what the model is served with.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the figures: dev.json; of talks streaming.json, .md and plots.", show_default=False
        ),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Write what the model wrote to this .tsv file.", show_default=False)
    ] = None,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drafter: Drafter = None,
    top_k: TopK = "1",
    beams: Beams = 1,
    threads: Threads = None,
) -> None:
    """Score a model: on spoken sentences offline, or with a manifest on whole talks as they are served.

    Without a manifest each row of the table is spoken with its evaluation voice, in every language, and read offline:
    BLEU from every language into every other, errors of transcripts.

        streamtrans evaluate --rows 200

        streamtrans evaluate --sources en --targets de,fr --beams 3 --json

    With a manifest (streamtrans talks makes one) talks are replayed through the session and the engine that serve, on
    a virtual clock or in real time: quality, erasure, latency and cost per direction.

        streamtrans evaluate talks/MANIFEST.tsv --to de --mode live --json

        streamtrans evaluate talks/MANIFEST.tsv --settings benchmarks/settings.toml --results out

        streamtrans evaluate talks/MANIFEST.tsv --to de --streams 4

    The same manifest of short recordings, each read at once; what people's voices cost shows here:

        streamtrans evaluate prompts.tsv --recordings --texts texts.tsv
    """
    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    if recordings:
        from streamtrans.cli.recordings import Wished, read_recordings

        given: dict[str, object] = {"--mode": mode, "--set": values, "--settings": settings, "--streams": streams}
        given |= {"--log": log, "--write-table": write_table, "--realtime": realtime or None, "--blocks": blocks}
        given |= {"--sources": sources, "--targets": targets, "--draft-tokens": draft_tokens, "--rows": rows}
        given |= {"--beams": beams > 1 or None}
        _refuse(given, "--recordings doesn't go with")
        wished = Wished(manifest, languages(to) if to else (), together, silence, without_layer)
        read_recordings(wished, choice, as_json=as_json, results=results, texts=texts)
        return
    _refuse({"--silence": silence, "--without-layer": without_layer}, "only --recordings has")
    if manifest is not None:
        from streamtrans.cli.streaming import Wanted, evaluate_manifest

        given = {"--rows": rows, "--sources": sources, "--targets": targets, "--texts": texts}
        given |= {"--draft-tokens": draft_tokens, "--beams": beams > 1 or None, "--blocks": blocks}
        _refuse(given, "a manifest doesn't go with")
        chosen = _settings(settings, mode, values or [], vad)
        wanted = languages(to) if to else ()
        at_once = streams or (1 if realtime else None)
        asked = Wanted(manifest, wanted, chosen, at_once, together, offline, as_json, results, log, write_table)
        evaluate_manifest(asked, choice)
        return
    given = {"--to": to, "--mode": mode, "--set": values, "--settings": settings, "--streams": streams, "--log": log}
    given["--write-table"] = write_table
    _refuse({**given, "--realtime": realtime or None}, "without a manifest of talks there is no")
    from streamtrans.cli.report import keep, progress
    from streamtrans.evaluate import DevConfig, Watch, describe_machine, evaluate_dev
    from streamtrans.evaluate.dev import dev_rows, training_speaker
    from streamtrans.evaluate.machine import invocation
    from streamtrans.runtime import identity, load_alone

    if voices not in ("evaluation", "training"):
        raise BadConfig(f"--voices is {voices!r}; use evaluation or training")
    table = dev_rows(tables)
    config = DevConfig(
        sources=languages(sources, "--sources") if sources else (),
        targets=languages(targets, "--targets") if targets else (),
        rows=rows,
        together=together,
        drafter=drafter,
        top_k=choice.engine_config(slots=1).top_k,
        beams=beams,
        draft_tokens=draft_tokens,
        blocks=blocks,
        recheck=recheck,
    )
    for folder in (results, texts.parent if texts else None):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)  # a wrong path shall not cost an evaluation
    weights = load_alone(choice)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("utterances", total=None)
        result = evaluate_dev(
            cast("SpeechModel", weights),  # its caches are of its own class
            weights.tokenizer,
            table,
            config,
            speak=training_speaker() if voices == "training" else None,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    figures = {"model": identity(model), **result.figures()}
    if texts is not None:
        _write(texts, result)
    if results is not None:
        keep("dev", figures, watch.measured, results)
    if as_json:
        about = {
            "command": invocation(),
            "machine": asdict(describe_machine()),
            "measured": asdict(watch.measured),
        }
        typer.echo(json.dumps({**about, **figures}, indent=1, ensure_ascii=False))
    else:
        _show(result)


def _settings(path: Path | None, mode: str | None, values: list[str], vad: str) -> tuple[Setting, ...]:
    """Return the settings of the file, or the one that the command line gives."""
    from streamtrans.evaluate.settings import Setting, parse_values, read_settings

    if path is not None:
        more = {"--mode": mode, "--set": values or None, "--vad": None if vad == "silero" else vad}
        _refuse(more, "the settings are in the file: leave out")
        return read_settings(path)
    said = {"mode": mode, "vad": vad if vad != "silero" else None}
    given = {**{name: value for name, value in said.items() if value is not None}, **parse_values(values)}
    setting = Setting(" ".join(f"{name}={value}" for name, value in given.items()) or "default", given)
    setting.session(("en",), None)
    return (setting,)


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Refuse options that say nothing here.

    Raises:
        BadConfig: one of them is given.
    """
    if named := [name for name, value in given.items() if value is not None]:
        raise BadConfig(f"{why} {', '.join(named)}")


def _show(result: DevResult) -> None:
    from streamtrans.cli.report import show

    written = tuple(dict.fromkeys((*(t for row in result.bleu.values() for t in row), *result.error_rate)))
    written = tuple(code for code in result.signatures if code in written)
    lines = []
    for source, scores in result.bleu.items():
        cells = []
        for target in written:
            if target == source:
                cells.append(f"{result.error_rate[source]:.1%}")
            else:
                cells.append(f"{scores[target]:.1f}")
        lines.append([source, *cells])
    show("BLEU from row to column; errors of transcripts on the diagonal", ["", *written], lines)
    figures = result.figures()
    kept = ", ".join(f"{name} {share:.1%}" for name, share in figures["acceptance"].items())
    summary: list[list[Any]] = [
        ["mean BLEU", result.mean_bleu],
        ["utterances", result.utterances],
        ["drafts accepted", kept or None],
        ["passes per token", figures["passes_per_token"]],
        ["engine seconds per second of audio", round(result.busy_s / result.audio_s, 4)],
    ]
    if result.recheck is not None:
        summary += [
            [
                f"of {result.recheck.utterances} utterances, passes per token",
                result.recheck.drafted_passes_per_token,
            ],
            ["the same without drafts", result.recheck.undrafted_passes_per_token],
            ["their texts equal without drafts", f"{result.recheck.equal:.2%}"],
        ]
    show("all of it", ["", "value"], summary)


def _write(path: Path, result: DevResult) -> None:
    """Write one line per text: row, source, target, reference, hypothesis."""
    lines = ["row\tsource\ttarget\treference\thypothesis"]
    for text in result.texts:
        cells = (text.row, text.source, text.target, text.reference, text.hypothesis)
        lines.append("\t".join(" ".join(cell.split()) for cell in cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
