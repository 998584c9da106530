"""Streams whose calls have ended without their ends: they wait here for another call, for a while.

Law: nobody waits longer than was published, and no more than so many at once; the oldest has to go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streamtrans.server.intake import Intake
from streamtrans.server.keys import Holder
from streamtrans.server.live import LiveSession
from streamtrans.server.reader import Reader


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """Who speaks in a live session, and reads along: all of a client that outlives his calls."""

    live: LiveSession
    intake: Intake
    reader: Reader

    async def leave(self) -> None:
        """End the session as it is."""
        self.reader.leave()
        await self.live.close()


class Registry:
    """Speakers by the token of their sessions; each is kept for ``keep_s``, ``most`` at once."""

    def __init__(self, keep_s: float, most: int) -> None:
        self._keep_s = keep_s
        self._most = most
        self._waiting: dict[str, tuple[Speaker, asyncio.TimerHandle]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

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
        """Let nobody wait any longer."""
        for token in tuple(self._waiting):
            self._drop(token)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _release(self, token: str) -> Speaker | None:
        speaker, timer = self._waiting.pop(token, (None, None))
        if timer is not None:
            timer.cancel()
        return speaker

    def _drop(self, token: str) -> None:
        speaker = self._release(token)
        if speaker is not None:
            task = asyncio.create_task(speaker.leave())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
