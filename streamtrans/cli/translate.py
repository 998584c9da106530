"""``streamtrans translate``: recordings become captions, subtitles or JSON."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamtrans.audio import duration_seconds
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
from streamtrans.cli.subtitles import FORMATS, Cue
from streamtrans.core import SAMPLE_RATE, BadAudio, BadConfig, StreamtransError, milliseconds
from streamtrans.runtime import Loaded, ModelChoice, load
from streamtrans.stream import SessionConfig

if TYPE_CHECKING:
    from streamtrans.cli.progress import Display
    from streamtrans.cli.reading import Translated


@dataclass(frozen=True, slots=True)
class Output:
    """What to write of each file."""

    formats: tuple[str, ...]
    folder: Path | None
    json: bool
    targets: tuple[str, ...]

    def subtitle(self, path: Path, language: str, extension: str) -> Path:
        """Return where a subtitle file goes: beside the recording unless a folder was named."""
        return (self.folder or path.parent) / f"{path.stem}.{language}.{extension}"


def translate(
    files: Annotated[list[Path], typer.Argument(help="Recordings: WAV, FLAC, OGG, MP3.", show_default=False)],
    *,
    to: To = ENGLISH,
    source: From = None,
    srt: Annotated[bool, typer.Option("--srt", help="Write FILE.LANGUAGE.srt for each language.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="Write FILE.LANGUAGE.vtt for each language.")] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where subtitles go; by default beside each recording.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per file.")] = False,
    grow: Annotated[
        bool | None,
        typer.Option(
            "--grow/--no-grow",
            help="Show captions while they grow, which costs more readings. By default on a terminal.",
            show_default=False,
        ),
    ] = None,
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

    Watch German and French captions grow, and keep them as subtitles:

        streamtrans translate talk.wav --to de,fr --srt

    A folder of recordings as one line of JSON per file, for further use:

        streamtrans translate recordings/*.flac --to en --json > captions.jsonl

    A transcript is a translation into the spoken language: --to es for Spanish speech.

    A file that can't be read is named on standard error, the others go on; the exit status is then 1.
    """
    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    targets = languages(to)
    output = Output(
        tuple(name for name, wanted in (("srt", srt), ("vtt", vtt)) if wanted), output_dir, as_json, targets
    )
    paths = list(dict.fromkeys(files))
    _check_output(output, paths)
    lengths, failures = _lengths(paths)
    if lengths:
        growing = sys.stdout.isatty() and not as_json if grow is None else grow
        spoken = spoken_language(source)
        loaded = load(choice, slots=max(16, min(together, len(lengths)) * len(targets)))
        loaded.check_languages(targets, spoken)
        mode: Literal["live", "final"] = "live" if growing else "final"
        config = loaded.session_config(targets, spoken, vad, mode)
        failures |= _run(loaded, config, lengths, output, together)
    for path in paths:
        if path in failures:
            print(f"error: {failures[path]}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)


def _check_output(output: Output, paths: Sequence[Path]) -> None:
    """Refuse what could only fail after all the work."""
    if output.folder is not None:
        try:
            output.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfig(f"--output-dir {output.folder} can't be made: {error.strerror}") from error
    seen: dict[Path, Path] = {}
    for path in paths if output.formats else ():
        name = output.subtitle(path, "", "")
        if name in seen:
            raise BadConfig(
                f"{seen[name]} and {path} would write the same subtitle file; rename one of them, or translate it apart"
            )
        seen[name] = path


def _lengths(paths: Sequence[Path]) -> tuple[dict[Path, int], dict[Path, str]]:
    """Return the samples of each readable file, and what is wrong with each other one."""
    lengths: dict[Path, int] = {}
    failures: dict[Path, str] = {}
    for path in paths:
        try:
            lengths[path] = round(duration_seconds(path) * SAMPLE_RATE)
        except BadAudio as error:
            failures[path] = str(error)
    return lengths, failures


def _run(
    loaded: Loaded, config: SessionConfig, lengths: dict[Path, int], output: Output, together: int
) -> dict[Path, str]:
    """Translate all files, write each as soon as it and those before it are done; return what went wrong."""
    from streamtrans.cli.progress import Display
    from streamtrans.cli.reading import Watcher, translate_file

    failures: dict[Path, str] = {}
    stop = threading.Event()
    growing = config.mode == "live" and sys.stdout.isatty()
    pool = ThreadPoolExecutor(max_workers=together, thread_name_prefix="file")
    try:
        with Display(lengths, growing=growing) as display:
            work = partial(
                translate_file,
                config=config,
                tokenizer=loaded.model.tokenizer,
                engine=loaded.engine,
                watcher=Watcher(display.heard, display.events),
                stop=stop,
            )
            pending = [(path, pool.submit(work, path)) for path in lengths]
            for path, outcome in _settled(pending, display):
                if isinstance(outcome, str):
                    failures[path] = outcome
                    continue
                _write(outcome, output)
                if not output.json and not growing:
                    _print(outcome, len(lengths) > 1)
                if failed := outcome.stats.failures:
                    failures[path] = f"{path}: {failed} readings failed; captions may be missing"
    finally:
        stop.set()
        loaded.engine.close()
        pool.shutdown(cancel_futures=True)
    return failures


def _settled(
    pending: Sequence[tuple[Path, Future[Translated]]], display: Display
) -> Iterator[tuple[Path, Translated | str]]:
    """Yield each file's result, or what was wrong with it."""
    for path, future in pending:
        try:
            done = future.result()
        except StreamtransError as error:
            text = str(error)
            yield path, text if str(path) in text else f"{path}: {text}"
            display.done(path)
        else:
            display.done(path)
            yield path, done


def _write(done: Translated, output: Output) -> None:
    """Write the subtitles, and the line of JSON."""
    from streamtrans_clients import marked

    for language in output.targets:
        cues = [
            Cue(milliseconds(caption.start), milliseconds(min(caption.end, done.samples)), marked(caption))
            for caption in done.captions
            if caption.language == language
        ]
        for extension in output.formats:
            path = output.subtitle(done.path, language, extension)
            try:
                path.write_text(FORMATS[extension](cues), encoding="utf-8")
            except OSError as error:
                raise BadConfig(f"{path} can't be written: {error.strerror}") from error
    if output.json:
        print(json.dumps(done.summary(), ensure_ascii=False), flush=True)


def _print(done: Translated, named: bool) -> None:
    from streamtrans_clients import clock, marked

    for caption in done.captions:
        name = f"{done.path} " if named else ""
        print(f"{name}{clock(caption.start)} {caption.language:<3} {marked(caption)}", flush=True)
