"""Who reads along: anybody who has the token for viewers of a stream, in a language of his own.

Law: a viewer holds what the speaker's client would hold in that language, from some segments before he came on, however
often he has to call again; one that doesn't read takes bounded memory, and no time of the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from streamtrans.core import Caption, Event, SpeechStarted
from streamtrans.server.live import LiveSession
from streamtrans.server.outbox import Item, Outbox, Overflow
from streamtrans.server.reader import cursors_of
from streamtrans.server.refusal import exhausted
from streamtrans.text import joins_without_spaces
from streamtrans.wire import (
    MODES,
    Encoder,
    GoAway,
    Notice,
    WatchResponse,
    cursors_to_proto,
    go_away_to_proto,
    notice_to_proto,
)

Write = Callable[[WatchResponse], Awaitable[object]]


class Viewer:
    """One viewer of ``live``, from ``started`` to ``ended``.

    Args:
        live: the stream.
        language: what he reads.
        mode: which of its captions.
        held: segments whose finals he holds from earlier calls.
        write: tells him.
        patience_s: how long he may leave a message unread.
    """

    def __init__(
        self, live: LiveSession, language: str, mode: str, *, held: Iterable[int], write: Write, patience_s: float
    ) -> None:
        self._live, self._language, self._mode = live, language, mode
        self._held = set(held)
        self._write, self._patience_s = write, patience_s
        self._outbox: Outbox
        """There while he reads."""
        self._encoder = Encoder(0)
        self._sequence = self._captions = self._finals = 0

    async def run(self, retry_after_ms: int) -> None:
        """Tell all there is to read, to the end of the stream.

        Raises:
            Refusal: there are too many languages already, or nobody reads what is told.
            StreamtransError: what stopped the stream.
        """
        with self._live.audience.watched(self._language) as added:
            self._outbox = self._live.hub.join(self._wants)
            try:
                await self._send(self._started(added))
                if (missed := self._missed()) is not None:
                    await self._tell(missed)
                while (item := await self._outbox.take()) is not None:
                    await self._tell(item)
                await self._live.caught_up(self._language)
                for late in self._untold():
                    await self._tell(late)
                await self._send(WatchResponse(ended={"captions": self._captions, "finals": self._finals}))
            except (TimeoutError, Overflow) as error:
                raise exhausted("what was told wasn't read; read while you watch", retry_after_ms) from error
            finally:
                self._live.hub.leave(self._outbox)

    def warn(self, away: GoAway) -> None:
        """Say to who reads that the call will be ended, so that he calls again in time."""
        self._outbox.put(away)

    def _wants(self, event: Event) -> bool:
        if event.segment in self._held:
            return False
        if not isinstance(event, Caption):
            return True
        return event.language == self._language and (event.final or self._mode != "final")

    def _missed(self) -> Notice | None:
        """Say so where segments were finished, and forgotten, since he was here."""
        first = min((said.started.segment for said in self._live.hub.said), default=0)
        last = max(self._held, default=first)
        if last + 1 >= first:
            return None
        return Notice("CAPTIONS_MISSED", f"the segments {last + 1} to {first - 1} are kept no more")

    def _untold(self) -> list[Caption]:
        """Return the finals that were made after the stream had ended."""
        made = (said.captions.get(self._language) for said in self._live.hub.said)
        return [each for each in made if each is not None and each.final and each.segment not in self._held]

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

    async def _tell(self, item: Item) -> None:
        if (message := self._encode(item)) is not None:
            await self._send(message)
        if isinstance(item, SpeechStarted):
            self._held &= {said.started.segment for said in self._live.hub.said}
        elif isinstance(item, Caption) and item.final:
            self._held.add(item.segment)

    def _encode(self, item: Item) -> WatchResponse | None:
        if isinstance(item, Notice):
            return WatchResponse(notice=notice_to_proto(item))
        if isinstance(item, GoAway):
            return WatchResponse(go_away=go_away_to_proto(item))
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
