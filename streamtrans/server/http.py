"""What calls over HTTP have in common: who calls, and how a refusal is said there."""

from __future__ import annotations

import grpc
from aiohttp import web
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships none

from streamtrans.server.link import Metadata
from streamtrans.server.refusal import Refusal
from streamtrans.wire import status_frame

_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""Status → that of HTTP (google/rpc/code.proto); others are 500."""


class Answer:
    """What :func:`~streamtrans.server.ending.ending` says of a request, for HTTP."""

    def __init__(self) -> None:
        self._refusal: Refusal | None = None

    async def close(self, refusal: Refusal | None = None) -> None:
        """Take down how it ended."""
        self._refusal = refusal

    @property
    def refusal(self) -> Refusal:
        """Why it was refused."""
        assert self._refusal is not None, "it ended well, and was answered"
        return self._refusal

    def response(self) -> web.Response:
        """Return the answer to who was refused."""
        refusal = self.refusal
        number: int = refusal.code.value[0]
        text = status_frame(number, refusal.code.name, refusal.message, refusal.details)
        return web.Response(text=text, content_type="application/json", status=http_status(refusal))


def http_status(refusal: Refusal) -> int:
    """Return the status of HTTP that says the same."""
    return _HTTP.get(refusal.code, 500)


def retry_after(refusal: Refusal) -> dict[str, str]:
    """Return the header that says how long to wait, where a refusal does."""
    for detail in refusal.details:
        if isinstance(detail, error_details_pb2.RetryInfo):
            seconds = detail.retry_delay.ToTimedelta().total_seconds()
            return {"Retry-After": str(max(1, round(seconds)))}
    return {}


def metadata_of(request: web.Request) -> Metadata | None:
    """Return who calls, by the headers; ``None`` where they don't say it."""
    said = request.headers.get("Authorization")
    return None if said is None else (("authorization", said),)


def peer_of(request: web.Request) -> str:
    """Return what counts as one connection: all that come from one address, as each holds but one call."""
    return f"web:{request.remote}"
