"""A stream's messages over as many calls as it takes: what a broken one may have lost is sent again.

```
kept      | audio 41 | audio 42 | update 3 | audio 43 | audio 44 |      oldest first; acknowledged ones are forgotten
                                ^ sent on this call so far; the beginning again when the call breaks
```
Law: whatever breaks, and wherever, the server hears each message once and in order, the reader gets each response
once and in order; where that can't be had, reading and writing say so within a bounded time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc

from streamtrans.client.carrier import Call
from streamtrans.client.errors import ClientError, DataLost, Overloaded, TimedOut, Unavailable
from streamtrans.client.link import Link
from streamtrans.client.pauses import pause_s
from streamtrans.wire import (
    Checkpoint,
    ClientMessage,
    ConfigApplied,
    ConfigRejected,
    GoAway,
    ServerMessage,
    change_from_proto,
    leave_message,
    payload_of,
    resume_message,
)

KEPT_S = 60.0
"""Audio that is kept while nobody has acknowledged it: larger outlasts longer breaks, and takes more memory."""

_PARTING_S = 0.5
"""How long a server is waited for that is told that the stream is left; one that isn't told keeps it for a while."""

_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
"""What a connection that is gone is called."""

_GONE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DATA_LOSS)
"""A server's answers to who comes back too late."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The connection broke, or had to be made anew, and the stream goes on: no text is lost, and none comes twice."""

    away_s: float
    """How long nothing came."""


class LastingLink:
    """A :class:`~streamtrans.client.link.Link` that calls again; cancelling what it does harms nothing.

    Before the server has told a token, or where it tells none, it is the link of its one call.

    Args:
        call: begins a call.
        most_bytes: of messages that are kept; beyond it writing waits for acknowledgements.
        within_s: how long it may take to come back, and how long acknowledgements may be missing.
    """

    def __init__(self, call: Callable[[], Call[ServerMessage]], most_bytes: int, within_s: float) -> None:
        self.closed = False
        self._resumed: Resumed | None = None
        self._call = call
        self._link = Link(call())
        self._most_bytes = most_bytes
        self._within_s = within_s
        self._token = ""
        self._last = 0
        """Number of the newest response."""
        self._kept: deque[tuple[int, ClientMessage]] = deque()
        """Under the number of its audio, or of the audio that follows it; that one heard, it was heard."""
        self._bytes = 0
        self._number = 0
        """Of the newest audio or silence."""
        self._gone = 0
        """Messages that are kept no more."""
        self._begun = 0
        """Messages of which sending has begun on this call, and those that are kept no more."""
        self._sent = 0
        """The same, once they are on their way."""
        self._sending: asyncio.Task[None] | None = None
        self._flowing = False
        """Whether what is kept is being sent."""
        self._calling: asyncio.Task[None] | None = None
        self._since: float | None = None
        """When the connection was found broken; ``None`` while it holds."""
        self._attempts = 0
        self._moving = False
        """Whether the server has asked to call again."""
        self._over = False
        self._failure: ClientError | None = None
        self._refused: ClientError | None = None
        """What writing met; reading may have more to tell before it meets the same."""
        self._closing = asyncio.Event()
        self._bell = asyncio.Event()

    async def clear(self) -> None:
        """Wait until there is room for another message; it is to be awaited before the next one.

        Raises:
            DataLost: the server has acknowledged nothing for too long.
            ClientError: the stream has ended.
        """
        if not self._token:
            await self._link.clear()
            return
        while self._bytes >= self._most_bytes and self._refused is None and not self.closed:
            before = self._gone
            try:
                async with asyncio.timeout(self._within_s):
                    while self._gone == before and self._refused is None and not self.closed:
                        await self._bell.wait()
            except TimeoutError:
                if self._since is None:  # else whoever reads learns when it has been too long
                    self._fail(_unacknowledged(self._within_s))
                    await self._link.close()
        if self._refused is not None:
            raise self._refused

    async def write(self, message: ClientMessage, *, last: bool = False) -> None:
        """Send ``message``, now or once the connection is there again; waits while the server is behind.

        Raises:
            ClientError: the stream has ended.
        """
        if not self._token:
            await self._link.write(message, last=last)
            return
        self._keep(message)
        number = self._gone + len(self._kept)
        self._ring()
        while self._sent < number and self._flowing and self._refused is None and not self.closed:
            await self._bell.wait()
        if self._refused is not None:
            raise self._refused

    async def read(self) -> ServerMessage | None:
        """Return the next message, ``None`` once the stream has ended well or was closed.

        Raises:
            ClientError: the stream has ended otherwise.
        """
        while self._failure is None:
            if self._moving and not self.closed:
                self._moving = False
                self._call_again(0.0)
            if self._calling is not None:
                await asyncio.shield(self._calling)
                self._calling = None
            try:
                async with asyncio.timeout_at(None if self._since is None else self._since + self._within_s):
                    message = await self._link.read()
            except TimeoutError:
                self._broke(TimedOut(grpc.StatusCode.DEADLINE_EXCEEDED, "the server says nothing"))
            except ClientError as error:
                if self._over and _is_break(error):
                    return None  # all was said
                self._broke(error)
            else:
                if message is not None:
                    self._heed(message)
                elif self._failure is not None:
                    break  # it was closed for that
                return message
        raise self._failure

    def resumed(self) -> Resumed | None:
        """Return how the newest break was mended; each is told once."""
        resumed, self._resumed = self._resumed, None
        return resumed

    async def close(self) -> None:
        """End the call, and let the server keep nothing; one that has come to its end is left as it is."""
        if self._sending is not None and not self._over and self._refused is None:
            self._rest()
            with suppress(ClientError, TimeoutError):
                async with asyncio.timeout(_PARTING_S):
                    await self._link.clear()
                    await self._link.write(leave_message(), last=True)
                    while await self._link.read() is not None:
                        pass
        self.closed = True
        self._closing.set()
        self._ring()
        self._rest()
        await self._link.close()
        if self._calling is not None:
            await asyncio.wait([self._calling])

    def _keep(self, message: ClientMessage) -> None:
        sound = payload_of(message) in ("audio", "silence")
        self._number += sound
        self._kept.append((self._number if sound else self._number + 1, message))
        self._bytes += message.ByteSize()

    def _heed(self, message: ServerMessage) -> None:
        """Note what a response says of the stream itself."""
        self._last = message.event_sequence
        if payload_of(message) == "started":
            self._go_on(message)
            return
        self._over = self._over or payload_of(message) == "summary"
        change = change_from_proto(message)
        if isinstance(change, Checkpoint):
            self._token = change.resume_token
            self._acknowledge(change.acknowledged_sequence)
        elif isinstance(change, ConfigApplied | ConfigRejected):
            self._answered(change.update_id)
        elif isinstance(change, GoAway) and self._token and self._since is None:
            # A server that leaves takes its streams with it, unless it says how to go on elsewhere.
            self._moving = change.reason == "max_age" or bool(change.resume_token)

    def _go_on(self, message: ServerMessage) -> None:
        """Send from what the server has not heard, now that it has answered."""
        self._token = message.started.resume_token
        self._acknowledge(message.started.acknowledged_sequence)
        if self._sending is not None:
            return  # an answer to an earlier call, which got lost, has come first; they say the same
        if self._since is not None:
            self._resumed = Resumed(asyncio.get_running_loop().time() - self._since)
        self._since, self._attempts = None, 0
        self._begun = self._sent = self._gone
        if self._token:
            self._flowing = True
            self._sending = asyncio.create_task(self._send(self._link))

    def _acknowledge(self, number: int) -> None:
        """Forget what was heard: all up to audio ``number``."""
        while self._kept and self._kept[0][0] <= number:
            self._forget(0)
        self._ring()

    def _answered(self, update_id: int) -> None:
        for index, (_, message) in enumerate(self._kept):
            if payload_of(message) == "update" and message.update.update_id == update_id:
                self._forget(index)
                return

    def _forget(self, index: int) -> None:
        self._bytes -= self._kept[index][1].ByteSize()
        del self._kept[index]
        if index >= self._begun - self._gone:
            self._begun += 1
        self._gone += 1
        self._sent = max(self._sent, self._gone)

    async def _send(self, link: Link[ServerMessage]) -> None:
        """Send what is kept, from the oldest on, and what is added to it, until the call breaks."""
        while True:
            while self._begun < self._gone + len(self._kept):
                message = self._kept[self._begun - self._gone][1]
                self._begun += 1
                try:
                    await link.write(message, last=payload_of(message) == "end")
                except ClientError as error:
                    self._flowing = False
                    if not _is_break(error):
                        self._refused = error
                    self._ring()
                    return
                self._sent = self._begun
                self._ring()
            await self._bell.wait()

    def _broke(self, error: ClientError) -> None:
        """Call again after ``error``, or fail with what it means."""
        now = asyncio.get_running_loop().time()
        returning = self._since is not None
        if returning and error.code in _GONE:
            problem = f"the connection broke, and the server can't go on with the stream: {error.message}"
            self._fail(DataLost(error.code, problem))
        elif not self._token or not (_is_break(error) or (returning and _is_passing(error))):
            self._fail(error)
        else:
            if self._since is None:
                self._since = now
            wait_s = pause_s(error, self._attempts)
            if now + wait_s >= self._since + self._within_s:
                problem = f"the connection broke and couldn't be made again within {self._within_s:g} s"
                self._fail(Unavailable(grpc.StatusCode.UNAVAILABLE, f"{problem}: {error.message}"))
            else:
                self._call_again(wait_s)

    def _call_again(self, wait_s: float) -> None:
        self._attempts += 1
        if self._since is None:
            self._since = asyncio.get_running_loop().time()
        self._rest()
        self._ring()
        self._calling = asyncio.create_task(self._open(wait_s, self._since + self._within_s))

    async def _open(self, wait_s: float, deadline: float) -> None:
        """Begin another call after a pause; whether the server goes on is read from it."""
        await self._link.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._closing.wait()
        if self.closed:
            return
        self._link = Link(self._call())
        with suppress(ClientError, TimeoutError):  # reading tells why
            async with asyncio.timeout_at(deadline):
                await self._link.write(resume_message(self._token, self._last))

    def _fail(self, error: ClientError) -> None:
        self._failure = self._refused = error
        self._rest()
        self._ring()

    def _rest(self) -> None:
        """Send no more on this call."""
        self._flowing = False
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _ring(self) -> None:
        """Wake all who wait for something to have changed."""
        self._bell.set()
        self._bell = asyncio.Event()


def _unacknowledged(within_s: float) -> ClientError:
    problem = f"{KEPT_S:g} s of audio wait for an acknowledgement, and none came for {within_s:g} s"
    return DataLost(grpc.StatusCode.DATA_LOSS, f"{problem}; iterate over the events while you send")


def _is_break(error: ClientError) -> bool:
    """Say whether the connection is to blame, and no server that gives a reason and a time."""
    return error.code in _BROKEN and error.retry_after_s is None


def _is_passing(error: ClientError) -> bool:
    """Say whether a server that refused, or didn't answer, may yet admit who comes back."""
    return isinstance(error, Unavailable | Overloaded) or error.code == grpc.StatusCode.DEADLINE_EXCEEDED
