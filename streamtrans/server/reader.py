"""One reader of a live session: what waits for him becomes messages, numbered and encoded for him alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import replace

from streamtrans.core import Caption, Event, milliseconds
from streamtrans.server.kept import Kept, key_of
from streamtrans.server.live import LiveSession
from streamtrans.server.outbox import Answer, Item
from streamtrans.wire import (
    SPEECH_STARTED,
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

    def __init__(self, live: LiveSession, kept: int = 0, before: Kept | None = None, last: int = 0) -> None:
        """Join; the newest ``kept`` messages are remembered until they are acknowledged.

        Where ``before`` is what was kept of this reader on another server, ``last`` is the number of the newest message
        that arrived.
        """
        self.told_at: dict[object, int] = {}
        """Key of what is kept, see :func:`key_of`, → number of the message that told it."""
        self.forgotten_at = 0
        """Number of the newest message that told what isn't kept any more."""
        self.began_ms = time.time_ns() // 1_000_000
        self.told = Summary()
        if before is not None:
            self.told_at = {key: at for said in before.said for key, at in said.told.items() if at <= last}
            self.forgotten_at, self.began_ms, self.told = before.forgotten_at, before.began_ms, before.told
        self._live = live
        self._outbox = live.hub.join(self._is_new)
        self._encoder = Encoder(None if before is None else last)
        self._envelope = Envelope(live.session_id, last)
        self._sent: deque[ServerMessage] = deque(maxlen=kept)
        self._newest = last
        self.finished = False
        """Whether the summary was told."""

    @property
    def unsent(self) -> int:
        """What waits to be sent."""
        return len(self._outbox)

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
        sealed = self._envelope.seal(message, cursors_of(self._live), time.time_ns() // 1_000_000)
        self._sent.append(sealed)
        self._newest = sealed.event_sequence
        self._note(sealed)
        self.finished = payload_of(sealed) == "summary"
        return sealed

    def forget(self, kept: AbstractSet[int]) -> None:
        """Forget what was told of segments that aren't ``kept``."""
        gone = [key for key in self.told_at if isinstance(key, tuple) and not kept & set(key)]
        for key in gone:
            self.forgotten_at = max(self.forgotten_at, self.told_at.pop(key))

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
                self.told,
                audio_ms=milliseconds(arrivals.received),
                duration_ms=max(0, time.time_ns() // 1_000_000 - self.began_ms),
                segments=self._live.stats.segments,
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
            told = self.told
            self.told = replace(
                told,
                captions=told.captions + 1,
                finals=told.finals + item.final,
                withdrawn=told.withdrawn + message.caption.withdrawn,
            )
        return message

    def _is_new(self, event: Event) -> bool:
        if isinstance(event, Caption) and not self._live.is_for_speaker(event):
            return False
        final = not isinstance(event, Caption) or event.final
        return not (final and key_of(event) in self.told_at)

    def _note(self, sealed: ServerMessage) -> None:
        kind = payload_of(sealed)
        if kind == "speech":
            began = sealed.speech.type == SPEECH_STARTED
            if began:
                self.forget({said.started.segment for said in self._live.hub.said})
            self.told_at["started" if began else "ended", sealed.speech.segment_id] = sealed.event_sequence
        elif kind == "caption" and sealed.caption.final:
            self.told_at[sealed.caption.segment_id, sealed.caption.language] = sealed.event_sequence


def cursors_of(live: LiveSession) -> Cursors:
    """Return how far everything is in ``live``."""
    cursors = live.cursors
    return Cursors(
        received_ms=milliseconds(cursors.received),
        decoded_ms=milliseconds(cursors.decoded),
        committed_ms=milliseconds(cursors.committed),
        final_ms=milliseconds(cursors.final),
        lag_ms=round(live.arrivals.lag_s(time.monotonic()) * 1000),
    )
