"""``streamtrans evaluate``: how well a model translates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrans.cli.options import Beams, Device, Drafter, Dtype, Model, ModelChoice, Threads, TopK, languages
from streamtrans.core import BadConfig

if TYPE_CHECKING:
    from streamtrans.evaluate import DevResult


def evaluate(
    *,
    tables: Annotated[
        Path,
        typer.Option(help="Folder with massive_dev.tsv (streamtrans corpus prepare), or a table of that form."),
    ] = Path("data/text"),
    rows: Annotated[
        int | None, typer.Option(min=1, help="Only so many rows, spread over the table.", show_default=False)
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(help="Languages to speak, such as en,de. By default all.", show_default=False),
    ] = None,
    targets: Annotated[str | None, typer.Option(help="Languages to write. By default all.", show_default=False)] = None,
    together: Annotated[int, typer.Option(min=1, help="Utterances decoded at once.")] = 16,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="Folder that keeps the figures as dev.json.", show_default=False)
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
    """Score a model on spoken sentences: BLEU from every language into every other, errors of transcripts.

    Each row of the table is spoken with its evaluation voice, in every language, and read offline through the
    engine that serves.

        streamtrans evaluate --rows 200

        streamtrans evaluate --sources en --targets de,fr --json

    With three beams instead of one, offline only:

        streamtrans evaluate --rows 200 --beams 3
    """
    from streamtrans.cli.bench.report import dev_rows, identity, keep, load_alone, progress
    from streamtrans.evaluate import DevConfig, Watch, describe_machine, evaluate_dev
    from streamtrans.evaluate.dev import training_speaker
    from streamtrans.evaluate.machine import invocation

    if voices not in ("evaluation", "training"):
        raise BadConfig(f"--voices is {voices!r}; use evaluation or training")
    choice = ModelChoice(model, device, dtype, drafter, top_k, threads=threads)
    table = dev_rows(tables)
    settings = DevConfig(
        sources=languages(sources, "--sources") if sources else (),
        targets=languages(targets, "--targets") if targets else (),
        rows=rows,
        together=together,
        drafter=drafter,
        top_k=choice.engine_config(slots=1).top_k,
        beams=beams,
        draft_tokens=draft_tokens,
        recheck=recheck,
    )
    for folder in (results, texts.parent if texts else None):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)  # a wrong path shall not cost an evaluation
    weights, tokenizer = load_alone(choice)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("utterances", total=None)
        result = evaluate_dev(
            weights,
            tokenizer,
            table,
            settings,
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


def _show(result: DevResult) -> None:
    from streamtrans.cli.bench.report import show

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
