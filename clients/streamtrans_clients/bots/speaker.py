"""One who speaks in somebody else's program: sound is pushed in as it comes, and what is said of it comes out.

A microphone that is muted sends nothing, not even silence. So a speaker of whom nothing comes has paused: the segment
is closed, and after a while the stream is ended well, which gives its place at the server free. The next sound begins
another one.

Law: sound that waits is bounded; what doesn't fit is an error that is told, never a silent loss.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from streamtrans.client import (
    ClientError,
    StreamEvent,
    StreamOptions,
    TranslationClient,
    TranslationStream,
    UtteranceEnd,
    both_ways,
)

_WAITING_S = 60.0
"""Sound that may wait for a server that is away: larger outlasts longer breaks, and takes more memory."""

_QUIET_S = 0.6
"""After so long without a sound its segment is closed."""

_IDLE_S = 20.0
"""After so long its stream is ended: longer than most pauses in a talk, shorter than a server's patience."""

_AGAIN_S = 5.0
"""After an error nothing is tried for so long, unless the server names a time."""


_BYTES_PER_SAMPLE = 2

_NOTHING = b""
"""What comes where nothing comes in time."""


class BehindError(Exception):
    """Sound had to be thrown away: the server was away, or too slow, for too long."""


class SpeakerStream:
    """Streams of one speaker, one after the other; use it as an async context manager, which awaits the last captions.

    Args:
        client: the way to the server.
        options: asked anew whenever a stream begins.
        show: awaited with every event of every stream, in order; while it waits, the server replaces readings that are
            outdated by newer ones.
        fail: awaited with the error that ended a stream; the next sound begins another one after a while.
    """

    def __init__(
        self,
        client: TranslationClient,
        options: Callable[[], StreamOptions],
        show: Callable[[StreamEvent], Awaitable[None]],
        fail: Callable[[ClientError | BehindError], Awaitable[None]],
        *,
        quiet_s: float = _QUIET_S,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._client = client
        self._options = options
        self._show = show
        self._fail = fail
        self._quiet_s = quiet_s
        self._idle_s = idle_s
        self._waiting: asyncio.Queue[bytes | UtteranceEnd | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._behind = self._ended = False
        self._deaf_until = 0.0
        self._stream: TranslationStream | None = None
        self._targets: tuple[str, ...] = ()
        """What the open stream was asked to write."""
        self._living = asyncio.create_task(self._live())

    async def __aenter__(self) -> Self:
        """Begin; nothing is sent before the first sound."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: the last captions are awaited, unless it is left by an error."""
        if error is None:
            await self.close()
        else:
            await self.cancel()

    def hear(self, sound: bytes) -> None:
        """Take a piece of sound, in the encoding of the options; never waits."""
        if self._behind or self._ended or time.monotonic() < self._deaf_until:
            return
        if self._waiting_bytes + len(sound) > _most_bytes(self._options()):
            self._behind = True
            return
        self._waiting_bytes += len(sound)
        self._waiting.put_nowait(sound)

    def pause(self) -> None:
        """Close the segment here: whoever pushes knows that the utterance has ended."""
        self._waiting.put_nowait(UtteranceEnd())

    async def retarget(self) -> None:
        """Let the stream that is open write the languages that the options name now."""
        wanted = self._options().targets
        if self._stream is None or not wanted or set(wanted) == set(self._targets):
            return
        add = [each for each in wanted if each not in self._targets]
        remove = [each for each in self._targets if each not in wanted]
        self._targets = wanted
        with suppress(ClientError):  # a stream that has ended says so to who reads it
            await self._stream.update(add=add, remove=remove)

    async def close(self) -> None:
        """Hear no more, and await the last captions."""
        if not self._ended:
            self._ended = True
            self._waiting.put_nowait(None)
        await self._living

    async def cancel(self) -> None:
        """End at once, whatever is still to come."""
        self._ended = True
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)

    async def _live(self) -> None:
        while (first := await self._waiting.get()) is not None:
            if isinstance(first, UtteranceEnd):
                continue
            try:
                await self._one(first)
            except (ClientError, BehindError) as error:
                self._forget()
                wait_s = error.retry_after_s if isinstance(error, ClientError) else None
                self._deaf_until = time.monotonic() + (_AGAIN_S if wait_s is None else wait_s)
                await self._fail(error)
            if self._ended:
                return

    async def _one(self, first: bytes) -> None:
        options = replace(self._options(), resumable=True)
        stream = self._client.stream(options)
        async with stream, aclosing(both_ways(stream, self._sound(first))) as events:
            self._stream, self._targets = stream, options.targets
            try:
                await self.retarget()  # while it was being opened, somebody may have come
                async for event in events:
                    await self._show(event)
            finally:
                self._stream = None

    async def _sound(self, piece: bytes | UtteranceEnd | None) -> AsyncIterator[bytes | UtteranceEnd]:
        while piece is not None:
            if self._behind:
                raise BehindError("the server was away, or too slow, for a minute: sound was lost")
            if isinstance(piece, bytes):
                self._waiting_bytes -= len(piece)
            yield piece
            piece = await self._next(self._quiet_s)
            if piece is _NOTHING:
                yield UtteranceEnd()
                piece = await self._next(self._idle_s)
                if piece is _NOTHING:
                    return

    async def _next(self, within_s: float) -> bytes | UtteranceEnd | None:
        try:
            async with asyncio.timeout(within_s):
                return await self._waiting.get()
        except TimeoutError:
            return _NOTHING

    def _forget(self) -> None:
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting_bytes, self._behind = 0, False


def _most_bytes(options: StreamOptions) -> int:
    return round(_WAITING_S * options.sample_rate_hertz) * options.channels * _BYTES_PER_SAMPLE
