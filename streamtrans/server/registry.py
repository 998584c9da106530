"""Streams whose calls have ended without their ends: they wait here for another call, for a while.

Law: nobody waits longer than was published, and no more than so many at once; the oldest has to go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from streamtrans.core import milliseconds
from streamtrans.server.intake import Intake
from streamtrans.server.keeper import Keeper
from streamtrans.server.keys import Holder
from streamtrans.server.live import LiveSession
from streamtrans.server.reader import Reader, cursors_of
from streamtrans.server.refusal import broken_off, elsewhere
from streamtrans.wire import StreamStats, cursors_to_proto, decoding_to_proto


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """Who speaks in a live session, and reads along: all of a client that outlives his calls."""

    live: LiveSession
    intake: Intake
    reader: Reader
    keeper: Keeper | None = None
    """Keeps it where other servers find it, too."""
    heard_before: int = 0
    """Number of the last message that another server had heard."""
    again_s: float = 0.0
    """Seconds of audio that were heard there and come again."""

    async def leave(self, *, forget: bool) -> None:
        """End the session as it is here; ``forget``: everywhere."""
        self.reader.leave()
        await self.live.close(broken_off() if forget else elsewhere(self.live.retry_after_ms))
        if forget and self.keeper is not None:
            await self.keeper.forget()


class Registry:
    """Speakers by the token of their sessions; each is kept for ``keep_s``, ``most`` at once."""

    def __init__(self, keep_s: float, most: int) -> None:
        self._keep_s = keep_s
        self._most = most
        self._waiting: dict[str, tuple[Speaker, asyncio.TimerHandle]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Speaker]:
        """Iterate over those who wait, the longest first."""
        return (speaker for speaker, _ in self._waiting.values())

    def keep(self, speaker: Speaker) -> None:
        """Let ``speaker`` wait."""
        if len(self._waiting) >= self._most:
            self._drop(next(iter(self._waiting)))
        token = speaker.live.token
        timer = asyncio.get_running_loop().call_later(self._keep_s, self._drop, token)
        self._waiting[token] = speaker, timer

    def take(self, token: str, holder: Holder) -> Speaker | None:
        """Return who waits under ``token``, who waits no more; ``None`` for the holder of another key."""
        waiting = self._waiting.get(token)
        if waiting is None or waiting[0].live.holder is not holder:
            return None
        return self._release(token)

    async def close(self) -> None:
        """Let nobody wait here any longer; another server may go on with what is kept elsewhere."""
        for token in tuple(self._waiting):
            self._drop(token, forget=False)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _release(self, token: str) -> Speaker | None:
        speaker, timer = self._waiting.pop(token, (None, None))
        if timer is not None:
            timer.cancel()
        return speaker

    def _drop(self, token: str, *, forget: bool = True) -> None:
        speaker = self._release(token)
        if speaker is not None:
            task = asyncio.create_task(speaker.leave(forget=forget))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


def stats_of(speaker: Speaker, *, connected: bool) -> StreamStats:
    """Return how a stream is getting on."""
    live, arrivals, stats = speaker.live, speaker.live.arrivals, speaker.live.stats
    cursors = live.cursors
    return StreamStats(
        session_id=live.session_id,
        connected=connected,
        age_ms=round((time.monotonic() - live.began_at) * 1000),
        targets=live.opening.session.targets,
        viewer_languages=live.audience.languages,
        viewers=len(live.audience),
        cursors=cursors_to_proto(cursors_of(live)),
        lag_p50_ms=round(arrivals.lags.percentile_s(50) * 1000),
        lag_p95_ms=round(arrivals.lags.percentile_s(95) * 1000),
        queued_ms=milliseconds(max(0, cursors.received - cursors.decoded)),
        unsent_events=speaker.reader.unsent,
        segments=stats.segments,
        readings=stats.readings,
        skipped=stats.skipped,
        failures=stats.failures,
        decoding=decoding_to_proto(stats.decode),
    )
