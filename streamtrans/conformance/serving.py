"""What stands beside the calls: health, reflection, and what a gateway owes to browsers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from streamtrans.client.over_grpc import GrpcCarrier
from streamtrans.conformance.kit import CODE, Broken, Kit, NotTried, Talk, expect
from streamtrans.wire import SERVICE_NAME, CapabilitiesRequest, ServerMessage, config_message, end_message

if TYPE_CHECKING:
    from streamtrans.client.over_web import WebCall, WebCarrier


def _channel(kit: Kit) -> grpc.aio.Channel:
    if not isinstance(kit.carrier, GrpcCarrier):
        raise NotTried("it is a matter of gRPC")
    return kit.carrier.channel


async def health(kit: Kit) -> str:
    """A server that takes streams says SERVING, of itself and of the service; an unknown service is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(_channel(kit))
    for service in ("", SERVICE_NAME):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=kit.patience_s)
        told = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        expect(told == "SERVING", f"of {service or 'the server'} it says {told}")
    try:
        await stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=kit.patience_s)
    except grpc.aio.AioRpcError as error:
        expect(error.code() is CODE.NOT_FOUND, f"an unknown service is {error.code().name}")
        return "SERVING"
    raise Broken("a service that it can't know has a status")


async def reflection(kit: Kit) -> str:
    """Reflection lists the service, and describes every method and field of this protocol as it is here."""
    stub = reflection_pb2_grpc.ServerReflectionStub(_channel(kit))
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE_NAME),
    ]
    answers = [answer async for answer in stub.ServerReflectionInfo(iter(asked), timeout=kit.patience_s)]
    listed = [each.name for each in answers[0].list_services_response.service]
    expect(SERVICE_NAME in listed, f"it lists {', '.join(listed)}")
    theirs = descriptor_pb2.FileDescriptorProto()
    for data in answers[1].file_descriptor_response.file_descriptor_proto:
        found = descriptor_pb2.FileDescriptorProto.FromString(data)
        theirs = found if any(f"{found.package}.{each.name}" == SERVICE_NAME for each in found.service) else theirs
    ours = descriptor_pb2.FileDescriptorProto()
    CapabilitiesRequest.DESCRIPTOR.file.CopyToProto(ours)
    lacking = sorted(_fields(ours) - _fields(theirs))
    expect(not lacking, f"it lacks {', '.join(lacking[:5])}")
    return f"{len(_fields(ours))} fields and methods"


def _fields(file: descriptor_pb2.FileDescriptorProto) -> set[str]:
    """Return all that a client can see: fields with their numbers and types, methods with their messages."""
    fields = {
        f"{message.name}.{field.name} = {field.number}, {field.type} {field.type_name}"
        for message in file.message_type
        for field in message.field
    }
    methods = {
        f"{method.name}({method.input_type}) {method.output_type}" for each in file.service for method in each.method
    }
    return fields | methods


def _web(kit: Kit) -> WebCarrier:
    if kit.over == "gRPC":
        raise NotTried("it is a matter of HTTP")
    return cast("WebCarrier", kit.carrier)


async def readiness(kit: Kit) -> str:
    """`/healthz` and `/readyz` answer 200 on a server that takes streams."""
    for path in ("/healthz", "/readyz"):
        status, _ = await _web(kit).get(path)
        expect(status == 200, f"{path} answers {status}")
    return "200"


async def json_answers(kit: Kit) -> str:
    """`/v1/capabilities` is JSON where nothing else is asked for."""
    status, text = await _web(kit).get("/v1/capabilities")
    expect(status == 200, f"it answers {status}")
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    expect(isinstance(told, dict) and told.get("model") == kit.offers.model, f"it answers {text[:80]!r}")
    return str(told["model"])


async def origins(kit: Kit) -> str:
    """A page of another origin is refused with HTTP 403 before the handshake, a wrong subprotocol with 400."""
    web = _web(kit)
    for path in ("/v1/stream", "/v1/watch"):
        theirs = {"Sec-WebSocket-Protocol": "streamtrans.v1+json", "Origin": "https://somebody.else.example"}
        for headers, due in ((theirs, 403), ({"Sec-WebSocket-Protocol": "chat"}, 400)):
            status, _ = await web.get(path, headers)
            expect(status == due, f"{path} answers {status} where {due} is due")
    return "403, 400"


async def closing(kit: Kit) -> str:
    """A WebSocket ends with its status as a text, and closes with 1000, or 4000 and the code."""
    _web(kit)
    async with kit.stream() as well:
        await well.say(end_message(0))
        await well.rest()
        await _closes(well, 1_000)
    async with kit.call() as wrong:
        await wrong.say(config_message(kit.options(targets=("tlh",))))
        await wrong.rest()
        await _closes(wrong, 4_012)
    return "1000, 4012"


async def _closes(talk: Talk[ServerMessage], due: int) -> None:
    code = await cast("WebCall[ServerMessage]", talk.call).closed()
    expect(code == due, f"it closed with {code} where {due} is due")


CHECKS = (health, reflection, readiness, json_answers, origins, closing)
