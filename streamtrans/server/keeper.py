"""Keeps one stream in a store while it runs here.

Law: nothing that a client may rely on is told before it is kept, and nothing at all once another server has claimed the
stream.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from streamtrans.core import milliseconds
from streamtrans.server.intake import Intake
from streamtrans.server.kept import KeptSaid, kept, name_of
from streamtrans.server.live import LiveSession
from streamtrans.server.reader import Reader
from streamtrans.server.refusal import superseded, unavailable
from streamtrans.server.sealing import sealed
from streamtrans.server.stores import Store, StoreFailed
from streamtrans.wire import ServerMessage, options_to_proto, payload_of

_PATIENCE_S = 5.0
"""How long a store that fails is tried again before the call ends; the stream waits to be resumed meanwhile."""

_PAUSE_S = 0.2


class Keeper:
    """The one who writes for a stream, as the owner of ``epoch``."""

    def __init__(
        self,
        store: Store,
        epoch: int,
        *,
        live: LiveSession,
        intake: Intake,
        reader: Reader,
        retry_after_ms: int,
    ) -> None:
        self.fenced = False
        """Whether another server has claimed the stream."""
        self._store = store
        self._name = name_of(live.token, live.holder.name, live.served.model_name)
        self._epoch = epoch
        self._live, self._intake, self._reader = live, intake, reader
        intake.remember()
        self._retry_after_ms = retry_after_ms
        self._turn = asyncio.Lock()

    async def before(self, message: ServerMessage) -> None:
        """Keep what ``message``, which is sealed and about to be sent, makes known; fill in what it acknowledges.

        Raises:
            Refusal: another server has claimed the stream, or the store fails.
        """
        if _binds(message):
            async with self._turn:
                sequence, frames = await self._keep()
            kind = payload_of(message)
            if kind == "started":
                message.started.acknowledged_sequence = sequence
            elif kind == "checkpoint":
                message.checkpoint.acknowledged_sequence = sequence
                message.checkpoint.acknowledged_ms = milliseconds(self._intake.position(frames))

    async def owns(self) -> bool:
        """Say whether nobody else has claimed the stream.

        Raises:
            Refusal: the store fails.
        """
        try:
            self.fenced = self.fenced or not await self._store.owns(self._name, self._epoch)
        except StoreFailed as error:
            raise unavailable(str(error), self._retry_after_ms, "store_failed") from error
        return not self.fenced

    async def forget(self) -> None:
        """Keep it no longer; one that can't be forgotten now ages out."""
        try:
            await self._store.drop(self._name, self._epoch)
        except StoreFailed:
            return

    async def _keep(self) -> tuple[int, int]:
        """Keep the stream as it is now; return the place up to which audio is settled."""
        data, place = self._record()
        deadline = time.monotonic() + _PATIENCE_S
        while not self.fenced:
            try:
                self.fenced = not await self._store.put(self._name, self._epoch, data)
                break
            except StoreFailed as error:
                if time.monotonic() > deadline:
                    raise unavailable(str(error), self._retry_after_ms, "store_failed") from error
                await asyncio.sleep(_PAUSE_S)
        if self.fenced:
            raise superseded()
        return place

    def _record(self) -> tuple[bytes, tuple[int, int]]:
        live, reader = self._live, self._reader
        memory = live.memory()
        place = self._intake.settled(memory.begins)
        segments = live.hub.said
        reader.forget({said.started.segment for said in segments})
        record = kept(
            session_id=live.session_id,
            config=options_to_proto(live.opening.options).SerializeToString(),
            memory=replace(memory, begins=self._intake.position(place[1])),
            said=tuple(KeptSaid.of(said, reader.told_at) for said in segments),
            forgotten_at=reader.forgotten_at,
            place=place,
            heard=self._intake.sequence,
            began_ms=reader.began_ms,
            told=reader.told,
        )
        return sealed(live.token, self._name, record.packed()), place


def _binds(message: ServerMessage) -> bool:
    """Say whether a client may rely on what ``message`` says; what is only believed may be believed otherwise."""
    kind = payload_of(message)
    if kind == "caption":
        return bool(message.caption.committed_append) or message.caption.final
    return kind in ("started", "speech", "config_applied", "checkpoint", "summary")
