"""A recording that is sent whole becomes a call: its file is decoded piece by piece, as fast as it is read.

Law: of what is sent no more is kept than the server allows, and nothing once it has been answered.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, Self, TypeVar, cast

import grpc
from aiohttp import web

from streamtrans.audio import stream_file
from streamtrans.core import SAMPLE_RATE, BadAudio, Caption, samples
from streamtrans.server.config import ServerConfig
from streamtrans.server.dropin.desk import Desk
from streamtrans.server.http import peer_of
from streamtrans.server.link import Metadata
from streamtrans.server.refusal import Refusal, idle, invalid
from streamtrans.wire import (
    BYTES_PER_SAMPLE,
    BadFields,
    ClientMessage,
    Reducer,
    ServerMessage,
    Started,
    StreamOptions,
    audio_message,
    config_message,
    end_message,
    payload_of,
    started_from_proto,
)

T = TypeVar("T")

_BLOCK_S = 0.25
"""Of a recording, in one message."""

_IN_MEMORY = 1 << 20
"""Bytes that are received before the file is written to."""

Told = Callable[[Caption], Awaitable[None]]
"""Is given each final caption as soon as there is one."""


async def _nobody(_caption: Caption) -> None:
    """Tell nobody."""


class Upload:
    """A :class:`~streamtrans.server.link.Link` whose client has said all before.

    Args:
        options: what is wanted.
        pieces: the audio, in the encoding of ``options``.
    """

    def __init__(self, options: StreamOptions, pieces: AsyncIterator[bytes]) -> None:
        self.captions: list[Caption] = []
        """The final ones."""
        self.samples = 0
        """That were heard."""
        self._options = options
        self._pieces = pieces
        self._told: Told = _nobody
        self._reducer = Reducer()
        self._started: Started | None = None
        self._sequence: int | None = None

    @property
    def duration_s(self) -> float:
        """How long that is."""
        return self.samples / SAMPLE_RATE

    @property
    def targets(self) -> tuple[str, ...]:
        """The languages that are written, as captions call them."""
        return () if self._started is None else self._started.options.targets

    def telling(self, told: Told) -> Self:
        """Have each final caption told as soon as there is one."""
        self._told = told
        return self

    def of(self, language: str) -> list[Caption]:
        """Return the captions of one language that say something."""
        return [caption for caption in self.captions if caption.language == language and caption.text.strip()]

    @property
    def model(self) -> str:
        """Which model read it."""
        return "" if self._started is None else self._started.model

    def joint(self, language: str) -> str:
        """Return what stands between the texts of two segments."""
        return "" if self._started is not None and language in self._started.unspaced_languages else " "

    def text(self, language: str) -> str:
        """Return the whole text."""
        return self.joint(language).join(" ".join(caption.text.split()) for caption in self.of(language))

    async def read(self) -> ClientMessage:
        """Return what stands for the recording: a configuration, its audio, the end."""
        if self._sequence is None:
            self._sequence = 0
            try:
                return config_message(self._options)
            except BadFields as error:
                raise invalid(error.fields) from error
        piece = await anext(self._pieces, None)
        if piece is None:
            return end_message(self._sequence)
        self._sequence += 1
        return audio_message(piece, self._sequence)

    async def write(self, message: ServerMessage) -> None:
        """Take what the call says."""
        kind = payload_of(message)
        if kind == "started":
            self._started = started_from_proto(message)
        elif kind == "summary":
            self.samples = samples(message.summary.audio_ms)
        event = self._reducer.reduce(message)
        if isinstance(event, Caption) and event.final:
            self.captions.append(event)
            await self._told(event)

    async def close(self, refusal: Refusal | None = None) -> None:
        """Do nothing: whoever sent the recording is answered otherwise."""


Receive = Callable[[BinaryIO], Awaitable[Upload]]
"""Writes what a client sends to a file, and returns what to do with it."""


async def hear(desk: Desk, request: web.Request, token: str, metadata: Metadata, receive: Receive) -> Upload:
    """Return what came of a recording that ``receive`` writes to the file which it is given.

    Raises:
        Refusal: alone or in a group: who calls isn't served, or the recording can't be read to its end.
    """
    if (foreign := desk.foreign(request)) is not None:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, (foreign.text or "").strip())
    desk.service.refuse_speaker(metadata)  # who is turned away should hear it before he sends anything
    config, peer = desk.config, peer_of(request)
    limits = replace(config.limits, max_real_time_factor=config.upload_real_time_factor)
    with desk.uploads.place(peer), _scratch() as file:
        upload = await _in_time(receive(file), config.upload_timeout_ms)
        await desk.service.stream(token, upload, peer, metadata, replace(config, limits=limits))
    return upload


async def _in_time(receiving: Awaitable[Upload], within_ms: int) -> Upload:
    try:
        async with asyncio.timeout(within_ms / 1000):
            return await receiving
    except TimeoutError as error:
        raise invalid([("file", f"didn't arrive within {within_ms / 1000:g} s; send it in parts")]) from error


@contextmanager
def _scratch() -> Iterator[BinaryIO]:
    """Give a file without a name where there may be one, so that nothing of it stays, whatever happens."""
    make = tempfile.TemporaryFile if sys.platform == "linux" else tempfile.NamedTemporaryFile
    with make(prefix="streamtrans-") as file:
        yield cast(BinaryIO, file)


async def fill(file: BinaryIO, chunks: AsyncIterator[bytes], config: ServerConfig) -> None:
    """Write ``chunks`` to ``file``, as many as may be.

    Raises:
        Refusal: there are more, or none, or the next one doesn't come in time.
    """
    most, size = config.max_upload_mb * 1_000_000, 0
    async for chunk in patient(chunks, config.limits.idle_ms):
        size += len(chunk)
        if size > most:
            raise invalid([("file", f"has more than {config.max_upload_mb} MB; send it in parts")])
        if size <= _IN_MEMORY:
            file.write(chunk)
        else:
            await asyncio.to_thread(file.write, chunk)
    if not size:
        raise invalid([("file", "is empty; send a recording")])
    file.flush()


async def patient(pieces: AsyncIterator[T], idle_ms: int) -> AsyncIterator[T]:
    """Yield ``pieces``.

    Raises:
        Refusal: the next one doesn't come in time.
    """
    while True:
        try:
            async with asyncio.timeout(idle_ms / 1000):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise idle(idle_ms) from error
        yield piece


async def decoded(file: BinaryIO, most_ms: int) -> AsyncIterator[bytes]:
    """Yield the sound of a container as ``pcm_f32le`` at 16 kHz.

    Raises:
        Refusal: it is no audio that can be read, or longer than ``most_ms``.
    """
    name = f"/proc/self/fd/{file.fileno()}" if sys.platform == "linux" else file.name
    blocks, left = stream_file(name, _BLOCK_S), most_ms * SAMPLE_RATE // 1000
    while True:
        try:
            block = await asyncio.to_thread(next, blocks, None)
        except BadAudio as error:
            raise invalid([("file", str(error).removeprefix(f"{name}: "))]) from error
        if block is None:
            return
        left -= len(block)
        if left < 0:
            raise invalid([("file", f"is longer than {most_ms / 60_000:g} minutes; send it in parts")])
        yield block.astype("<f4").tobytes()


async def raw(file: BinaryIO, options: StreamOptions) -> AsyncIterator[bytes]:
    """Yield the bytes of a file without a header, in pieces of whole frames."""
    frame = BYTES_PER_SAMPLE[options.encoding] * options.channels
    step = max(1, round(options.sample_rate_hertz * _BLOCK_S)) * frame
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, step):
        yield chunk
