"""One who speaks in somebody else's program: sound is pushed in as it comes, and what is said of it comes out.

A microphone that is muted sends nothing, not even silence. So a speaker of whom nothing comes has paused: the segment
is closed, and after a while the stream is ended well, which gives its place at the server free. The next sound begins
another one.

Law: sound that waits is bounded; what doesn't fit is an error that is told, never a silent loss. A server that is away
for a while loses none that it hasn't begun to hear; what it has promised stays, as final text, when a stream breaks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from streamtrans.client import (
    BYTES_PER_SAMPLE,
    BadConfig,
    Caption,
    ClientError,
    ConfigApplied,
    ConfigRejected,
    DataLost,
    Overloaded,
    StreamEvent,
    StreamOptions,
    TimedOut,
    TranslationClient,
    TranslationStream,
    Unavailable,
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

_PASSING = (Unavailable, Overloaded, TimedOut, DataLost)
"""What says nothing about the next stream: sound waits for it."""


class BehindError(Exception):
    """Sound had to be thrown away: the server was away, or too slow, for too long."""


Trouble = ClientError | BehindError | BadConfig
"""What ends a stream, or lets none begin."""


class SpeakerStream:
    """Streams of one speaker, one after the other; use it as an async context manager, which awaits the last captions.

    Args:
        client: the way to the server.
        options: asked anew whenever a stream begins.
        show: awaited with every event of every stream, in order; while it waits, the server replaces readings that are
            outdated by newer ones.
        fail: awaited once with the error that ended a stream, or lets none begin. Where it may pass, sound waits, and a
            stream is tried again after a while; else what waits is dropped, and sound after a while begins another.
    """

    def __init__(
        self,
        client: TranslationClient,
        options: Callable[[], StreamOptions],
        show: Callable[[StreamEvent], Awaitable[None]],
        fail: Callable[[Trouble], Awaitable[None]],
        *,
        quiet_s: float = _QUIET_S,
        idle_s: float = _IDLE_S,
    ) -> None:
        self.heard = 0
        """Bytes of sound that were taken."""
        self.began = 0
        """Of those, the ones before the first that the stream hears which is open, or was last."""
        self._client = client
        self._options = options
        self._show = show
        self._fail = fail
        self._quiet_s = quiet_s
        self._idle_s = idle_s
        self._waiting: deque[bytes | UtteranceEnd] = deque()
        self._passed = 0
        """Bytes of sound that don't wait any more."""
        self._bell = asyncio.Event()
        self._behind = self._ended = False
        self._deaf_until = 0.0
        self._stream: TranslationStream | None = None
        self._targets: tuple[str, ...] = ()
        """What the open stream was asked to write, but for what it refused."""
        self._updates: deque[tuple[list[str], list[str]]] = deque()
        """What was added and removed, and isn't answered yet."""
        self._told: type[Exception] | None = None
        """What was told since a stream was open; trying again tells nothing new."""
        self._open: dict[tuple[int, str], Caption] = {}
        """Captions that are not final."""
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

    def hear(self, sound: bytes) -> bool:
        """Take a piece of sound, in the encoding of the options; never waits. Return whether it is taken."""
        if self._behind or self._ended or time.monotonic() < self._deaf_until:
            return False
        if self.heard + len(sound) - self._passed > _WAITING_S * bytes_per_s(self._options()):
            self._behind = True
            return False
        self.heard += len(sound)
        self._waiting.append(sound)
        self._bell.set()
        return True

    def pause(self) -> None:
        """Close the segment here: whoever pushes knows that the utterance has ended."""
        self._waiting.append(UtteranceEnd())
        self._bell.set()

    async def retarget(self) -> None:
        """Let the stream that is open write the languages that the options name now."""
        wanted = self._options().targets
        if self._stream is None or not wanted or set(wanted) == set(self._targets):
            return
        add = [each for each in wanted if each not in self._targets]
        remove = [each for each in self._targets if each not in wanted]
        self._targets = wanted
        self._updates.append((add, remove))
        with suppress(ClientError):  # a stream that has ended says so to who reads it
            await self._stream.update(add=add, remove=remove)

    async def close(self) -> None:
        """Hear no more, and await the last captions; a server that is away is tried once more, at once."""
        self._ended = True
        self._bell.set()
        await self._living

    async def cancel(self) -> None:
        """End at once, whatever is still to come."""
        self._ended = True
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)

    async def _live(self) -> None:
        while await self._come(None):
            if isinstance(self._waiting[0], UtteranceEnd) or not self._options().targets:
                self._take()
                continue
            ending = self._ended
            try:
                await self._one()
            except (ClientError, BehindError, BadConfig) as error:
                wait_s = (error.retry_after_s if isinstance(error, ClientError) else None) or _AGAIN_S
                passing = isinstance(error, _PASSING)
                if not passing:
                    self._forget(wait_s)
                await self._settle()
                if type(error) is not self._told:
                    self._told = type(error)
                    await self._fail(error)
                if passing and ending:
                    return
                if passing:
                    await self._until(lambda: self._ended, wait_s)

    async def _one(self) -> None:
        self._check()
        options = replace(self._options(), resumable=True)
        stream = self._client.stream(options)
        async with stream, aclosing(both_ways(stream, self._sound())) as events:
            self._stream, self._targets, self.began = stream, options.targets, self._passed
            self._told = None
            self._updates.clear()
            try:
                await self.retarget()  # while it was being opened, somebody may have come
                async for event in events:
                    self._note(event)
                    await self._show(event)
            finally:
                self._stream = None

    async def _sound(self) -> AsyncIterator[bytes | UtteranceEnd]:
        while self._waiting:
            self._check()
            yield self._take()
            if not await self._come(self._quiet_s) and not self._ended:
                yield UtteranceEnd()
                await self._come(self._idle_s)

    def _note(self, event: StreamEvent) -> None:
        match event:
            case Caption(final=True):
                self._open.pop((event.segment, event.language), None)
            case Caption():
                self._open[event.segment, event.language] = event
            case ConfigApplied() if self._updates:
                self._updates.popleft()
            case ConfigRejected() if self._updates:
                added, removed = self._updates.popleft()
                self._targets = (*(each for each in self._targets if each not in added), *removed)
            case _:
                pass

    async def _settle(self) -> None:
        """Show what a broken stream has promised as final: no more of it will come."""
        while self._open:
            caption = self._open.pop(next(iter(self._open)))
            await self._show(replace(caption, revision=caption.revision + 1, tentative="", final=True, stability=1.0))

    def _check(self) -> None:
        if self._behind:
            raise BehindError("the server was away, or too slow, for a minute: sound was lost")

    def _take(self) -> bytes | UtteranceEnd:
        piece = self._waiting.popleft()
        if isinstance(piece, bytes):
            self._passed += len(piece)
        return piece

    async def _come(self, within_s: float | None) -> bool:
        """Wait for sound, no longer than until the end; return whether any waits."""
        await self._until(lambda: bool(self._waiting) or self._ended, within_s)
        return bool(self._waiting)

    async def _until(self, true: Callable[[], bool], within_s: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not true():
                    self._bell.clear()
                    await self._bell.wait()

    def _forget(self, deaf_s: float) -> None:
        """Drop what waits, and hear nothing for a while."""
        self._waiting.clear()
        self._passed, self._behind, self._deaf_until = self.heard, False, time.monotonic() + deaf_s


def bytes_per_s(options: StreamOptions) -> int:
    """Return the size of a second of sound; of what is compressed, at most."""
    return options.sample_rate_hertz * options.channels * BYTES_PER_SAMPLE.get(options.encoding, 2)
