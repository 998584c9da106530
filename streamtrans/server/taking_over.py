"""A stream that was kept in a store lives on here."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from streamtrans.core import SAMPLE_RATE
from streamtrans.server.capacity import Capacity
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.intake import Intake
from streamtrans.server.keeper import Keeper
from streamtrans.server.kept import Kept, NotOurs, name_of
from streamtrans.server.keys import Holder
from streamtrans.server.live import LiveSession
from streamtrans.server.metrics import Metrics
from streamtrans.server.opening import open_stream
from streamtrans.server.reader import Reader
from streamtrans.server.refusal import lost_events, unavailable, unknown_token
from streamtrans.server.registry import Speaker
from streamtrans.server.sealing import Broken, opened
from streamtrans.server.spans import Spans
from streamtrans.server.stores import Store, StoreFailed
from streamtrans.wire import Resume

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deal:
    """All that a stream needs here."""

    store: Store
    served: Served
    config: ServerConfig
    metrics: Metrics
    capacity: Capacity
    spans: Spans

    async def take_over(self, resume: Resume, holder: Holder) -> Speaker:
        """Claim the stream and go on with it after the response that arrived last.

        Raises:
            Refusal: it isn't there for this key and this model, or what is asked for is lost.
        """
        name = name_of(resume.token, holder.name, self.served.model_name)
        try:
            found = await self.store.claim(name)
        except StoreFailed as error:
            raise unavailable(str(error), self.config.retry_after_ms, "store_failed") from error
        if found is None:
            raise unknown_token()
        epoch, data = found
        try:
            kept = Kept.read(opened(resume.token, name, data))
            kept.check(self.served.tokenizer)
        except (Broken, NotOurs) as error:
            _log.warning("what a store keeps can't be gone on with: %s", type(error).__name__)
            raise unknown_token() from error
        if resume.last_event_sequence < kept.forgotten_at:
            raise lost_events(resume.last_event_sequence)
        return self._speaker(kept, epoch, resume, holder)

    def _speaker(self, kept: Kept, epoch: int, resume: Resume, holder: Holder) -> Speaker:
        opening = open_stream(kept.opening(), self.served, self.config)
        intake = Intake(opening.options, self.config.limits, (kept.sequence, kept.frames))
        begins = intake.position(kept.frames)
        live = LiveSession(
            kept.session_id,
            opening,
            self.served,
            self.config,
            metrics=self.metrics,
            holder=holder,
            capacity=self.capacity,
            spans=self.spans,
            token=resume.token,
            before=replace(kept, memory=replace(kept.memory, begins=begins)),
        )
        reader = Reader(live, self.config.max_unsent_events, kept, resume.last_event_sequence)
        keeper = Keeper(
            self.store, epoch, live=live, intake=intake, reader=reader, retry_after_ms=self.config.retry_after_ms
        )
        again_s = (kept.memory.cursors.received - begins) / SAMPLE_RATE
        return Speaker(live, intake, reader, keeper, kept.heard, again_s)
