"""A call that comes over a WebSocket.

```
client ──{"authorization": …}?──messages──▶ link       read one at a time; meanwhile the socket is paused,
client ◀──messages──{"status": …}──close── link        so TCP holds a client that is too fast
```
There is no half-close: who means it says ``end``, and who closes without it has left.
"""

from __future__ import annotations

from typing import TypeVar

import grpc
from google.protobuf.message import Message

from streamtrans.server.link import Metadata
from streamtrans.server.refusal import Refusal, invalid
from streamtrans.server.sockets import Socket
from streamtrans.wire import (
    BadFields,
    ClientMessage,
    Form,
    Frame,
    authorization_in,
    payload_of,
    status_frame,
)

_APPLICATION_CODES = 4_000
"""Closing codes from here on are ours: this and the status code, such as 4003 for INVALID_ARGUMENT."""

M = TypeVar("M", bound=Message)


class WebLink:
    """A :class:`~streamtrans.server.link.Link` over a WebSocket; ``form`` is what its subprotocol says."""

    def __init__(self, socket: Socket, form: Form) -> None:
        self._socket = socket
        self._form = form
        self._first: Frame | None = None
        self._introduced = False

    async def introduction(self) -> Metadata:
        """Return what the client says of itself before its first message, if it does.

        Raises:
            Refusal: what came is no message.
            LinkLost: nothing comes any more.
        """
        frame = await self._socket.read()
        self._introduced = True
        try:
            said = authorization_in(frame)
        except BadFields as error:
            raise invalid(error.fields) from error
        if said is None:
            self._first = frame
            return ()
        return (("authorization", said),)

    async def read(self) -> ClientMessage:
        """Return the next message; there is always one, or the client has left."""
        message = await self._message(ClientMessage)
        if payload_of(message) == "end":
            self._socket.hear_no_more()
        return message

    async def request(self, kind: type[M]) -> M:
        """Return the one message of a client that only reads from then on.

        Raises:
            Refusal: what came is no such message.
            LinkLost: nothing comes any more.
        """
        message = await self._message(kind)
        self._socket.hear_no_more()
        return message

    async def write(self, message: Message) -> None:
        """Send ``message``."""
        await self._socket.write(self._form.frame(message))

    async def close(self, refusal: Refusal | None = None) -> None:
        """Tell the status, then close with the code that says the same."""
        if refusal is None:
            await self._socket.close(1_000, "", [status_frame(0, grpc.StatusCode.OK.name)])
            return
        number: int = refusal.code.value[0]
        text = status_frame(number, refusal.code.name, refusal.message, refusal.details)
        await self._socket.close(_APPLICATION_CODES + number, refusal.message, [text])

    async def _message(self, kind: type[M]) -> M:
        if not self._introduced:
            await self.introduction()
        frame, self._first = self._first, None
        if frame is None:
            frame = await self._socket.read()
        try:
            return self._form.message(frame, kind)
        except BadFields as error:
            raise invalid(error.fields) from error
