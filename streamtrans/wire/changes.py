"""What changes while a stream runs: its targets, and how long it may go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from streamtrans.v1 import streamtrans_pb2 as pb
from streamtrans.wire.options import StreamOptions, options_from_proto, options_to_proto

_REASONS: dict[str, pb.GoAwayReason] = {
    "max_age": pb.GO_AWAY_REASON_MAX_AGE,
    "shutdown": pb.GO_AWAY_REASON_SHUTDOWN,
}
_REASON_NAMES = {number: name for name, number in _REASONS.items()}


@dataclass(frozen=True, slots=True)
class Update:
    """What a client wants to change; it takes effect whole or not at all."""

    update_id: int
    """The client's own; the answer carries it."""
    add_targets: tuple[str, ...] = ()
    remove_targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigApplied:
    """An update is in effect."""

    update_id: int
    effective_at_ms: int
    """What is said from here on has captions in all targets, and in no other language."""
    options: StreamOptions
    """All that is in effect now."""


@dataclass(frozen=True, slots=True)
class ConfigRejected:
    """An update was refused, and nothing has changed."""

    update_id: int
    message: str


@dataclass(frozen=True, slots=True)
class GoAway:
    """The call will be ended: after so long no more audio is heard; finals, summary and the status follow."""

    time_left_ms: int
    reason: Literal["max_age", "shutdown"] | str
    """``max_age``: open a new stream; ``shutdown``: the same, on another server; else the number of a newer one."""
    resume_token: str = field(default="", repr=False)
    """The stream may be resumed at once, on another server; empty: open a new one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The client's audio and silence up to the message with this number was heard; it needn't be kept any longer."""

    resume_token: str
    acknowledged_sequence: int
    acknowledged_ms: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a stream whose call broke after the response of this number."""

    token: str
    last_event_sequence: int


Change = ConfigApplied | ConfigRejected | Checkpoint | GoAway


def update_message(update_id: int, add: Sequence[str], remove: Sequence[str]) -> pb.StreamTranslateRequest:
    """Ask for other targets."""
    targets = [pb.TargetConfig(language=language) for language in add]
    return pb.StreamTranslateRequest(
        update=pb.ConfigUpdate(update_id=update_id, add_targets=targets, remove_targets=remove)
    )


def update_from_proto(message: pb.ConfigUpdate) -> Update:
    """Return what ``message`` asks for; languages are taken as they are written."""
    added = tuple(target.language for target in message.add_targets)
    return Update(message.update_id, added, tuple(message.remove_targets))


def resume_message(token: str, last_event_sequence: int) -> pb.StreamTranslateRequest:
    """Ask to go on with a stream after the response of this number."""
    resume = pb.Resume(token=token, last_event_sequence=last_event_sequence)
    return pb.StreamTranslateRequest(config=pb.SessionConfig(resume=resume))


def resume_from_proto(config: pb.SessionConfig) -> Resume | None:
    """Return what ``config`` asks to go on with, if anything."""
    if not config.HasField("resume"):
        return None
    return Resume(config.resume.token, config.resume.last_event_sequence)


def change_message(change: Change) -> pb.StreamTranslateResponse:
    """Tell a client of ``change``."""
    if isinstance(change, GoAway):
        return pb.StreamTranslateResponse(go_away=go_away_to_proto(change))
    if isinstance(change, Checkpoint):
        return pb.StreamTranslateResponse(checkpoint=pb.Checkpoint(**asdict(change)))
    if isinstance(change, ConfigRejected):
        rejected = pb.ConfigRejected(update_id=change.update_id, message=change.message)
        return pb.StreamTranslateResponse(config_rejected=rejected)
    applied = pb.ConfigApplied(
        update_id=change.update_id,
        effective_at_ms=change.effective_at_ms,
        config=options_to_proto(change.options),
    )
    return pb.StreamTranslateResponse(config_applied=applied)


def go_away_to_proto(change: GoAway) -> pb.GoAway:
    """Return what tells a speaker, or a viewer, that the call will be ended."""
    return pb.GoAway(time_left_ms=change.time_left_ms, reason=_REASONS[change.reason], resume_token=change.resume_token)


def go_away_from_proto(message: pb.GoAway) -> GoAway:
    """Return when the call will be ended, and why."""
    return GoAway(message.time_left_ms, _REASON_NAMES.get(message.reason, str(message.reason)), message.resume_token)


def change_from_proto(response: pb.StreamTranslateResponse) -> Change | None:
    """Return the change that ``response`` tells of; ``None`` where it tells of something else.

    Raises:
        BadFields: the server's effective configuration is malformed.
    """
    kind = response.WhichOneof("event")
    if kind == "go_away":
        return go_away_from_proto(response.go_away)
    if kind == "checkpoint":
        told = response.checkpoint
        return Checkpoint(told.resume_token, told.acknowledged_sequence, told.acknowledged_ms)
    if kind == "config_rejected":
        return ConfigRejected(response.config_rejected.update_id, response.config_rejected.message)
    if kind == "config_applied":
        applied = response.config_applied
        return ConfigApplied(applied.update_id, applied.effective_at_ms, options_from_proto(applied.config))
    return None
