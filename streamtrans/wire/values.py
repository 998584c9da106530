"""What a server says besides captions, as values with units in their names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from streamtrans.core import LIVE, CaptionChoice, DecodeStats
from streamtrans.v1 import streamtrans_pb2 as pb
from streamtrans.wire.options import (
    ENCODINGS,
    MODES,
    StreamOptions,
    captions_from_proto,
    captions_to_proto,
    encoding_names,
    mode_names,
    options_from_proto,
)

_NOTICES = {
    "BEHIND_REALTIME": pb.NOTICE_CODE_BEHIND_REALTIME,
    "QUALITY_DEGRADED": pb.NOTICE_CODE_QUALITY_DEGRADED,
    "TEXT_INCOMPLETE": pb.NOTICE_CODE_TEXT_INCOMPLETE,
    "NO_SPEECH": pb.NOTICE_CODE_NO_SPEECH,
    "FEWER_PARTIALS": pb.NOTICE_CODE_FEWER_PARTIALS,
    "NO_PARTIALS": pb.NOTICE_CODE_NO_PARTIALS,
    "FULL_SERVICE": pb.NOTICE_CODE_FULL_SERVICE,
    "AUDIO_SCALE": pb.NOTICE_CODE_AUDIO_SCALE,
    "CAPTIONS_MISSED": pb.NOTICE_CODE_CAPTIONS_MISSED,
    "WRONG_LANGUAGE": pb.NOTICE_CODE_WRONG_LANGUAGE,
    "CHATTER": pb.NOTICE_CODE_CHATTER,
}
_NOTICE_NAMES = {number: name for name, number in _NOTICES.items()}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may do; published in ``started`` and in the capabilities."""

    max_chunk_bytes: int = 100_000
    """Larger saves messages; smaller bounds what one message can make the server do."""
    max_chunk_ms: int = 1_000
    """Audio in one message; 20 to 250 ms is a good size, for a chunk is heard only when it is complete."""
    max_real_time_factor: float = 2.0
    """Audio sent per wall time once the burst is used up; larger lets recordings in faster."""
    burst_ms: int = 5_000
    """Audio that may come at once: larger forgives longer network stalls."""
    idle_ms: int = 30_000
    """A call without audio for longer is ended."""
    max_connection_ms: int = 3_600_000
    """An older call is ended."""
    max_targets: int = 5
    """Each target costs about one decoding more."""
    max_message_bytes: int = 262_144
    """Larger messages are refused before they are parsed."""
    max_silence_ms: int = 30_000
    """In one ``silence`` message."""
    resume_ms: int = 30_000
    """How long a stream whose call broke waits to be resumed; 0: not at all. Larger: longer breaks are survived, and
    memory is held for longer."""


@dataclass(frozen=True, slots=True)
class Cursors:
    """Positions in the audio since the stream began, and the newest lag, in milliseconds."""

    received_ms: int = 0
    decoded_ms: int = 0
    committed_ms: int = 0
    final_ms: int = 0
    lag_ms: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """The setting that makes captions, and what was measured with it: what to expect on average, no promise."""

    name: str
    erasure: float
    """Words withdrawn per word of final text."""
    latency_ms: int
    """StreamLAAL; a word counts when it last changed."""
    bleu_loss: float
    """Against decoding the same segments offline."""


@dataclass(frozen=True, slots=True)
class Started:
    """The stream is admitted: what is in effect."""

    session_id: str
    options: StreamOptions
    limits: Limits
    model: str
    languages: tuple[str, ...]
    setting: Measured | None = None
    """``None`` where nothing was measured with this model."""
    resume_token: str = ""
    """Where the stream may be resumed."""
    acknowledged_sequence: int = 0
    """On a resumed call: audio and silence up to this message needn't be sent again."""
    unspaced_languages: tuple[str, ...] = ()
    """Of ``languages``: the texts of their segments follow each other as they are; all others' with a space between."""
    viewer_token: str = field(default="", repr=False)
    """Whoever has it may read along; empty: nobody may."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A condition that the caller may want to know of; the stream goes on."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished stream amounted to."""

    audio_ms: int = 0
    duration_ms: int = 0
    segments: int = 0
    captions: int = 0
    finals: int = 0
    withdrawn: int = 0
    first_caption_ms: tuple[int, ...] = ()
    first_caption_p50_ms: int = 0
    lag_p50_ms: int = 0
    lag_p95_ms: int = 0
    decoding: DecodeStats = field(default_factory=DecodeStats)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What there was of a stream, and isn't any more."""

    texts: bool
    """Of one that ran, waited to be resumed, or lay in the store."""
    recording: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server offers. Any of ``languages`` may be spoken, and become what ``translates`` says."""

    model: str
    languages: tuple[str, ...]
    encodings: tuple[str, ...]
    vads: tuple[str, ...]
    modes: tuple[str, ...]
    limits: Limits
    min_sample_rate_hertz: int
    max_sample_rate_hertz: int
    max_channels: int
    server_version: str
    translations: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Spoken language and what it can become, itself for a transcript; empty: any language can become any."""
    unspaced_languages: tuple[str, ...] = ()
    """Of ``languages``: the texts of their segments follow each other as they are; all others' with a space between."""
    defaults: CaptionChoice = LIVE
    """What a stream gets that doesn't say; its budgets hold where neither mode nor budget is said."""

    recorded: bool = False
    """Whether every stream's sound and captions lie in a file until somebody deletes it."""
    stored_ms: int = 0
    """How long after the last word the latest texts of resumable streams lie in a store; 0: in none."""

    def translates(self, source: str, target: str) -> bool:
        """Say whether speech in ``source`` can become text in ``target``."""
        if not self.translations:
            return source in self.languages and target in self.languages
        return target in dict(self.translations).get(source, ())


class Envelope:
    """Number the responses of one call and put on each what every response carries."""

    def __init__(self, session_id: str, after: int = 0) -> None:
        """Begin with the number behind ``after``."""
        self._session_id = session_id
        self._sequence = after

    def seal(
        self, response: pb.StreamTranslateResponse, cursors: Cursors, server_time_ms: int
    ) -> pb.StreamTranslateResponse:
        """Fill in ``response``'s envelope; call it once per response, in the order of sending."""
        self._sequence += 1
        response.session_id = self._session_id
        response.event_sequence = self._sequence
        response.cursors.CopyFrom(pb.Cursors(**asdict(cursors)))
        response.server_time_ms = server_time_ms
        return response


def cursors_to_proto(cursors: Cursors) -> pb.Cursors:
    """Return the message for ``cursors``."""
    return pb.Cursors(**asdict(cursors))


def decoding_to_proto(decoding: DecodeStats) -> pb.DecodeStats:
    """Return the message for what readings cost."""
    return pb.DecodeStats(
        passes=decoding.passes, tokens=decoding.tokens, drafted=decoding.drafted, accepted=decoding.accepted
    )


def cursors_from_proto(message: pb.Cursors) -> Cursors:
    """Return the positions in ``message``."""
    return Cursors(
        received_ms=message.received_ms,
        decoded_ms=message.decoded_ms,
        committed_ms=message.committed_ms,
        final_ms=message.final_ms,
        lag_ms=message.lag_ms,
    )


def limits_to_proto(limits: Limits) -> pb.Limits:
    """Return the message for ``limits``."""
    return pb.Limits(**asdict(limits))


def limits_from_proto(message: pb.Limits) -> Limits:
    """Return the limits in ``message``."""
    return Limits(
        max_chunk_bytes=message.max_chunk_bytes,
        max_chunk_ms=message.max_chunk_ms,
        max_real_time_factor=message.max_real_time_factor,
        burst_ms=message.burst_ms,
        idle_ms=message.idle_ms,
        max_connection_ms=message.max_connection_ms,
        max_targets=message.max_targets,
        max_message_bytes=message.max_message_bytes,
        max_silence_ms=message.max_silence_ms,
        resume_ms=message.resume_ms,
    )


def started_from_proto(response: pb.StreamTranslateResponse) -> Started:
    """Return what a ``started`` response says.

    Raises:
        BadFields: the server's effective configuration is malformed.
    """
    started, measured = response.started, response.started.setting
    return Started(
        session_id=response.session_id,
        options=options_from_proto(started.config),
        limits=limits_from_proto(started.limits),
        model=started.model,
        languages=tuple(started.languages),
        setting=Measured(measured.name, measured.erasure, measured.latency_ms, measured.bleu_loss)
        if started.HasField("setting")
        else None,
        resume_token=started.resume_token,
        acknowledged_sequence=started.acknowledged_sequence,
        unspaced_languages=tuple(started.unspaced_languages),
        viewer_token=started.viewer_token,
    )


def notice_to_proto(notice: Notice) -> pb.Notice:
    """Return the message for ``notice``."""
    return pb.Notice(code=_NOTICES[notice.code], message=notice.message)


def notice_from_proto(message: pb.Notice) -> Notice:
    """Return the notice in ``message``; a code of a newer version comes out as its number."""
    return Notice(code=_NOTICE_NAMES.get(message.code, str(message.code)), message=message.message)


def summary_to_proto(summary: Summary) -> pb.Summary:
    """Return the message for ``summary``."""
    decoding = summary.decoding
    return pb.Summary(
        audio_ms=summary.audio_ms,
        duration_ms=summary.duration_ms,
        segments=summary.segments,
        captions=summary.captions,
        finals=summary.finals,
        withdrawn=summary.withdrawn,
        first_caption_ms=summary.first_caption_ms,
        first_caption_p50_ms=summary.first_caption_p50_ms,
        lag_p50_ms=summary.lag_p50_ms,
        lag_p95_ms=summary.lag_p95_ms,
        decoding=decoding_to_proto(decoding),
    )


def summary_from_proto(message: pb.Summary) -> Summary:
    """Return the summary in ``message``."""
    decoding = message.decoding
    return Summary(
        audio_ms=message.audio_ms,
        duration_ms=message.duration_ms,
        segments=message.segments,
        captions=message.captions,
        finals=message.finals,
        withdrawn=message.withdrawn,
        first_caption_ms=tuple(message.first_caption_ms),
        first_caption_p50_ms=message.first_caption_p50_ms,
        lag_p50_ms=message.lag_p50_ms,
        lag_p95_ms=message.lag_p95_ms,
        decoding=DecodeStats(decoding.passes, decoding.tokens, decoding.drafted, decoding.accepted),
    )


def capabilities_to_proto(capabilities: Capabilities) -> pb.ListCapabilitiesResponse:
    """Return the message for ``capabilities``."""
    return pb.ListCapabilitiesResponse(
        model=capabilities.model,
        languages=capabilities.languages,
        encodings=[ENCODINGS[name] for name in capabilities.encodings],
        min_sample_rate_hertz=capabilities.min_sample_rate_hertz,
        max_sample_rate_hertz=capabilities.max_sample_rate_hertz,
        max_channels=capabilities.max_channels,
        modes=[MODES[name] for name in capabilities.modes],
        vads=capabilities.vads,
        limits=limits_to_proto(capabilities.limits),
        server_version=capabilities.server_version,
        translations=[pb.Translation(source=source, targets=targets) for source, targets in capabilities.translations],
        unspaced_languages=capabilities.unspaced_languages,
        defaults=captions_to_proto(capabilities.defaults),
        keeping=pb.Keeping(recorded=capabilities.recorded, stored_ms=capabilities.stored_ms),
    )


def forgotten_from_proto(message: pb.ForgetStreamResponse) -> Forgotten:
    """Return what was deleted."""
    return Forgotten(message.texts, message.recording)


def capabilities_from_proto(message: pb.ListCapabilitiesResponse) -> Capabilities:
    """Return the capabilities in ``message``, less what this version has no name for."""
    return Capabilities(
        model=message.model,
        languages=tuple(message.languages),
        encodings=encoding_names(message.encodings),
        vads=tuple(message.vads),
        limits=limits_from_proto(message.limits),
        modes=mode_names(message.modes),
        min_sample_rate_hertz=message.min_sample_rate_hertz,
        max_sample_rate_hertz=message.max_sample_rate_hertz,
        max_channels=message.max_channels,
        server_version=message.server_version,
        translations=tuple((item.source, tuple(item.targets)) for item in message.translations),
        unspaced_languages=tuple(message.unspaced_languages),
        defaults=captions_from_proto(message.defaults).over(LIVE),
        recorded=message.keeping.recorded,
        stored_ms=message.keeping.stored_ms,
    )
