"""``streamtrans evaluate``: how well a model translates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrans.cli.options import Model, languages
from streamtrans.cli.recordings import Recordings
from streamtrans.cli.report import Kept
from streamtrans.cli.sentences import Sentences
from streamtrans.cli.streaming import Talks
from streamtrans.core import BadConfig, Group, asked


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
            "--to", help="Languages of the manifest to write. By default every reference.", show_default=False
        ),
    ] = None,
    talks: Annotated[Talks, Group(heading="Talks (with a manifest)")],
    recordings: Annotated[Recordings, Group(heading="Recordings (with a manifest)")],
    sentences: Annotated[Sentences, Group(heading="Sentences (without a manifest)")],
    together: Annotated[int, typer.Option(min=1, help="Utterances decoded, or talks played, at once.")] = 16,
    kept: Kept,
    choice: Model,
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

        streamtrans evaluate prompts.tsv --recordings --model openai/whisper-base --translator FOLDER
    """
    if recordings.recordings:
        _refuse("--recordings doesn't go with", talks, sentences)
        recordings.read(manifest, languages(to) if to else (), together, choice, kept)
        return
    _refuse("only --recordings has", recordings)
    if manifest is not None:
        _refuse("a manifest doesn't go with", sentences, **{"--texts": kept.texts})
        talks.play(manifest, languages(to) if to else (), together, choice, kept)
        return
    _refuse("without a manifest of talks there is no", talks, **{"--to": to})
    sentences.read(together, choice, kept)


def _refuse(why: str, *groups: Any, **more: object) -> None:
    """Refuse options that say nothing here.

    Raises:
        BadConfig: one of them is given.
    """
    named = [name for name, value in more.items() if value is not None]
    named += [
        each.flag for group in groups for each in asked(type(group)) if getattr(group, each.field) != each.default
    ]
    if named:
        raise BadConfig(f"{why} {', '.join(named)}")
