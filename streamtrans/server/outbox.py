"""What waits to be written to one reader.

Law: whatever the reader's pace, nothing committed is lost and nothing final is late in order; only tentative
readings that a newer one replaces are skipped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streamtrans.core import Caption, Event, StreamtransError
from streamtrans.wire import Change, Notice


@dataclass(frozen=True, slots=True)
class Answer:
    """A ping to answer."""

    client_time_ms: int


Item = Event | Notice | Change | Answer


class Overflow(StreamtransError):
    """More waits to be read than a reader may leave lying."""


class Outbox:
    """A queue in which a caption replaces the unsent one of its segment and language."""

    def __init__(self, limit: int) -> None:
        """Begin; more than ``limit`` items that nobody takes are an :class:`Overflow`."""
        self._items: dict[object, Item] = {}
        """In order of sending; captions under their (segment, language)."""
        self._limit = limit
        self._numbers = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Append ``item``, or let it take the place of the caption it replaces.

        A final caption goes to the end, for it belongs behind the end of its segment.
        """
        if self._closed:
            return
        if isinstance(item, Caption):
            key: object = (item.segment, item.language)
            if item.final:
                self._items.pop(key, None)
        else:
            self._numbers += 1
            key = self._numbers
        self._items[key] = item
        if len(self._items) > self._limit:
            self.close(Overflow(f"{len(self._items)} events wait to be read; read while you send"))
        self._changed.set()

    def close(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; with an ``error``, that what waits won't be taken either."""
        if not self._closed:
            self._closed, self._error = True, error
            if error is not None:
                self._items.clear()
            self._changed.set()

    async def take(self) -> Item | None:
        """Wait for the next item; ``None`` once the box is closed and empty.

        Raises:
            BaseException: the box was closed with it, or with :class:`Overflow` by itself.
        """
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._items.pop(next(iter(self._items)))
