"""A client of the gateway that sends what it likes."""

import json
from contextlib import asynccontextmanager

import aiohttp

from streamtrans.wire import FORMS, ServerMessage, WatchResponse, status_in

PROTO, JSON = FORMS


class Web:
    """One WebSocket: messages in its form, or anything else."""

    def __init__(self, socket, kind=ServerMessage):
        self.socket, self.form, self.kind = socket, FORMS[socket.protocol](), kind
        self.status = None

    async def send(self, *messages):
        for message in messages:
            frame = message if isinstance(message, str | bytes) else self.form.frame(message)
            await (self.socket.send_str(frame) if isinstance(frame, str) else self.socket.send_bytes(frame))

    async def read(self):
        """Return the next message, ``None`` at the end, which leaves the status."""
        frame = (await self.socket.receive()).data
        if not isinstance(frame, str | bytes):
            return None
        self.status = status_in(frame)
        if self.status is not None:
            await self.socket.receive()
            return None
        return self.form.message(frame, self.kind)

    async def rest(self):
        messages = []
        while (message := await self.read()) is not None:
            messages.append(message)
        return messages


@asynccontextmanager
async def connected(server, subprotocol=JSON, headers=None, scheme="http", kind=ServerMessage, **options):
    """Connect to speak, or to watch where ``kind`` is what viewers are told."""
    path = "watch" if kind is WatchResponse else "stream"
    address = f"{scheme}://localhost:{server.http_port}/v1/{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, protocols=[subprotocol], headers=headers, **options) as socket,
    ):
        yield Web(socket, kind)


async def get(server, path, **options):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://localhost:{server.http_port}{path}", **options) as answer,
    ):
        body = await answer.read()
        if "protobuf" in answer.content_type:
            return answer, body
        return answer, json.loads(body) if "json" in answer.content_type else body.decode()
