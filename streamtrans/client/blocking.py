"""The client for programs without an event loop: sound goes in by a call, events come out by callbacks.

def show(event):
    if isinstance(event, Caption) and event.final:
        print(event.language, event.text)

with BlockingStream("localhost:50051", StreamOptions(targets=("de",)), show) as stream:
    for chunk in chunks:
        stream.send(chunk)
print(stream.summary)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Self

from streamtrans.client.carrier import Tls
from streamtrans.client.client import TranslationClient
from streamtrans.client.stream import Sound, StreamEvent
from streamtrans.wire import Forgotten, Started, StreamOptions, Summary

_WAITING = 8
"""Pieces that may wait to be sent; beyond it ``send`` blocks. Larger: forgives longer stalls, notices them later."""


class BlockingStream:
    """One stream, lived in a thread of its own; use it as a context manager.

    ``on_event`` is called in that thread with every event, in order. Leaving awaits the last captions; leaving by an
    error, or an interrupt, ends the stream at once.

    Args:
        address: ``host:port``, or ``ws://host:port``.
        options: what is sent, and what is wanted.
        on_event: told of everything that the server says. What it raises ends the stream.
        tls: encrypts the connection.
        key: shows servers that ask for one who calls.
        timeout_s: how long the server may say nothing before it admits the stream.
    """

    def __init__(
        self,
        address: str,
        options: StreamOptions,
        on_event: Callable[[StreamEvent], None],
        *,
        tls: Tls | None = None,
        key: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.summary: Summary | None = None
        """What the server said of the whole stream, once it has ended."""
        self._way = partial(TranslationClient, address, tls=tls, key=key)
        self._client = self._way()
        self._resume_token = ""
        self._options = options
        self._on_event = on_event
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streamtrans", daemon=True)
        self._queue: asyncio.Queue[Sound | None] = asyncio.Queue(_WAITING)
        self._living: Future[None] | None = None

    def __enter__(self) -> Self:
        """Begin; whether the server admits the stream is told by the first ``send`` that comes after its answer."""
        self._thread.start()
        self._living = asyncio.run_coroutine_threadsafe(self._live(), self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits, and await the last captions.

        Raises:
            ClientError: the server refused or ended the stream.
        """
        assert self._living is not None, "the stream was not entered"
        try:
            if error is None:
                self._put(None)
                self._living.result()
        finally:
            self._living.cancel()
            asyncio.run_coroutine_threadsafe(self._over(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def send(self, sound: Sound) -> None:
        """Send a piece of sound; block while the server takes no more.

        Raises:
            ClientError: the server refused or ended the stream.
            Exception: what ``on_event`` raised.
        """
        self._put(sound)

    def forget(self) -> Forgotten:
        """Have all deleted that the server keeps of this stream, once it has begun; return what there was.

        Raises:
            ClientError: the server refused, there is none, or it says nothing in time.
        """
        return asyncio.run(self._forgotten())

    def _put(self, sound: Sound | None) -> None:
        assert self._living is not None, "the stream was not entered"
        putting = asyncio.run_coroutine_threadsafe(self._queue.put(sound), self._loop)
        done = threading.Event()
        for future in (putting, self._living):
            future.add_done_callback(lambda _: done.set())
        done.wait()
        if self._living.done():
            putting.cancel()
            self._living.result()

    async def _live(self) -> None:
        async with self._client as client:
            async for event in client.translate(self._options, self._sound(), timeout_s=self._timeout_s):
                if isinstance(event, Started):
                    self._resume_token = event.resume_token
                elif isinstance(event, Summary):
                    self.summary = event
                self._on_event(event)

    async def _forgotten(self) -> Forgotten:
        async with self._way() as client:
            return await client.forget(self._resume_token, timeout_s=self._timeout_s)

    async def _over(self) -> None:
        """Wait until all that was under way has ended."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    async def _sound(self) -> AsyncIterator[Sound]:
        while (sound := await self._queue.get()) is not None:
            yield sound
