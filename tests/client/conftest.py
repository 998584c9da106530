from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import pytest

from streamtrans.client import Limits, Started, StreamOptions, Summary, TranslationClient
from streamtrans.wire import Cursors, Envelope, ServiceBase, add_service, started_message, summary_message

OPTIONS = StreamOptions(("de",))


class Scripted(ServiceBase):
    """A service that does what the test says."""

    def __init__(self, play):
        self.play = play
        self.heard = []

    async def StreamTranslate(self, _messages, context):
        self.heard.append(await context.read())
        envelope = Envelope("s")

        async def say(message, *, sequence=None):
            envelope.seal(message, Cursors(received_ms=7), 1)
            if sequence is not None:
                message.event_sequence = sequence
            await context.write(message)

        await self.play(self, context, say)

    async def ListCapabilities(self, _request, context):
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")


@asynccontextmanager
async def scripted(play):
    service = Scripted(play)
    server = grpc.aio.server()
    add_service(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with TranslationClient(f"127.0.0.1:{port}") as client:
            yield client, service
    finally:
        await server.stop(0)


def started():
    return started_message(Started("s", OPTIONS, Limits(), "toy", ("de",)))


async def hear(service, context):
    """Read to the end of what the client says."""
    while (message := await context.read()) is not grpc.aio.EOF:
        service.heard.append(message)


@pytest.fixture
def stage():
    return SimpleNamespace(
        scripted=scripted,
        started=started,
        hear=hear,
        options=OPTIONS,
        summary=lambda: summary_message(Summary()),
    )
