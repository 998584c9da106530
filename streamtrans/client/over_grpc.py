"""The way to a server over gRPC.

A write that fails because the server has just ended the call makes gRPC replace the server's status by an
INTERNAL of its own (grpc/grpc#36066). So the status is taken down the moment it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamtrans.client.carrier import Call, CallOver, Status, Tls
from streamtrans.client.errors import client_error, details_in
from streamtrans.wire import (
    SERVICE_NAME,
    CapabilitiesRequest,
    CapabilitiesResponse,
    ForgetRequest,
    ForgetResponse,
    Frame,
    ServerMessage,
    ServiceStub,
    StatsRequest,
    StatsResponse,
    WatchResponse,
)

T = TypeVar("T")
Told = TypeVar("Told", bound=Message)

_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),  # a speaker may be silent for minutes
    ("grpc.initial_reconnect_backoff_ms", 100),  # a broken stream is missed every second
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_WAITING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.NOT_FOUND)
"""Answers of the health service that may yet change."""

_MADE_UP = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What gRPC says of a call whose end it doesn't know."""

_UNKNOWN: Status = (grpc.StatusCode.UNAVAILABLE, "the call broke off, and no status came", ())

_PATIENCE_S = 1.0
"""The true status follows a failed write within moments, if there is one."""


class GrpcCarrier:
    """A :class:`~streamtrans.client.carrier.Carrier` over one channel to ``address``."""

    def __init__(self, address: str, tls: Tls | None, key: str | None) -> None:
        self._address, self._tls = address, tls
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        self.channel: grpc.aio.Channel
        """There once it is open."""

    async def open(self) -> None:
        """Make the channel."""
        if self._tls is None:
            self.channel = grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(
                self._tls.root_certificates, self._tls.private_key, self._tls.certificate_chain
            )
            self.channel = grpc.aio.secure_channel(self._address, credentials, options=_CHANNEL_OPTIONS)

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close(None)

    def speak(self) -> Call[ServerMessage]:
        """Begin a call of a speaker."""
        return self._call("StreamTranslate", ServerMessage.FromString)

    def watch(self) -> Call[WatchResponse]:
        """Begin a call of a viewer, whose one message is the last."""
        return self._call("WatchCaptions", WatchResponse.FromString)

    async def capabilities(self, timeout_s: float) -> CapabilitiesResponse:
        """Ask what is offered."""
        stub = ServiceStub(self.channel)
        return await _answered(stub.ListCapabilities(CapabilitiesRequest(), timeout=timeout_s, metadata=self._metadata))

    async def stats(self, timeout_s: float) -> StatsResponse:
        """Ask how one's streams are getting on."""
        stub = ServiceStub(self.channel)
        return await _answered(stub.GetStats(StatsRequest(), timeout=timeout_s, metadata=self._metadata))

    async def forget(self, request: ForgetRequest, timeout_s: float) -> ForgetResponse:
        """Have a stream deleted."""
        stub = ServiceStub(self.channel)
        return await _answered(stub.ForgetStream(request, timeout=timeout_s, metadata=self._metadata))

    async def missing(self, timeout_s: float) -> str | None:
        """Return what the health service says but SERVING."""
        health = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        try:
            status = (await health.Check(request, timeout=timeout_s, wait_for_ready=True)).status
        except grpc.aio.AioRpcError as error:
            if error.code() not in _WAITING:
                raise client_error(error) from error
            return error.details() or error.code().name
        if status == health_pb2.HealthCheckResponse.SERVING:
            return None
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))

    def _call(self, method: str, read: Callable[[bytes], Told]) -> GrpcCall[Told]:
        begin: Any = self.channel.stream_stream  # published with more arguments than it needs
        return GrpcCall(begin(f"/{SERVICE_NAME}/{method}", None, read)(metadata=self._metadata))


class GrpcCall(Generic[Told]):
    """A :class:`~streamtrans.client.carrier.Call`; to gRPC one message is a stream of one."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, Told]) -> None:
        self._call = call
        self._responses = aiter(call)
        self._status: Status | None = None
        call.add_done_callback(self._note)

    async def write(self, message: Message | Frame, *, last: bool = False) -> None:
        """Send ``message``."""
        data = message.SerializeToString() if isinstance(message, Message) else message
        try:
            await self._call.write(data if isinstance(data, bytes) else data.encode())
            if last:
                await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise CallOver from error

    async def read(self) -> Told | None:
        """Return the next message."""
        try:
            return await anext(self._responses, None)
        except grpc.aio.AioRpcError:
            return None  # the status says why

    async def status(self) -> Status:
        """Return how the call ended."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while self._status is None:
            status = await _status(self._call)
            if status[:2] != _MADE_UP:
                self._status = status
            elif asyncio.get_running_loop().time() > deadline:
                self._status = _UNKNOWN
            else:
                await asyncio.sleep(0.005)
        return self._status

    async def close(self) -> None:
        """Cancel the call."""
        self._call.cancel()

    def _note(self, call: grpc.aio.StreamStreamCall[bytes, Told]) -> None:
        """Take down the status of a call that is done, before anything can replace it."""
        status = _at_once(_status(call))
        if self._status is None and status is not None and status[:2] != _MADE_UP:
            self._status = status


async def _answered(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise client_error(error) from error


async def _status(call: grpc.aio.StreamStreamCall[bytes, Any]) -> Status:
    metadata: Any = await call.trailing_metadata() or ()
    return await call.code(), await call.details() or "", details_in(metadata)


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of a coroutine that needn't wait; ``None`` where it would have to."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    return None
