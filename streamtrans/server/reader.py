"""One reader of a live session: what waits for him becomes messages, numbered and encoded for him alone."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

from streamtrans.core import Caption, milliseconds
from streamtrans.server.live import LiveSession
from streamtrans.server.outbox import Answer, Item
from streamtrans.wire import (
    Change,
    Cursors,
    Encoder,
    Envelope,
    Notice,
    ServerMessage,
    Summary,
    change_message,
    notice_message,
    payload_of,
    pong_message,
    summary_message,
)


class Reader:
    """Captions of ``live`` from now on, after a snapshot of those that are open or were closed last."""

    def __init__(self, live: LiveSession, kept: int = 0) -> None:
        """Join; the newest ``kept`` messages are remembered until they are acknowledged."""
        self._live = live
        self._outbox = live.hub.join()
        self._encoder = Encoder()
        self._envelope = Envelope(live.session_id)
        self._began = time.monotonic()
        self._told = Summary()
        self._sent: deque[ServerMessage] = deque(maxlen=kept)
        self._newest = 0
        self.finished = False
        """Whether the summary was told."""

    def tell(self, item: Change | Answer) -> None:
        """Let what is for this reader alone wait its turn."""
        self._outbox.put(item)

    async def take(self) -> ServerMessage | None:
        """Wait for the next message, which is not sealed yet; ``None`` after the last one.

        Raises:
            Overflow: too much was left lying.
            EngineClosed: or whatever else stopped the session.
        """
        item = await self._outbox.take()
        return None if item is None else self._encode(item)

    def seal(self, message: ServerMessage) -> ServerMessage:
        """Number ``message`` and say on it how far everything is; in the order of sending, each once."""
        cursors = self._live.cursors
        told = Cursors(
            received_ms=milliseconds(cursors.received),
            decoded_ms=milliseconds(cursors.decoded),
            committed_ms=milliseconds(cursors.committed),
            final_ms=milliseconds(cursors.final),
            lag_ms=round(self._live.arrivals.lag_s(time.monotonic()) * 1000),
        )
        sealed = self._envelope.seal(message, told, time.time_ns() // 1_000_000)
        self._sent.append(sealed)
        self._newest = sealed.event_sequence
        self.finished = payload_of(sealed) == "summary"
        return sealed

    def missed(self, last: int) -> list[ServerMessage] | None:
        """Return the messages after number ``last`` as they were sent; ``None`` where they aren't remembered."""
        if last == self._newest:
            return []
        if last > self._newest or not self._sent or self._sent[0].event_sequence > last + 1:
            return None
        return [message for message in self._sent if message.event_sequence > last]

    def acknowledge(self, last: int) -> None:
        """Forget the messages up to number ``last``: they have arrived."""
        while self._sent and self._sent[0].event_sequence <= last:
            self._sent.popleft()

    def summary(self) -> ServerMessage:
        """Return what the session, and what this reader was told of it, amount to."""
        arrivals = self._live.arrivals
        return summary_message(
            replace(
                self._told,
                audio_ms=milliseconds(arrivals.received),
                duration_ms=round((time.monotonic() - self._began) * 1000),
                segments=arrivals.segments,
                first_caption_ms=tuple(round(delay * 1000) for delay in arrivals.first_captions_s),
                first_caption_p50_ms=round(arrivals.first_captions.percentile_s(50) * 1000),
                lag_p50_ms=round(arrivals.lags.percentile_s(50) * 1000),
                lag_p95_ms=round(arrivals.lags.percentile_s(95) * 1000),
                decoding=self._live.stats.decode,
            )
        )

    def leave(self) -> None:
        """Read no more."""
        self._live.hub.leave(self._outbox)

    def _encode(self, item: Item) -> ServerMessage:
        if isinstance(item, Answer):
            return pong_message(item.client_time_ms)
        if isinstance(item, Notice):
            return notice_message(item)
        if isinstance(item, Change):
            return change_message(item)
        message = self._encoder.encode(item)
        if isinstance(item, Caption):
            told = self._told
            self._told = replace(
                told,
                captions=told.captions + 1,
                finals=told.finals + item.final,
                withdrawn=told.withdrawn + message.caption.withdrawn,
            )
        return message
