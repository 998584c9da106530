"""What ``streamtrans evaluate MANIFEST.tsv --recordings`` does: people's recordings, each read at once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from streamtrans.core import BadConfig
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from streamtrans.evaluate.recordings import RecordingsResult
    from streamtrans.model.api import SpeechModel


@dataclass(frozen=True, slots=True)
class Wished:
    """What the user asked for."""

    manifest: Path | None
    targets: tuple[str, ...]
    together: int
    silence_ms: int | None
    without: int | None


def read_recordings(
    wished: Wished, choice: ModelChoice, *, as_json: bool, results: Path | None, texts: Path | None
) -> None:
    """Score the recordings of a manifest, and say how well they were heard and translated.

    Raises:
        BadConfig: there is no manifest, or nothing in it can be scored.
    """
    if wished.manifest is None:
        raise BadConfig("--recordings needs a manifest: a .tsv with audio, language and a language code per text")
    from streamtrans.cli.report import keep, progress
    from streamtrans.evaluate import Watch, describe_machine
    from streamtrans.evaluate.machine import invocation
    from streamtrans.evaluate.manifest import read_talks
    from streamtrans.evaluate.recordings import RecordingsConfig, evaluate_recordings
    from streamtrans.runtime import identity, load_alone

    talks = read_talks(wished.manifest)
    config = RecordingsConfig(
        targets=wished.targets,
        together=wished.together,
        drafter=choice.drafter,
        top_k=choice.engine_config(slots=1).top_k,
        silence_ms=wished.silence_ms,
        without=wished.without,
    )
    for folder in (results, texts.parent if texts else None):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)  # a wrong path shall not cost an evaluation
    loaded = load_alone(choice)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("recordings", total=len(talks))
        result = evaluate_recordings(
            cast("SpeechModel", loaded),
            loaded.tokenizer,
            talks,
            config,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    changed = {"silence_ms": wished.silence_ms, "without_layer": wished.without}
    figures = {"model": identity(choice.model), **changed, **result.figures()}
    if texts is not None:
        lines = ["row\tsource\ttarget\treference\thypothesis"]
        for text in result.texts:
            cells = (text.row, text.source, text.target, text.reference, text.hypothesis)
            lines.append("\t".join(" ".join(cell.split()) for cell in cells))
        texts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if results is not None:
        keep("recordings", figures, watch.measured, results)
    if as_json:
        about = {
            "command": invocation(),
            "machine": asdict(describe_machine()),
            "measured": asdict(watch.measured),
        }
        typer.echo(json.dumps({**about, **figures}, indent=1, ensure_ascii=False))
    else:
        _show(result)


def _show(result: RecordingsResult) -> None:
    from streamtrans.cli.report import show

    spoken = sorted({*result.bleu, *result.error_rate})
    written = sorted({*(code for row in result.bleu.values() for code in row), *result.error_rate})
    lines = [
        [
            source,
            *(
                (f"{result.error_rate[code]:.1%}" if code in result.error_rate else None)
                if code == source
                else (f"{result.bleu[source][code]:.1f}" if code in result.bleu.get(source, {}) else None)
                for code in written
            ),
        ]
        for source in spoken
    ]
    show("BLEU from row to column; errors of transcripts on the diagonal", ["", *written], lines)
    chrf = [[source, *(result.chrf.get(source, {}).get(code) for code in written)] for source in spoken]
    show("chrF", ["", *written], chrf)
    mean = None if result.mean_bleu is None else round(result.mean_bleu, 2)
    show("all of it", ["", "value"], [["mean BLEU", mean], ["recordings", result.recordings]])
