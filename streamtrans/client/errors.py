"""What a server's refusal means to a caller, by name."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships none

from streamtrans.core import StreamtransError

_DETAILS_KEY = "grpc-status-details-bin"


class ClientError(StreamtransError):
    """A call failed.

    ``code`` is the gRPC status, ``message`` the server's words, ``fields`` what was wrong where in the
    request, ``retry_after_s`` the time to wait where the server named one.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        fields: tuple[tuple[str, str], ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code = code
        self.message = message
        self.fields = fields
        self.retry_after_s = retry_after_s


class InvalidRequest(ClientError):
    """The request is malformed or out of order; the same one will fail again."""


class Unsupported(ClientError):
    """The server doesn't offer this: a language, an encoding, a feature."""


class Denied(ClientError):
    """The server doesn't know or doesn't trust the caller."""


class Overloaded(ClientError):
    """The server has no room, or the sender is too fast; wait ``retry_after_s``."""


class Unavailable(ClientError):
    """There is no server, it is still loading its model, or it is going away; try again.

    A server that is there names a time, ``retry_after_s``; ``TranslationClient.wait_ready`` waits until one serves.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        fields: tuple[tuple[str, str], ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, fields, retry_after_s)
        if retry_after_s is not None:
            self.add_note("the server is loading or going away: `await client.wait_ready()` waits until one serves")


class TimedOut(ClientError):
    """A deadline passed, no audio was sent for too long, or the call reached its maximum age."""


class DataLost(ClientError):
    """Something that was sent has not arrived."""


class ServerFault(ClientError):
    """The server failed."""


_KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.UNAUTHENTICATED: Denied,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: TimedOut,
    grpc.StatusCode.ABORTED: TimedOut,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.DATA_LOSS: DataLost,
}


def client_error(error: grpc.aio.AioRpcError) -> ClientError:
    """Return the named error for what gRPC raised."""
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]  # the stubs name a class where pairs come
    return error_of(error.code(), error.details() or "", details_in(metadata))


def error_of(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> ClientError:
    """Return the named error for a status."""
    fields: list[tuple[str, str]] = []
    retry_after_s = None
    for detail in details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad):
            fields += [(violation.field, violation.description) for violation in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    return _KINDS.get(code, ServerFault)(code, message, tuple(fields), retry_after_s)


def details_in(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Any, ...]:
    """Return the details of a status, which gRPC has among the trailing metadata."""
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return tuple(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return ()  # the code and the message still tell what happened
    return ()
