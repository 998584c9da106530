"""What waits to be written to a client.

Law: whatever the client's pace, nothing committed is lost and nothing final is late in order; only tentative
readings that a newer one replaces are skipped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streamtrans.core import Caption, Event
from streamtrans.wire import Notice


@dataclass(frozen=True, slots=True)
class Answer:
    """A ping to answer."""

    client_time_ms: int


Item = Event | Notice | Answer


class Outbox:
    """A queue in which a caption replaces the unsent one of its segment and language."""

    def __init__(self) -> None:
        self._items: dict[object, Item] = {}
        """In order of sending; captions under their (segment, language)."""
        self._numbers = 0
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Append ``item``, or let it take the place of the caption it replaces.

        A final caption goes to the end, for it belongs behind the end of its segment.
        """
        if isinstance(item, Caption):
            key: object = (item.segment, item.language)
            if item.final:
                self._items.pop(key, None)
        else:
            self._numbers += 1
            key = self._numbers
        self._items[key] = item
        self._changed.set()

    def close(self) -> None:
        """Say that nothing more comes."""
        self._closed = True
        self._changed.set()

    async def take(self) -> Item | None:
        """Wait for the next item; ``None`` once the box is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._items.pop(next(iter(self._items)))
