"""Who reads along: anybody who has the token for viewers of a stream, in a language of his own.

Law: a viewer holds what the speaker's client would hold in that language from when he came; one that doesn't read takes
bounded memory, and no time of the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from streamtrans.core import Caption, Event
from streamtrans.server.live import LiveSession
from streamtrans.server.outbox import Item, Overflow
from streamtrans.server.reader import cursors_of
from streamtrans.server.refusal import exhausted
from streamtrans.text import joins_without_spaces
from streamtrans.wire import (
    MODES,
    Encoder,
    Notice,
    WatchResponse,
    cursors_to_proto,
    notice_to_proto,
)

Write = Callable[[WatchResponse], Awaitable[object]]


class Viewer:
    """One viewer of ``live``, from ``started`` to ``ended``."""

    def __init__(self, live: LiveSession, language: str, mode: str, write: Write, patience_s: float) -> None:
        self._live, self._language, self._mode = live, language, mode
        self._write, self._patience_s = write, patience_s
        self._encoder = Encoder(0)
        self._sequence = self._captions = self._finals = 0

    async def run(self, retry_after_ms: int) -> None:
        """Tell all there is to read, to the end of the stream.

        Raises:
            Refusal: there are too many languages already, or nobody reads what is told.
            StreamtransError: what stopped the stream.
        """
        with self._live.watched(self._language) as added:
            outbox = self._live.hub.join(self._wants)
            try:
                await self._send(self._started(added))
                while (item := await outbox.take()) is not None:
                    if (message := self._encode(item)) is not None:
                        await self._send(message)
                await self._send(WatchResponse(ended={"captions": self._captions, "finals": self._finals}))
            except (TimeoutError, Overflow) as error:
                raise exhausted("what was told wasn't read; read while you watch", retry_after_ms) from error
            finally:
                self._live.hub.leave(outbox)

    def _wants(self, event: Event) -> bool:
        if not isinstance(event, Caption):
            return True
        return event.language == self._language and (event.final or self._mode != "final")

    def _started(self, added: bool) -> WatchResponse:
        return WatchResponse(
            started={
                "language": self._language,
                "mode": MODES[self._mode],
                "model": self._live.served.model_name,
                "unspaced": joins_without_spaces(self._language),
                "added": added,
                "languages": self._live.served.languages,
            }
        )

    def _encode(self, item: Item) -> WatchResponse | None:
        if isinstance(item, Notice):
            return WatchResponse(notice=notice_to_proto(item))
        if not isinstance(item, Event):
            return None
        if isinstance(item, Caption) and self._mode == "stable":
            item = replace(item, tentative="")
        told = self._encoder.encode(item)
        if not isinstance(item, Caption):
            return WatchResponse(speech=told.speech)
        self._captions += 1
        self._finals += item.final
        return WatchResponse(caption=told.caption)

    async def _send(self, message: WatchResponse) -> None:
        self._sequence += 1
        message.session_id = self._live.session_id
        message.event_sequence = self._sequence
        message.cursors.CopyFrom(cursors_to_proto(cursors_of(self._live)))
        message.server_time_ms = time.time_ns() // 1_000_000
        async with asyncio.timeout(self._patience_s):
            await self._write(message)
