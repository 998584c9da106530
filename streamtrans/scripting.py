"""What notebooks and scripts call: a recording's captions, live captions, and a server in this process.

Law: they say what ``streamtrans translate`` and a server say; nothing is read in another way here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from streamtrans.audio import duration_seconds
from streamtrans.cli.inputs import Recording
from streamtrans.cli.reading import Translated, Watcher, translate_file
from streamtrans.client import StreamOptions, TranslationClient, Unavailable, stream_file
from streamtrans.core import BadAudio, BadConfig, Caption, CaptionChoice, UnsupportedLanguage
from streamtrans.runtime import Loaded, ModelChoice, load
from streamtrans.server import Limits, ServerConfig, TranslationServer
from streamtrans.server.offer import what_is_served
from streamtrans.text import canonical, written
from streamtrans.text.subtitles import Cue, cue, srt, txt, vtt

T = TypeVar("T")

Samples = npt.NDArray[np.floating[Any]]
"""Floats in [-1, 1], shape ``(n,)``, at 16 kHz."""

Sound = str | os.PathLike[str] | Samples | AsyncIterator[Samples]
"""An audio file, samples, or pieces of samples as they are spoken."""

_WHOLE = CaptionChoice("final")
_LIVE = CaptionChoice("live")

_BLOCK_S = 0.5
"""Of a file, in one piece."""

_SLOTS = 16
"""Texts decoded at once."""

_UNPACED = Limits(max_real_time_factor=1e6, burst_ms=10**9)
"""A server of one's own hears as fast as it can read."""

_GRACE_MS = 1_000
"""For streams that are open when one's own server is left."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The captions of a recording, in one language or several."""

    path: Path
    targets: tuple[str, ...]
    """In the order in which they were asked for."""
    captions: tuple[Caption, ...]
    """All of them, in the order of their time; positions are samples at 16 kHz."""
    duration_s: float
    notes: tuple[str, ...] = ()
    """What one should know of the recording, such as that it is silent."""
    _samples: int = field(default=0, repr=False)

    def cues(self, language: str | None = None) -> list[Cue]:
        """Return start and end in milliseconds, text, and words with their times; of the only language by default.

        Raises:
            UnsupportedLanguage: it isn't one of the targets.
        """
        if language is None and len(self.targets) == 1:
            language = self.targets[0]
        if language is None or written(language) not in self.targets:
            raise UnsupportedLanguage(f"which language: {', '.join(self.targets)}? {language!r} was not asked for")
        return [cue(each, self._samples) for each in self.captions if each.language == written(language)]

    def text(self, language: str | None = None) -> str:
        """Return the text, a line for each sentence; raises what :meth:`cues` does."""
        return txt(self.cues(language)).removesuffix("\n")

    def srt(self, language: str | None = None) -> str:
        """Return a SubRip file, laid out to be read; raises what :meth:`cues` does."""
        return srt(self.cues(language))

    def vtt(self, language: str | None = None) -> str:
        """Return a WebVTT file, laid out to be read; raises what :meth:`cues` does."""
        return vtt(self.cues(language))


def translate(
    path: str | os.PathLike[str],
    to: str | Sequence[str],
    *,
    source: str | None = None,
    model: str | ModelChoice | None = None,
    captions: CaptionChoice = _WHOLE,
) -> Translation:
    """Translate a recording, as ``streamtrans translate`` does.

    A model is loaded for each call; for many recordings use :func:`serving`, which loads it once.

    Args:
        path: an audio file, or a video with the extra ``av``.
        to: a language or several (BCP-47); the spoken one asks for a transcript.
        source: the spoken language; by default any of the model's.
        model: a checkpoint folder, a hub name, or all that can be said of a model; by default the embedded one.
        captions: how captions are made.

    Raises:
        BadAudio: the file can't be read to its end.
        BadModel: the checkpoint is missing or broken.
        UnsupportedLanguage: the model doesn't know it; the message lists those that it knows.
    """
    choice = _choice(model)
    duration_seconds(path)  # what can't be read is told before a model is loaded
    loaded = load(choice, slots=_SLOTS)
    with loaded.engine:
        return _translated(loaded, choice.vad, Path(path), to, source=source, captions=captions)


async def captions(
    sound: Sound,
    to: str | Sequence[str],
    *,
    source: str | None = None,
    address: str | None = None,
    key: str | None = None,
    captions: CaptionChoice = _LIVE,
) -> AsyncGenerator[Caption, None]:
    """Yield captions while ``sound`` is heard: each is a complete reading that replaces the one before it.

    Args:
        sound: an audio file; samples at 16 kHz, ``(n,)`` floats; or an asynchronous iterator of such pieces, as of
            a microphone.
        to: a language or several (BCP-47); the spoken one asks for a transcript.
        source: the spoken language; by default any of the model's.
        address: ``host:port`` of a server; by default one with the embedded model is run meanwhile, here.
        key: shows servers that ask for one who calls.
        captions: how captions are made.

    Raises:
        BadAudio: the file can't be read to its end.
        ClientError: the server refused, or there is none.
    """
    options = StreamOptions(
        _several(to),
        source_languages=() if source is None else (source,),
        mode=captions.mode,
        erasure_budget=captions.erasure_budget,
        latency_budget_ms=captions.latency_budget_ms,
        min_silence_ms=captions.min_silence_ms,
        max_segment_ms=captions.max_segment_ms,
    )
    async with AsyncExitStack() as undo:
        if address is None:
            server = Serving()
            await asyncio.to_thread(server.__enter__)
            undo.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
            address = server.address
        client = await undo.enter_async_context(TranslationClient(address, key=key))
        await _refuse_absent(client)
        events = client.translate(options, _pieces(sound))
        await undo.enter_async_context(aclosing(events))
        async for event in events:
            if isinstance(event, Caption):
                yield event


def serving(model: str | ModelChoice | None = None, config: ServerConfig | None = None) -> Serving:
    """Return a server to enter with ``with``; see :class:`Serving`."""
    return Serving(model, config)


class Serving:
    """A server in this process, in a thread of its own; use it as a context manager.

    Args:
        model: a checkpoint folder, a hub name, or all that can be said of a model; by default the embedded one.
        config: how to listen and whom to admit; by default on a free port of this machine, as fast as can be read.
    """

    def __init__(self, model: str | ModelChoice | None = None, config: ServerConfig | None = None) -> None:
        self._choice = _choice(model)
        self._loaded: Loaded | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        config = config or ServerConfig(port=0, limits=_UNPACED, load=None, grace_ms=_GRACE_MS)
        self._server = TranslationServer(config, lambda: what_is_served(self._load(), self._choice.vad))
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Listen, load the model, and return once it is warm.

        Raises:
            BadConfig: the address can't be listened on.
            BadModel: the checkpoint is missing or broken.
        """
        with ExitStack() as undo:
            loop = self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="streamtrans server", daemon=True)
            thread.start()
            undo.callback(loop.close)
            undo.callback(thread.join)
            undo.callback(loop.call_soon_threadsafe, loop.stop)
            self._run(self._server.__aenter__())
            undo.callback(lambda: self._run(self._server.__aexit__(None, None, None)))
            self._run(self._server.ready())
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let streams that are open come to their ends, and let the model go."""
        self._loaded = None
        self._undo.close()

    @property
    def address(self) -> str:
        """Where it listens for gRPC: ``host:port``."""
        return f"{self._server.config.host}:{self._server.port}"

    @property
    def http_port(self) -> int | None:
        """Where it listens for WebSockets and HTTP, if ``config`` says that it does."""
        return self._server.http_port

    def translate(
        self,
        path: str | os.PathLike[str],
        to: str | Sequence[str],
        *,
        source: str | None = None,
        captions: CaptionChoice = _WHOLE,
    ) -> Translation:
        """Translate a recording with the model that is served; see :func:`translate`.

        Raises:
            BadAudio: the file can't be read to its end.
            UnsupportedLanguage: the model doesn't know it.
        """
        if self._loaded is None:
            raise BadConfig("the server isn't running; use it in `with streamtrans.serving() as server:`")
        return _translated(self._loaded, self._choice.vad, Path(path), to, source=source, captions=captions)

    def _load(self) -> Loaded:
        self._loaded = load(self._choice, slots=_SLOTS)
        return self._loaded

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the server was not entered"
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()


def _choice(model: str | ModelChoice | None) -> ModelChoice:
    return model if isinstance(model, ModelChoice) else ModelChoice(model)


def _several(to: str | Sequence[str]) -> tuple[str, ...]:
    return (to,) if isinstance(to, str) else tuple(to)


def _translated(
    loaded: Loaded,
    vad: str,
    path: Path,
    to: str | Sequence[str],
    *,
    source: str | None,
    captions: CaptionChoice,
) -> Translation:
    targets = tuple(dict.fromkeys(map(written, _several(to))))
    source = None if source is None else canonical(source)
    loaded.check_languages(targets, source)
    config = replace(loaded.session_config(targets, source, vad, captions), words=True)
    watcher = Watcher(lambda _path, _samples: None, lambda _path, _events: None)
    recording = Recording(path, path)
    done = translate_file(recording, config, loaded.spellers, loaded.engine, watcher=watcher, stop=threading.Event())
    if done.problem:
        raise BadAudio(f"{path}: {done.problem}")
    return Translation(path, targets, done.captions, done.duration_s, tuple(_notes(done)), done.samples)


def _notes(done: Translated) -> Iterator[str]:
    yield from done.notes
    if done.stats.failures:
        yield f"{done.stats.failures} readings failed; captions may be missing"
    if done.silent is not None:
        yield f"no speech was found{done.silent and ': '}{done.silent}"


async def _refuse_absent(client: TranslationClient) -> None:
    """Say what to do where there is no server."""
    try:
        await client.capabilities()
    except Unavailable as error:
        if error.retry_after_s is not None:
            raise  # it is there, and says itself what it is about
        problem = f"no server answers at {client.address}: start one (streamtrans serve), or leave the address out"
        raise Unavailable(error.code, problem) from error


async def _pieces(sound: Sound) -> AsyncIterator[Samples]:
    if isinstance(sound, np.ndarray):
        yield sound
    elif isinstance(sound, str | os.PathLike):
        blocks = stream_file(sound, _BLOCK_S)
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            yield block
    else:
        async for piece in sound:
            yield piece
