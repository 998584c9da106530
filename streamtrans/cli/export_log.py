"""``streamtrans export-log``: a log of an evaluation becomes a file for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen


def export_log(
    logs: Annotated[list[Path], typer.Argument(metavar="LOG...", help="Logs of a run: one per talk.")],
    *,
    form: Annotated[str, typer.Option("--format", parser=Chosen, metavar="NAME", help="simulstream or omnisteval.")],
    to: Annotated[Path, typer.Option(help="The file to write.")],
    language: Annotated[str, typer.Option(help="Which language; needed where the logs hold several.")] = "",
) -> None:
    """Write logs of talks in the format of simulstream or OmniSTEval.

    For example:

        streamtrans export-log talk.log --format omnisteval --to talk.jsonl

        omnisteval longform --hypothesis_file talk.jsonl --speech_segmentation talk.jsonl.segments.yaml
        --ref_sentences_file talk.jsonl.references.txt --word_level

    The times and texts of the reference are written beside the file where the logs know them. What is missing
    of a log that was cut off is told, and the rest is written.
    """
    from streamtrans.evaluate.exports import EXPORTS
    from streamtrans.evaluate.logs import read_log

    export = EXPORTS.load(form)
    if to.resolve() in {path.resolve() for path in logs}:
        raise BadConfig(f"--to {to} is one of the logs: give the export a name of its own")
    read = [read_log(path) for path in logs]
    for path, log in zip(logs, read, strict=True):
        for problem in log.problems:
            typer.echo(f"{path}: {problem}", err=True)
    found = sorted({target for log in read for target in log.header.targets})
    if not language and len(found) != 1:
        raise BadConfig(f"the logs hold {', '.join(found) or 'no language'}: say which one with --language")
    for file in export(read, to, language or found[0]):
        typer.echo(str(file))
