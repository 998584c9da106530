"""``streamtrans translate``: recordings become captions, subtitles, tables or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from streamtrans.cli import streams
from streamtrans.cli.inputs import Recording, gathered
from streamtrans.cli.options import Captions, Languages, Model
from streamtrans.cli.outputs import Outcome, Output
from streamtrans.core import BadConfig, CaptionChoice, Group
from streamtrans.runtime import load

_WHOLE = CaptionChoice("final")

_INTERRUPTED = 130
"""The exit status of what Ctrl-C ended, as shells have it."""


def translate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings: WAV, FLAC, OGG, MP3; m4a, webm and videos with the extra av; - is standard input.",
            show_default=False,
        ),
    ],
    *,
    languages: Languages,
    captions: Captions = _WHOLE,
    grow: Annotated[
        bool,
        typer.Option(
            "--grow",
            help="The same as --mode live: read while speech goes on, and show captions in the making on a terminal: "
            "dearer, and sentences are divided otherwise.",
        ),
    ] = False,
    output: Annotated[Output, Group(heading="Files and lines that are written")],
    together: Annotated[int, typer.Option(min=1, help="Files read at once; the model batches them.")] = 8,
    choice: Model,
) -> None:
    """Translate recordings.

    Read German and French captions, and keep them as subtitles:

        streamtrans translate talk.wav --to de,fr --srt

    A folder of recordings as one line of JSON per file, for further use:

        streamtrans translate recordings/*.flac --to en --json > captions.jsonl

    A transcript is a translation into the spoken language: --to es for Spanish speech.

    The sound of a video, or of anything that another program writes:

        yt-dlp -o - ADDRESS | streamtrans translate - --to de --srt

    A file that can't be read is named on standard error, the others go on; the exit status is then 1. Ctrl-C keeps
    what was made until then.
    """
    output = replace(output, targets=languages.targets)
    paths = list(dict.fromkeys(files))
    _check(output, paths)
    with gathered(paths) as (found, failures):
        failures |= {each.path: problem for each in found if (problem := output.check(each))}
        recordings = [each for each in found if each.path not in failures]
        outcome = Outcome({path: [failure] for path, failure in failures.items()})
        if recordings:
            from streamtrans.cli.batch import translate_all

            loaded = load(choice, slots=max(16, min(together, len(recordings)) * len(languages.targets)))
            loaded.check_languages(languages.targets, languages.source)
            config = loaded.session_config(
                languages.targets, languages.source, choice.vad, _growing(captions, grow=grow)
            )
            config = replace(config, words=True)
            translate_all(loaded, config, recordings, output, together=together, outcome=outcome)
    _tell(outcome, paths)


def _growing(captions: CaptionChoice, *, grow: bool) -> CaptionChoice:
    if grow and captions.mode == "stable":
        raise BadConfig("--grow says --mode live, and --mode stable is given; leave one of them out")
    return replace(captions, mode="live") if grow else captions


def _tell(outcome: Outcome, paths: Sequence[Path]) -> None:
    """Say what is to be known, and end with a status that says whether all went well."""
    for note in outcome.notes:
        streams.complain(f"note: {note}")
    for path in paths:
        for problem in outcome.failures.get(path, ()):
            streams.complain(f"error: {path}: {problem}")
    if outcome.interrupted or outcome.lost or outcome.failures:
        raise typer.Exit(_INTERRUPTED if outcome.interrupted else 1)


def _check(output: Output, paths: Sequence[Path]) -> None:
    """Refuse what could only fail after all the work."""
    if isinstance(sys.stdout, streams.Closed) and not output.formats:
        raise BadConfig("standard output is closed, so captions would go nowhere; give --srt, --vtt, --tsv or --txt")
    if output.output_dir is not None:
        try:
            output.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfig(f"--output-dir {output.output_dir} can't be made: {error.strerror}") from error
    seen: dict[Path, Path] = {}
    for path in paths if output.formats else ():
        name = output.place(Recording(path, path), "", "")
        if name in seen:
            raise BadConfig(
                f"{seen[name]} and {path} would write the same files; rename one of them, or translate it apart"
            )
        seen[name] = path
