"""Between the pump of a session and all who read along: what is said goes to each, at each one's own pace.

Law: whoever joins late holds, once he has caught up, what those hold who were there before: every open caption, and
the finals of the last segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamtrans.core import Caption, Event, SpeechEnded, SpeechStarted
from streamtrans.server.outbox import Item, Outbox
from streamtrans.wire import Notice

KEPT_SEGMENTS = 8
"""Finished segments that a late reader is told: larger shows more of what was said, and takes more memory."""


@dataclass(slots=True)
class _Segment:
    """What was said of one segment so far."""

    started: SpeechStarted
    ended: SpeechEnded | None = None
    captions: dict[str, Caption] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether all is said; the finals of segments come in order, and those of one segment before the next one's."""
        captions = self.captions.values()
        return self.ended is not None and bool(captions) and all(caption.final for caption in captions)


class Hub:
    """Any number of outboxes that get everything; ``limit`` bounds each of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._segments: dict[int, _Segment] = {}
        self._readers: list[Outbox] = []
        self._closed = False
        self._error: BaseException | None = None

    def post(self, item: Event | Notice) -> None:
        """Give ``item`` to all, and keep of it what a late reader needs."""
        if not isinstance(item, Notice):
            self._keep(item)
        for reader in self._readers:
            reader.put(item)

    def join(self) -> Outbox:
        """Return a new reader's outbox, which begins with what is kept."""
        outbox = Outbox(self._limit)
        for item in self._kept():
            outbox.put(item)
        if self._closed:
            outbox.close(self._error)
        self._readers.append(outbox)
        return outbox

    def leave(self, outbox: Outbox) -> None:
        """Post nothing more to ``outbox``."""
        self._readers.remove(outbox)

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, as it is finished or because of ``error``."""
        if not self._closed:
            self._closed, self._error = True, error
            for reader in self._readers:
                reader.close(error)

    def _keep(self, event: Event) -> None:
        if isinstance(event, SpeechStarted):
            finished = [number for number, segment in self._segments.items() if segment.finished]
            for number in finished[:-KEPT_SEGMENTS]:
                del self._segments[number]
            self._segments[event.segment] = _Segment(event)
        elif isinstance(event, SpeechEnded):
            self._segments[event.segment].ended = event
        else:
            self._segments[event.segment].captions[event.language] = event

    def _kept(self) -> list[Item]:
        """Return what makes a reader that knows nothing hold what the others hold, in order."""
        items: list[Item] = []
        for segment in self._segments.values():
            items.append(segment.started)
            if segment.ended is not None:
                items.append(segment.ended)
            items += segment.captions.values()
        return items
