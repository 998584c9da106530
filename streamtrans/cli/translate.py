"""``streamtrans translate``: recordings become captions, subtitles, tables or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from streamtrans.cli import streams
from streamtrans.cli.inputs import Recording, gathered
from streamtrans.cli.options import (
    ENGLISH,
    Device,
    Drafter,
    Dtype,
    From,
    Model,
    Threads,
    To,
    TopK,
    Vad,
    languages,
    spoken_language,
)
from streamtrans.cli.outputs import Outcome, Output
from streamtrans.core import BadConfig
from streamtrans.runtime import ModelChoice, load

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
    to: To = ENGLISH,
    source: From = None,
    srt: Annotated[bool, typer.Option("--srt", help="Write FILE.LANGUAGE.srt for each language.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="Write FILE.LANGUAGE.vtt for each language.")] = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Write FILE.LANGUAGE.tsv: start, end (in ms) and text.")] = False,
    txt: Annotated[bool, typer.Option("--txt", help="Write FILE.LANGUAGE.txt: the text alone.")] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where these files go; by default beside each recording.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per file.")] = False,
    grow: Annotated[
        bool,
        typer.Option(
            "--grow",
            help="Read while speech goes on, and show captions in the making on a terminal: dearer, and sentences are "
            "divided otherwise.",
        ),
    ] = False,
    together: Annotated[int, typer.Option(min=1, help="Files read at once; the model batches them.")] = 8,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drafter: Drafter = None,
    top_k: TopK = "1",
    vad: Vad = "silero",
    threads: Threads = None,
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
    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    targets = languages(to)
    spoken = spoken_language(source)
    wanted = {"srt": srt, "vtt": vtt, "tsv": tsv, "txt": txt}
    formats = tuple(name for name, asked in wanted.items() if asked)
    output = Output(formats, output_dir, as_json, targets, overwrite)
    paths = list(dict.fromkeys(files))
    _check(output, paths)
    with gathered(paths) as (found, failures):
        failures |= {each.path: problem for each in found if (problem := output.check(each))}
        recordings = [each for each in found if each.path not in failures]
        outcome = Outcome({path: [failure] for path, failure in failures.items()})
        if recordings:
            from streamtrans.cli.batch import translate_all

            loaded = load(choice, slots=max(16, min(together, len(recordings)) * len(targets)))
            loaded.check_languages(targets, spoken)
            mode: Literal["live", "final"] = "live" if grow else "final"
            config = replace(loaded.session_config(targets, spoken, vad, mode), words=True)
            translate_all(loaded, config, recordings, output, together=together, outcome=outcome)
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
    if output.folder is not None:
        try:
            output.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfig(f"--output-dir {output.folder} can't be made: {error.strerror}") from error
    seen: dict[Path, Path] = {}
    for path in paths if output.formats else ():
        name = output.place(Recording(path, path), "", "")
        if name in seen:
            raise BadConfig(
                f"{seen[name]} and {path} would write the same files; rename one of them, or translate it apart"
            )
        seen[name] = path
