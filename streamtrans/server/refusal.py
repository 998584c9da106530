"""The status table: why a call ends without success, in words a client can act on."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships none
from grpc_status import rpc_status

_MOST_BYTES = 600
"""Of one message or description. Clients take 8 KB of trailing metadata, where a byte outside of ASCII counts
three times, and drop the whole status with anything beyond; callers' own words may be quoted in it."""

_MOST_FIELDS = 3
"""Wrong fields that one refusal lists."""


class Refusal(Exception):
    """A call ends with a status; the message is for the client to read, and cut where it is too long.

    ``reason`` is for counts: one of a few words of ours, by default the code's name.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        message = clip(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.reason = code.name.lower()

    def status(self) -> grpc.Status:
        """Return the status with its details packed for the trailing metadata."""
        packed = []
        for detail in self.details:
            box = Any()
            box.Pack(detail)
            packed.append(box)
        number: int = self.code.value[0]
        status: grpc.Status = rpc_status.to_status(status_pb2.Status(code=number, message=self.message, details=packed))
        return status


def invalid(fields: Sequence[tuple[str, str]]) -> Refusal:
    """Refuse a message with wrong fields: INVALID_ARGUMENT, one violation per ``(path, problem)``."""
    listed = fields[:_MOST_FIELDS]
    details = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=path, description=clip(problem))
            for path, problem in listed
        ]
    )
    message = "; ".join(f"{path}: {clip(problem)}" for path, problem in listed)
    if len(fields) > len(listed):
        message = f"{len(fields)} fields are wrong, the first: {message}"
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message, details)


def out_of_order(message: str) -> Refusal:
    """Refuse a message that comes at the wrong time: FAILED_PRECONDITION."""
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)


def unsupported(message: str) -> Refusal:
    """Refuse what this server doesn't offer: UNIMPLEMENTED."""
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, message)


def exhausted(message: str, retry_after_ms: int, reason: str | None = None) -> Refusal:
    """Refuse for want of capacity: RESOURCE_EXHAUSTED, with the time to wait."""
    return _for_now(grpc.StatusCode.RESOURCE_EXHAUSTED, message, retry_after_ms, reason)


def unavailable(message: str, retry_after_ms: int, reason: str | None = None) -> Refusal:
    """Refuse for the moment: UNAVAILABLE, with the time to wait."""
    return _for_now(grpc.StatusCode.UNAVAILABLE, message, retry_after_ms, reason)


def _for_now(code: grpc.StatusCode, message: str, retry_after_ms: int, reason: str | None) -> Refusal:
    delay = Duration()
    delay.FromMilliseconds(retry_after_ms)
    refusal = Refusal(code, message, error_details_pb2.RetryInfo(retry_delay=delay))
    refusal.reason = reason or refusal.reason
    return refusal


def idle(limit_ms: int) -> Refusal:
    """End a call that sends no audio: OUT_OF_RANGE."""
    return Refusal(
        grpc.StatusCode.OUT_OF_RANGE,
        f"no audio for {limit_ms} ms; send audio or silence in time, or end the stream",
    )


def too_old(limit_ms: int) -> Refusal:
    """End a call at its maximum age: ABORTED."""
    return Refusal(grpc.StatusCode.ABORTED, f"the call reached its maximum age of {limit_ms} ms; open a new stream")


def unknown_token() -> Refusal:
    """Refuse to resume what isn't there: NOT_FOUND."""
    problem = "no stream waits under this token: it was ended, or waited too long; open a new one"
    return Refusal(grpc.StatusCode.NOT_FOUND, problem)


def no_viewer() -> Refusal:
    """Refuse who may not read along, whatever he tried: UNAUTHENTICATED."""
    problem = "no stream is open to viewers under this token; ask its speaker, whose client has it from `started`"
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, problem)


def expired() -> Refusal:
    """End what a signed token was for while it held: UNAUTHENTICATED."""
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, "the token has expired; call again with a new one")


def broken_off() -> Refusal:
    """Tell viewers that a stream has stopped before its end: DATA_LOSS."""
    problem = "the speaker has left without an end; what was said last has no final caption"
    return Refusal(grpc.StatusCode.DATA_LOSS, problem)


def elsewhere(retry_after_ms: int) -> Refusal:
    """Tell viewers that a stream may go on at another server: UNAVAILABLE."""
    return unavailable("this server leaves the stream, which may go on at another one; call again", retry_after_ms)


def lost_events(last: int) -> Refusal:
    """Refuse to resume where responses are lost: DATA_LOSS."""
    problem = f"what followed the response {last} is not kept any more, or was never sent; open a new stream"
    return Refusal(grpc.StatusCode.DATA_LOSS, problem)


def lost_audio(heard: int, again: int) -> Refusal:
    """End a resumed stream of which audio is missing: DATA_LOSS."""
    problem = f"audio and silence had come up to message {heard}, and have come again up to {again}: send all of it"
    return Refusal(grpc.StatusCode.DATA_LOSS, problem)


def superseded() -> Refusal:
    """End a call whose stream another one goes on with: ABORTED."""
    return Refusal(grpc.StatusCode.ABORTED, "another call has resumed this stream")


def internal(name: str) -> Refusal:
    """End a call for a fault of ours: INTERNAL, with nothing but the name to look up."""
    return Refusal(grpc.StatusCode.INTERNAL, f"internal error; the server's log has it under {name}")


def refusal_in(error: BaseException) -> Refusal | None:
    """Return the refusal that ``error`` is or, as a group, contains."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := refusal_in(inner)) is not None), None)
    return None


def clip(text: str) -> str:
    """Return ``text``, or as much of its beginning as may travel in a status."""
    data = text.encode(errors="replace")
    if len(data) <= _MOST_BYTES:
        return text
    return data[:_MOST_BYTES].decode(errors="ignore") + " …"
