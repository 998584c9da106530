"""``streamtrans record``: a session with all that it takes to replay it, in a file."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.audio import Decoder, duration_seconds, stream_file
from streamtrans.cli.options import Captions, Languages, Model
from streamtrans.cli.outputs import refuse_existing
from streamtrans.core import LIVE, SAMPLE_RATE, BadConfig, Caption, Event
from streamtrans.runtime import Loaded, ModelChoice, load
from streamtrans.stream import FileSink, Origin, Recorder, Session, fingerprint, pump, settle
from streamtrans.vad import vad_window

if TYPE_CHECKING:
    from streamtrans_clients import Board, Source

    from streamtrans.engine import Engine
    from streamtrans.stream.listener import Samples

    Show = Callable[[list[Event]], None]

SUFFIX = ".stsession"

PACKAGES = ("torch", "numpy", "silero-vad")
"""Whose versions a recording tells, beside ours."""

_BLOCK_S = 0.1
"""Audio heard at a time, as live streams send it."""

_FULL_POLL_S = 0.02
"""How often a full session is asked whether it has room again."""


def record(
    out: Annotated[Path, typer.Argument(help=f"The file to write: NAME{SUFFIX}.", show_default=False)],
    audio: Annotated[
        Path | None,
        typer.Argument(help="A WAV, FLAC, OGG or MP3 file. By default the microphone is heard.", show_default=False),
    ] = None,
    *,
    languages: Languages,
    captions: Captions = LIVE,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Hear the file as fast as it was spoken, and be late where that is hard.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recording that exists.")] = False,
    microphone: Annotated[
        str | None,
        typer.Option(help="Which one: its number or a part of its name (streamtrans-mic --list-devices)."),
    ] = None,
    choice: Model,
) -> None:
    """Record a session: its audio, its captions, and what the model answered when.

    What the microphone hears, until Ctrl-C, with captions meanwhile:

        streamtrans record talk.stsession --to de,fr

    A file as if somebody spoke it now:

        streamtrans record talk.stsession talk.wav --to de --realtime

    streamtrans replay talk.stsession then comes to the same captions bit for bit, or says where it doesn't. The
    file holds what was said: only its owner may read it.
    """
    _check(out, audio, microphone, realtime=realtime)
    refuse_existing(out, overwrite=overwrite)
    targets = languages.targets
    loaded = load(choice, slots=max(16, len(targets)))
    try:
        loaded.check_languages(targets, languages.source)
        config = loaded.session_config(targets, languages.source, choice.vad, captions)
        window = vad_window(choice.vad)
        session = Session(config, loaded.spellers, window=window)
        recorder = Recorder(session, FileSink(out), origin_of(choice, loaded), window=window)
        _refuse_unwritten(out, recorder)
        try:
            finals = _run(recorder, loaded, audio, microphone, realtime=realtime)
        finally:
            recorder.close()
    finally:
        loaded.engine.close()
    _refuse_unwritten(out, recorder)
    heard_s = recorder.cursors.received / SAMPLE_RATE
    typer.echo(f"{out}: {heard_s:.1f} s, {finals} captions; streamtrans replay {out}", err=True)
    if failed := recorder.stats.failures:
        typer.echo(f"{failed} readings failed; captions may be missing", err=True)


def origin_of(choice: ModelChoice, loaded: Loaded) -> Origin:
    """Describe a loaded model for a recording."""
    from importlib.metadata import version

    import torch

    from streamtrans import __version__

    settings = {
        "model": choice.model,
        "translator": choice.translator,
        "device": str(loaded.model.device),
        "dtype": loaded.model.precision,
        "threads": torch.get_num_threads(),
        "zero_shot": choice.zero_shot,
        "engine": asdict(loaded.config),
    }
    packages = {name: version(name) for name in PACKAGES}
    return Origin(
        loaded.name,
        fingerprints(choice.model, choice.translator),
        settings,
        {"streamtrans": __version__, **packages},
        loaded.layout,
    )


def fingerprints(model: str | None, translator: str | None) -> str:
    """Return what tells the weights from others, of both models where there are two."""
    from streamtrans.model.loading import find_folder

    ear = fingerprint(find_folder(model))
    return ear if translator is None else f"{ear}+{fingerprint(find_folder(translator))}"


def _check(out: Path, audio: Path | None, microphone: str | None, *, realtime: bool) -> None:
    """Refuse what could only fail after the model was loaded, or overwrite what is no recording."""
    if out.suffix != SUFFIX:
        raise BadConfig(f"{out} is to be written, and recordings are named NAME{SUFFIX}; the audio comes second")
    if audio is not None and microphone is not None:
        raise BadConfig(f"--microphone {microphone} and {audio} can't both be heard; give one of them")
    if audio is None and realtime:
        raise BadConfig("--realtime is for files; a microphone has no other time")
    if audio is not None:
        duration_seconds(audio)
    else:
        _find_microphones()


def _find_microphones() -> None:
    from streamtrans_clients import SourceError, microphones

    try:
        if not microphones():
            raise SourceError("there is no microphone; connect one")
    except SourceError as error:
        raise BadConfig(f"{error}; or name an audio file after the recording") from error


def _refuse_unwritten(out: Path, recorder: Recorder) -> None:
    if recorder.error is not None:
        reason = recorder.error.strerror or recorder.error
        kept = "; what was written until then can be replayed" if recorder.cursors.received else ""
        raise BadConfig(f"{out} can't be written: {reason}{kept}")


def _run(recorder: Recorder, loaded: Loaded, audio: Path | None, microphone: str | None, *, realtime: bool) -> int:
    """Let the session hear everything, show its captions, and return the number of final ones."""
    finals = 0
    with _board() as board:

        def show(events: list[Event]) -> None:
            nonlocal finals
            for event in events:
                board.show(event)
                finals += isinstance(event, Caption) and event.final and bool(event.text.strip())

        if audio is not None and not realtime:
            for block in stream_file(audio, _BLOCK_S):
                recorder.hear(block)
                settle(recorder, loaded.engine)
                show(recorder.events())
            recorder.end()
            settle(recorder, loaded.engine)
            show(recorder.events())
        else:
            hearing = partial(_played, audio) if audio is not None else partial(_spoken, microphone, board)
            asyncio.run(_live(recorder, loaded.engine, hearing, show))
    return finals


def _board() -> Board:
    from rich.console import Console
    from streamtrans_clients import FinalLines, TerminalBoard

    console = Console()
    return TerminalBoard(console, footer="Ctrl-C ends") if console.is_terminal else FinalLines(console)


async def _live(
    recorder: Recorder, engine: Engine, hearing: Callable[[asyncio.Event], AsyncIterator[Samples]], show: Show
) -> None:
    """Pump the session while it hears; the first Ctrl-C ends the sound, and the last captions still come."""
    stop, changed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGINT, lambda _number, _frame: loop.call_soon_threadsafe(stop.set))

    async def hear() -> None:
        async for samples in hearing(stop):
            recorder.hear(samples)
            changed.set()
            while recorder.full:
                await asyncio.sleep(_FULL_POLL_S)
        recorder.end()
        changed.set()

    async def emit(events: list[Event]) -> None:
        show(events)

    tasks = [asyncio.create_task(hear()), asyncio.create_task(pump(recorder, engine, changed=changed, emit=emit))]
    try:
        await asyncio.gather(*tasks)
    finally:
        signal.signal(signal.SIGINT, before)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _played(path: Path, stop: asyncio.Event) -> AsyncIterator[Samples]:
    """Yield each block at the moment at which its last sample would have been spoken."""
    loop = asyncio.get_running_loop()
    began, played = loop.time(), 0
    for block in stream_file(path, _BLOCK_S):
        played += len(block)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, began + played / SAMPLE_RATE - loop.time())):
                await stop.wait()
        if stop.is_set():
            return
        yield block


async def _spoken(device: str | None, board: Board, stop: asyncio.Event) -> AsyncIterator[Samples]:
    """Yield what a microphone hears."""
    from streamtrans_clients import SourceError, loudness

    try:
        source = _microphone(device, stop)
        decoder = Decoder("pcm_s16le", source.sample_rate_hertz, source.channels)
        print(f"listening to {source.name}; Ctrl-C ends", file=sys.stderr)
        async for chunk in source.chunks:
            board.level(loudness(chunk))
            yield decoder.decode(chunk)
        yield decoder.flush()
    except SourceError as error:
        raise BadConfig(str(error)) from error


def _microphone(device: str | None, stop: asyncio.Event) -> Source:
    from streamtrans_clients import microphone

    return microphone(int(device) if device is not None and device.isdigit() else device, stop)
