"""A server that passes everything on to a right one, but for what it spoils: what the checks are there to find."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from streamtrans.wire import (
    SERVICE_NAME,
    CapabilitiesResponse,
    ClientMessage,
    ServerMessage,
    StatsResponse,
    WatchResponse,
)

HEALTH, REFLECTION = "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"

METHODS = {
    f"/{SERVICE_NAME}/StreamTranslate": ServerMessage,
    f"/{SERVICE_NAME}/WatchCaptions": WatchResponse,
    f"/{SERVICE_NAME}/ListCapabilities": CapabilitiesResponse,
    f"/{SERVICE_NAME}/GetStats": StatsResponse,
    f"/{HEALTH}/Check": health_pb2.HealthCheckResponse,
    f"/{REFLECTION}/ServerReflectionInfo": reflection_pb2.ServerReflectionResponse,
}


@dataclass
class Spoil:
    """What is done to one thing; everything else passes."""

    answers: dict = field(default_factory=dict)
    """Kind of message → what makes any number of messages of one."""
    asks: object = None
    """What makes another message, or none, of what a speaker says."""
    status: dict = field(default_factory=dict)
    """Code → code."""
    details: bool = True
    """Whether the details of a status pass."""

    def told(self, message):
        spoil = self.answers.get(type(message))
        return [message] if spoil is None else spoil(message)

    def said(self, data):
        if self.asks is None:
            return data
        message = self.asks(ClientMessage.FromString(data))
        return None if message is None else message.SerializeToString()


class Spoiled(grpc.GenericRpcHandler):
    def __init__(self, channel, spoil):
        self.channel, self.spoil = channel, spoil

    def service(self, details):
        kind = METHODS.get(details.method)
        if kind is None:
            return None

        async def serve(messages, context):
            call = self.channel.stream_stream(details.method)(metadata=context.invocation_metadata())
            asking = asyncio.create_task(self._ask(messages, call, kind is ServerMessage))
            try:
                async for data in call:
                    for message in self.spoil.told(kind.FromString(data)):
                        await context.write(message.SerializeToString())
            except grpc.aio.AioRpcError as error:
                context.set_code(self.spoil.status.get(error.code(), error.code()))
                context.set_details(error.details())
                if self.spoil.details:
                    context.set_trailing_metadata(tuple(error.trailing_metadata()))
            finally:
                call.cancel()
                asking.cancel()
                await asyncio.wait([asking])

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _ask(self, messages, call, speaks):
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async for data in messages:
                asked = self.spoil.said(data) if speaks else data
                if asked is not None:
                    await call.write(asked)
            await call.done_writing()


@asynccontextmanager
async def spoiled(port, spoil):
    """Give the address of a server that spoils what the one on ``port`` says."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Spoiled(channel, spoil),))
        own = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{own}"
        finally:
            await server.stop(0)
