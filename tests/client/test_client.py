import socket
import traceback

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from streamtrans.client import (
    ClientError,
    DataLost,
    Denied,
    InvalidRequest,
    Overloaded,
    ServerFault,
    StreamOptions,
    TimedOut,
    TranslationClient,
    Unavailable,
    Unsupported,
)
from streamtrans.client.errors import details_in, error_of
from streamtrans.core import StreamtransError
from streamtrans.wire import BadFields

CODE = grpc.StatusCode


async def test_a_client_must_be_entered():
    client = TranslationClient("127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with"):
        client.stream(StreamOptions(("de",)))
    async with client:
        stream = client.stream(StreamOptions(("de",)))
        with pytest.raises(RuntimeError, match="async with"):
            await stream.send(b"")
        with pytest.raises(RuntimeError, match="async with"):
            await stream.end()


async def test_nobody_there():
    async with TranslationClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await client.capabilities()
        with pytest.raises(Unavailable):
            await client.stream(StreamOptions(("de",))).__aenter__()
        with pytest.raises(Unavailable, match="not ready within"):
            await client.wait_ready(0.05)


async def test_a_listener_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        async with TranslationClient(address) as client:
            with pytest.raises(TimedOut):
                await client.capabilities(timeout_s=0.2)
            with pytest.raises(TimedOut, match="said nothing"):
                await client.stream(StreamOptions(("de",)), timeout_s=0.2).__aenter__()


def test_a_server_that_is_there_but_not_ready_is_told_how_to_wait_for():
    retry, box = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1)), Any()
    box.Pack(retry)
    details = status_pb2.Status(code=14, message="not warm", details=[box]).SerializeToString()
    loading = error_of(CODE.UNAVAILABLE, "not warm", details_in([("grpc-status-details-bin", details)]))
    assert loading.retry_after_s == 1
    assert "await client.wait_ready()" in "".join(traceback.format_exception(loading))
    assert "wait_ready" not in "".join(traceback.format_exception(error_of(CODE.UNAVAILABLE, "refused", ())))


async def test_a_server_without_health_service_is_told_apart(stage):
    async with stage.scripted(None) as (client, _):
        with pytest.raises(Unsupported):
            await client.wait_ready(5)


async def test_a_denial_is_named(stage):
    async with stage.scripted(None) as (client, _):
        with pytest.raises(Denied, match="not you"):
            await client.capabilities()


async def test_wrong_options_never_leave_the_house(stage):
    async with stage.scripted(None) as (client, service):
        with pytest.raises(BadFields, match="targets: is empty; name at least one language"):
            await client.stream(StreamOptions(())).__aenter__()
        with pytest.raises(BadFields, match="unknown encoding"):
            await client.stream(StreamOptions(("de",), encoding="mp3")).__aenter__()
    assert service.heard == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODE.INVALID_ARGUMENT, InvalidRequest),
        (CODE.FAILED_PRECONDITION, InvalidRequest),
        (CODE.NOT_FOUND, InvalidRequest),
        (CODE.UNIMPLEMENTED, Unsupported),
        (CODE.UNAUTHENTICATED, Denied),
        (CODE.PERMISSION_DENIED, Denied),
        (CODE.RESOURCE_EXHAUSTED, Overloaded),
        (CODE.UNAVAILABLE, Unavailable),
        (CODE.OUT_OF_RANGE, TimedOut),
        (CODE.ABORTED, TimedOut),
        (CODE.DEADLINE_EXCEEDED, TimedOut),
        (CODE.DATA_LOSS, DataLost),
        (CODE.INTERNAL, ServerFault),
        (CODE.UNKNOWN, ServerFault),
    ],
)
def test_every_status_has_its_error(code, kind):
    error = error_of(code, "why", ())
    assert type(error) is kind
    assert isinstance(error, ClientError)
    assert isinstance(error, StreamtransError)
    assert str(error) == f"{code.name}: why"
    assert (error.fields, error.retry_after_s) == ((), None)


def test_details_are_unpacked():
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    violation = error_details_pb2.BadRequest.FieldViolation(field="targets", description="empty")
    boxes = [Any(), Any(), Any()]
    boxes[0].Pack(retry)
    boxes[1].Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    boxes[2].Pack(error_details_pb2.Help())
    status = status_pb2.Status(code=8, message="why", details=boxes)
    metadata = (("x", "y"), ("grpc-status-details-bin", status.SerializeToString()))
    error = error_of(CODE.RESOURCE_EXHAUSTED, "why", details_in(metadata))
    assert error.retry_after_s == 1.5
    assert error.fields == (("targets", "empty"),)


def test_broken_details_hide_nothing():
    error = error_of(CODE.INTERNAL, "why", details_in([("grpc-status-details-bin", b"\xff\xff")]))
    assert str(error) == "INTERNAL: why"
