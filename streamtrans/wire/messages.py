"""The messages by our names: how to make them, and the service they belong to."""

from __future__ import annotations

from dataclasses import asdict

from streamtrans.v1 import streamtrans_pb2 as pb
from streamtrans.v1 import streamtrans_pb2_grpc as pb_grpc
from streamtrans.wire.options import StreamOptions, options_to_proto
from streamtrans.wire.values import (
    Notice,
    Started,
    Summary,
    limits_to_proto,
    notice_to_proto,
    summary_to_proto,
)

ClientMessage = pb.StreamTranslateRequest
ServerMessage = pb.StreamTranslateResponse
CapabilitiesRequest = pb.ListCapabilitiesRequest
CapabilitiesResponse = pb.ListCapabilitiesResponse

WatchRequest = pb.WatchCaptionsRequest
WatchResponse = pb.WatchCaptionsResponse
StatsRequest = pb.GetStatsRequest
StatsResponse = pb.GetStatsResponse
StreamStats = pb.StreamStats
ForgetRequest = pb.ForgetStreamRequest
ForgetResponse = pb.ForgetStreamResponse

ServiceStub = pb_grpc.TranslationServiceStub
ServiceBase = pb_grpc.TranslationServiceServicer
"""Says UNIMPLEMENTED to every method that isn't overridden."""
add_service = pb_grpc.add_TranslationServiceServicer_to_server

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name
"""The name under which health and reflection know the service."""


def config_message(options: StreamOptions) -> pb.StreamTranslateRequest:
    """Open a stream with ``options``; raises what :func:`options_to_proto` raises."""
    return pb.StreamTranslateRequest(config=options_to_proto(options))


def audio_message(data: bytes, sequence: int) -> pb.StreamTranslateRequest:
    """Send encoded audio; ``sequence`` counts audio and silence messages from 1."""
    return pb.StreamTranslateRequest(audio=pb.AudioChunk(data=data, sequence=sequence))


def silence_message(duration_ms: int, sequence: int) -> pb.StreamTranslateRequest:
    """Stand for ``duration_ms`` of digital silence."""
    return pb.StreamTranslateRequest(silence=pb.Silence(duration_ms=duration_ms, sequence=sequence))


def end_utterance_message() -> pb.StreamTranslateRequest:
    """Close the current segment here."""
    return pb.StreamTranslateRequest(end_utterance=pb.EndUtterance())


def end_message(last_sequence: int) -> pb.StreamTranslateRequest:
    """Say that no audio follows."""
    return pb.StreamTranslateRequest(end=pb.EndStream(last_sequence=last_sequence))


def leave_message() -> pb.StreamTranslateRequest:
    """Say that nothing more is wanted, of a stream that would be kept otherwise."""
    return pb.StreamTranslateRequest(end=pb.EndStream(leave=True))


def ping_message(client_time_ms: int) -> pb.StreamTranslateRequest:
    """Ask for a ``pong`` that carries ``client_time_ms``."""
    return pb.StreamTranslateRequest(ping=pb.Ping(client_time_ms=client_time_ms))


def started_message(started: Started) -> pb.StreamTranslateResponse:
    """Answer a configuration; the session id is the envelope's matter."""
    return pb.StreamTranslateResponse(
        started=pb.SessionStarted(
            config=options_to_proto(started.options),
            limits=limits_to_proto(started.limits),
            model=started.model,
            languages=started.languages,
            setting=None if started.setting is None else pb.MeasuredSetting(**asdict(started.setting)),
            resume_token=started.resume_token,
            acknowledged_sequence=started.acknowledged_sequence,
            unspaced_languages=started.unspaced_languages,
            viewer_token=started.viewer_token,
        )
    )


def notice_message(notice: Notice) -> pb.StreamTranslateResponse:
    """Tell the client of a condition."""
    return pb.StreamTranslateResponse(notice=notice_to_proto(notice))


def summary_message(summary: Summary) -> pb.StreamTranslateResponse:
    """Close a stream."""
    return pb.StreamTranslateResponse(summary=summary_to_proto(summary))


def pong_message(client_time_ms: int) -> pb.StreamTranslateResponse:
    """Answer a ping."""
    return pb.StreamTranslateResponse(pong=pb.Pong(client_time_ms=client_time_ms))


def payload_of(message: pb.StreamTranslateRequest | pb.StreamTranslateResponse) -> str | None:
    """Return the name of what ``message`` carries; ``None`` where it carries nothing known."""
    group = "payload" if isinstance(message, pb.StreamTranslateRequest) else "event"
    name: str | None = message.WhichOneof(group)
    return name
