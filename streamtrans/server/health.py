"""The health service: who watches without reading is ended after a while, and keeps nobody else from anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamtrans.server.grpc_link import Context
from streamtrans.server.refusal import Refusal, exhausted

_PATIENCE_MS = 10_000
"""For a watcher to take one status."""

Request: TypeAlias = health_pb2.HealthCheckRequest
Response: TypeAlias = health_pb2.HealthCheckResponse

SERVING: int = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it ships no types
    """``grpc.health.v1.Health`` for a server and its services, all of them in one state.

    Args:
        names: what may be asked for; ``""`` is the server.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._status = NOT_SERVING
        self._changed = asyncio.Event()
        """Set at the next change, and replaced by another one."""

    @property
    def serving(self) -> bool:
        """Whether the answer is SERVING."""
        return self._status == SERVING

    def set(self, status: int) -> None:
        """Let ``status`` be the answer from now on, and tell it to who watches."""
        self._status = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Request, _context: Context) -> Response:
        """Say how it is."""
        if request.service not in self._names:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        answer: Response = health_pb2.HealthCheckResponse(status=self._status)
        return answer

    async def Watch(self, request: Request, context: Context) -> None:
        """Say how it is, and whenever it changes; what has changed again before it is read isn't told."""
        told = None
        while True:
            changed = self._changed
            status = self._status if request.service in self._names else _UNKNOWN
            if status != told:
                told = status
                await _tell(status, context)
            await changed.wait()


async def _tell(status: int, context: Context) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_MS / 1000):
            await context.write(health_pb2.HealthCheckResponse(status=status))
    except TimeoutError as error:
        raise exhausted(f"no status was read for {_PATIENCE_MS} ms", _PATIENCE_MS) from error
