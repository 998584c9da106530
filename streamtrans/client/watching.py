"""A viewer's captions over as many calls as it takes.

Law: whatever breaks, each final comes once, and what is held of open segments is replaced by what is there; where some
is lost, or nothing can be had any more, that is said within a bounded time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import grpc

from streamtrans.client.errors import ClientError, DataLost, Denied, Overloaded, TimedOut, Unavailable
from streamtrans.client.pauses import pause_s
from streamtrans.core import Caption, Event
from streamtrans.wire import Notice, Reducer, WatchRequest, WatchResponse, go_away_from_proto, notice_from_proto

WatchCall = Callable[[WatchRequest], AsyncGenerator[WatchResponse, None]]
"""Begins a call; it raises :class:`ClientError` where that ends without success."""

_REMEMBERED = 64
"""Finals, and a few times as many events, by which is known what was told: more than a server keeps for viewers."""

_BROKEN = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
"""What gRPC calls a connection that is gone, beside UNAVAILABLE."""


async def watching(call: WatchCall, request: WatchRequest, within_s: float) -> AsyncGenerator[Event | Notice, None]:
    """Yield what a viewer is told, and call again where the connection breaks or grows old.

    Each time that is tried for ``within_s``.

    Raises:
        ClientError: the server refused, or the stream has stopped before its end.
        DataLost: what ended the call says nothing of the stream's end.
        Unavailable: nobody could be reached again.
    """
    told = _Told()
    since, attempts, begun = 0.0, 0, False
    clock = asyncio.get_running_loop().time
    while True:
        try:
            async with aclosing(call(told.again(request))) as responses:
                async for response in responses:
                    since, attempts, begun = 0.0, 0, True
                    if response.WhichOneof("event") == "ended":
                        return
                    if _grows_old(response):
                        since = clock()
                        break
                    if (event := told.news(response)) is not None:
                        yield event
            if since:  # of a server that leaves, the last words are read here
                continue
            raise DataLost(grpc.StatusCode.DATA_LOSS, "the call ended without a word of the stream's end")
        except ClientError as error:
            if not begun or not _may_pass(error, returning=bool(since)):
                raise
            since = since or clock()
            wait_s = pause_s(error, attempts)
            if clock() + wait_s >= since + within_s:
                problem = f"the connection broke, and the stream couldn't be watched again within {within_s:g} s"
                raise Unavailable(grpc.StatusCode.UNAVAILABLE, f"{problem}: {error.message}") from error
        attempts += 1
        await asyncio.sleep(wait_s)


class _Told:
    """What the reader has been told, over all calls."""

    def __init__(self) -> None:
        self._reducer = Reducer()
        self._finals: deque[int] = deque(maxlen=_REMEMBERED)
        self._newest: dict[tuple[type, int], object] = {}
        """Kind and segment of an event → what was told of it last."""

    def again(self, request: WatchRequest) -> WatchRequest:
        """Return ``request`` for another call."""
        self._reducer = Reducer()
        asked = WatchRequest()
        asked.CopyFrom(request)
        asked.final_segments.extend(self._finals)
        return asked

    def news(self, response: WatchResponse) -> Event | Notice | None:
        """Return what ``response`` says, ``None`` where that is known."""
        if response.WhichOneof("event") == "notice":
            return notice_from_proto(response.notice)
        event = self._reducer.reduce(response)
        if event is None:
            return None
        said = (event.committed, event.tentative, event.final) if isinstance(event, Caption) else True
        key = type(event), event.segment
        if self._newest.pop(key, None) == said:
            event = None
        elif isinstance(event, Caption) and event.final:
            self._finals.append(event.segment)
        self._newest[key] = said
        if len(self._newest) > 4 * _REMEMBERED:
            del self._newest[next(iter(self._newest))]
        return event


def _grows_old(response: WatchResponse) -> bool:
    return response.WhichOneof("event") == "go_away" and go_away_from_proto(response.go_away).reason == "max_age"


def _may_pass(error: ClientError, *, returning: bool) -> bool:
    """Say whether another call may go on: it broke, was old, or the stream moves to another server."""
    if isinstance(error, Unavailable) or error.code in _BROKEN:
        return True
    # Who comes back may be there before the speaker is.
    return isinstance(error, TimedOut) or (returning and isinstance(error, Denied | Overloaded))
