"""Between the pump of a session and all who read along: what is said goes to each, at each one's own pace.

Law: whoever joins late holds, once he has caught up, what those hold who were there before: every open caption, and
the finals of the last segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamtrans.core import Event, SpeechEnded, SpeechStarted
from streamtrans.server.kept import Said
from streamtrans.server.outbox import Outbox
from streamtrans.wire import Notice

KEPT_SEGMENTS = 8
"""Finished segments that a late reader is told: larger shows more of what was said, and takes more memory."""


class Hub:
    """Any number of outboxes that get everything; ``limit`` bounds each of them.

    ``said`` is what was kept of a session that goes on.
    """

    def __init__(self, limit: int, said: Iterable[Said] = ()) -> None:
        self._limit = limit
        self._segments = {each.started.segment: each for each in said}
        self._readers: dict[Outbox, Callable[[Event], bool]] = {}
        self._closed = False
        self._error: BaseException | None = None

    def post(self, item: Event | Notice) -> None:
        """Give ``item`` to all, and keep of it what a late reader needs; what comes behind a final says nothing."""
        if not isinstance(item, Notice) and not self._keep(item):
            return
        for reader, wanted in self._readers.items():
            if isinstance(item, Notice) or wanted(item):
                reader.put(item)

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed

    @property
    def said(self) -> tuple[Said, ...]:
        """What is kept, segment by segment."""
        return tuple(self._segments.values())

    def join(self, wanted: Callable[[Event], bool] = lambda _: True) -> Outbox:
        """Return a new reader's outbox, which begins with what is kept; both as far as it is ``wanted``."""
        outbox = Outbox(self._limit)
        for said in self._segments.values():
            for event in filter(wanted, said.events):
                outbox.put(event)
        if self._closed:
            outbox.close(self._error)
        self._readers[outbox] = wanted
        return outbox

    def leave(self, outbox: Outbox) -> None:
        """Post nothing more to ``outbox``."""
        del self._readers[outbox]

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, as it is finished or because of ``error``."""
        if not self._closed:
            self._closed, self._error = True, error
            for reader in self._readers:
                reader.close(error)

    def _keep(self, event: Event) -> bool:
        """Keep ``event``; say whether it is news."""
        if isinstance(event, SpeechStarted):
            finished = [number for number, segment in self._segments.items() if segment.finished]
            for number in finished[:-KEPT_SEGMENTS]:
                del self._segments[number]
            self._segments[event.segment] = Said(event, None, {})
        elif isinstance(event, SpeechEnded):
            self._segments[event.segment].ended = event
        else:
            said = self._segments.get(event.segment)
            before = None if said is None else said.captions.get(event.language)
            if said is None or (before is not None and before.final):
                return False
            said.captions[event.language] = event
        return True
