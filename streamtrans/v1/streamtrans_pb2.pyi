from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AudioEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIO_ENCODING_UNSPECIFIED: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_PCM_S16LE: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_PCM_F32LE: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_MULAW: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_ALAW: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_OPUS: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_OGG_OPUS: _ClassVar[AudioEncoding]
    AUDIO_ENCODING_FLAC: _ClassVar[AudioEncoding]

class CaptionMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPTION_MODE_UNSPECIFIED: _ClassVar[CaptionMode]
    CAPTION_MODE_STABLE: _ClassVar[CaptionMode]
    CAPTION_MODE_LIVE: _ClassVar[CaptionMode]
    CAPTION_MODE_FINAL: _ClassVar[CaptionMode]

class GoAwayReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GO_AWAY_REASON_UNSPECIFIED: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_MAX_AGE: _ClassVar[GoAwayReason]
    GO_AWAY_REASON_SHUTDOWN: _ClassVar[GoAwayReason]

class SpeechEventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPEECH_EVENT_TYPE_UNSPECIFIED: _ClassVar[SpeechEventType]
    SPEECH_EVENT_TYPE_SPEECH_STARTED: _ClassVar[SpeechEventType]
    SPEECH_EVENT_TYPE_SPEECH_ENDED: _ClassVar[SpeechEventType]

class NoticeCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTICE_CODE_UNSPECIFIED: _ClassVar[NoticeCode]
    NOTICE_CODE_BEHIND_REALTIME: _ClassVar[NoticeCode]
    NOTICE_CODE_QUALITY_DEGRADED: _ClassVar[NoticeCode]
    NOTICE_CODE_TEXT_INCOMPLETE: _ClassVar[NoticeCode]
    NOTICE_CODE_NO_SPEECH: _ClassVar[NoticeCode]
    NOTICE_CODE_FEWER_PARTIALS: _ClassVar[NoticeCode]
    NOTICE_CODE_NO_PARTIALS: _ClassVar[NoticeCode]
    NOTICE_CODE_FULL_SERVICE: _ClassVar[NoticeCode]
    NOTICE_CODE_AUDIO_SCALE: _ClassVar[NoticeCode]
    NOTICE_CODE_CAPTIONS_MISSED: _ClassVar[NoticeCode]
    NOTICE_CODE_WRONG_LANGUAGE: _ClassVar[NoticeCode]
    NOTICE_CODE_CHATTER: _ClassVar[NoticeCode]
AUDIO_ENCODING_UNSPECIFIED: AudioEncoding
AUDIO_ENCODING_PCM_S16LE: AudioEncoding
AUDIO_ENCODING_PCM_F32LE: AudioEncoding
AUDIO_ENCODING_MULAW: AudioEncoding
AUDIO_ENCODING_ALAW: AudioEncoding
AUDIO_ENCODING_OPUS: AudioEncoding
AUDIO_ENCODING_OGG_OPUS: AudioEncoding
AUDIO_ENCODING_FLAC: AudioEncoding
CAPTION_MODE_UNSPECIFIED: CaptionMode
CAPTION_MODE_STABLE: CaptionMode
CAPTION_MODE_LIVE: CaptionMode
CAPTION_MODE_FINAL: CaptionMode
GO_AWAY_REASON_UNSPECIFIED: GoAwayReason
GO_AWAY_REASON_MAX_AGE: GoAwayReason
GO_AWAY_REASON_SHUTDOWN: GoAwayReason
SPEECH_EVENT_TYPE_UNSPECIFIED: SpeechEventType
SPEECH_EVENT_TYPE_SPEECH_STARTED: SpeechEventType
SPEECH_EVENT_TYPE_SPEECH_ENDED: SpeechEventType
NOTICE_CODE_UNSPECIFIED: NoticeCode
NOTICE_CODE_BEHIND_REALTIME: NoticeCode
NOTICE_CODE_QUALITY_DEGRADED: NoticeCode
NOTICE_CODE_TEXT_INCOMPLETE: NoticeCode
NOTICE_CODE_NO_SPEECH: NoticeCode
NOTICE_CODE_FEWER_PARTIALS: NoticeCode
NOTICE_CODE_NO_PARTIALS: NoticeCode
NOTICE_CODE_FULL_SERVICE: NoticeCode
NOTICE_CODE_AUDIO_SCALE: NoticeCode
NOTICE_CODE_CAPTIONS_MISSED: NoticeCode
NOTICE_CODE_WRONG_LANGUAGE: NoticeCode
NOTICE_CODE_CHATTER: NoticeCode

class StreamTranslateRequest(_message.Message):
    __slots__ = ("config", "audio", "silence", "update", "end_utterance", "end", "ping")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    END_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    config: SessionConfig
    audio: AudioChunk
    silence: Silence
    update: ConfigUpdate
    end_utterance: EndUtterance
    end: EndStream
    ping: Ping
    def __init__(self, config: _Optional[_Union[SessionConfig, _Mapping]] = ..., audio: _Optional[_Union[AudioChunk, _Mapping]] = ..., silence: _Optional[_Union[Silence, _Mapping]] = ..., update: _Optional[_Union[ConfigUpdate, _Mapping]] = ..., end_utterance: _Optional[_Union[EndUtterance, _Mapping]] = ..., end: _Optional[_Union[EndStream, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class AudioFormat(_message.Message):
    __slots__ = ("encoding", "sample_rate_hertz", "channels")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HERTZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    encoding: AudioEncoding
    sample_rate_hertz: int
    channels: int
    def __init__(self, encoding: _Optional[_Union[AudioEncoding, str]] = ..., sample_rate_hertz: _Optional[int] = ..., channels: _Optional[int] = ...) -> None: ...

class TargetConfig(_message.Message):
    __slots__ = ("language",)
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    language: str
    def __init__(self, language: _Optional[str] = ...) -> None: ...

class Partials(_message.Message):
    __slots__ = ("min_interval_ms",)
    MIN_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    min_interval_ms: int
    def __init__(self, min_interval_ms: _Optional[int] = ...) -> None: ...

class Endpointing(_message.Message):
    __slots__ = ("vad", "min_silence_ms", "max_segment_ms")
    VAD_FIELD_NUMBER: _ClassVar[int]
    MIN_SILENCE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_SEGMENT_MS_FIELD_NUMBER: _ClassVar[int]
    vad: str
    min_silence_ms: int
    max_segment_ms: int
    def __init__(self, vad: _Optional[str] = ..., min_silence_ms: _Optional[int] = ..., max_segment_ms: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("token", "last_event_sequence")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    token: str
    last_event_sequence: int
    def __init__(self, token: _Optional[str] = ..., last_event_sequence: _Optional[int] = ...) -> None: ...

class SessionConfig(_message.Message):
    __slots__ = ("audio_format", "source_languages", "targets", "partials", "mode", "erasure_budget", "latency_budget_ms", "endpointing", "word_times", "resume", "resumable")
    AUDIO_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    PARTIALS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ERASURE_BUDGET_FIELD_NUMBER: _ClassVar[int]
    LATENCY_BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTING_FIELD_NUMBER: _ClassVar[int]
    WORD_TIMES_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    audio_format: AudioFormat
    source_languages: _containers.RepeatedScalarFieldContainer[str]
    targets: _containers.RepeatedCompositeFieldContainer[TargetConfig]
    partials: Partials
    mode: CaptionMode
    erasure_budget: float
    latency_budget_ms: int
    endpointing: Endpointing
    word_times: bool
    resume: Resume
    resumable: bool
    def __init__(self, audio_format: _Optional[_Union[AudioFormat, _Mapping]] = ..., source_languages: _Optional[_Iterable[str]] = ..., targets: _Optional[_Iterable[_Union[TargetConfig, _Mapping]]] = ..., partials: _Optional[_Union[Partials, _Mapping]] = ..., mode: _Optional[_Union[CaptionMode, str]] = ..., erasure_budget: _Optional[float] = ..., latency_budget_ms: _Optional[int] = ..., endpointing: _Optional[_Union[Endpointing, _Mapping]] = ..., word_times: bool = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., resumable: bool = ...) -> None: ...

class AudioChunk(_message.Message):
    __slots__ = ("data", "sequence")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    sequence: int
    def __init__(self, data: _Optional[bytes] = ..., sequence: _Optional[int] = ...) -> None: ...

class Silence(_message.Message):
    __slots__ = ("duration_ms", "sequence")
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    duration_ms: int
    sequence: int
    def __init__(self, duration_ms: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ConfigUpdate(_message.Message):
    __slots__ = ("update_id", "add_targets", "remove_targets")
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    ADD_TARGETS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_TARGETS_FIELD_NUMBER: _ClassVar[int]
    update_id: int
    add_targets: _containers.RepeatedCompositeFieldContainer[TargetConfig]
    remove_targets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, update_id: _Optional[int] = ..., add_targets: _Optional[_Iterable[_Union[TargetConfig, _Mapping]]] = ..., remove_targets: _Optional[_Iterable[str]] = ...) -> None: ...

class EndUtterance(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndStream(_message.Message):
    __slots__ = ("last_sequence", "leave")
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    last_sequence: int
    leave: bool
    def __init__(self, last_sequence: _Optional[int] = ..., leave: bool = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("client_time_ms", "received_event_sequence")
    CLIENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    client_time_ms: int
    received_event_sequence: int
    def __init__(self, client_time_ms: _Optional[int] = ..., received_event_sequence: _Optional[int] = ...) -> None: ...

class StreamTranslateResponse(_message.Message):
    __slots__ = ("session_id", "event_sequence", "cursors", "server_time_ms", "started", "caption", "speech", "config_applied", "config_rejected", "checkpoint", "notice", "go_away", "summary", "pong")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    CONFIG_APPLIED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_REJECTED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    event_sequence: int
    cursors: Cursors
    server_time_ms: int
    started: SessionStarted
    caption: Caption
    speech: SpeechEvent
    config_applied: ConfigApplied
    config_rejected: ConfigRejected
    checkpoint: Checkpoint
    notice: Notice
    go_away: GoAway
    summary: Summary
    pong: Pong
    def __init__(self, session_id: _Optional[str] = ..., event_sequence: _Optional[int] = ..., cursors: _Optional[_Union[Cursors, _Mapping]] = ..., server_time_ms: _Optional[int] = ..., started: _Optional[_Union[SessionStarted, _Mapping]] = ..., caption: _Optional[_Union[Caption, _Mapping]] = ..., speech: _Optional[_Union[SpeechEvent, _Mapping]] = ..., config_applied: _Optional[_Union[ConfigApplied, _Mapping]] = ..., config_rejected: _Optional[_Union[ConfigRejected, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class Cursors(_message.Message):
    __slots__ = ("received_ms", "decoded_ms", "committed_ms", "final_ms", "lag_ms")
    RECEIVED_MS_FIELD_NUMBER: _ClassVar[int]
    DECODED_MS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_MS_FIELD_NUMBER: _ClassVar[int]
    FINAL_MS_FIELD_NUMBER: _ClassVar[int]
    LAG_MS_FIELD_NUMBER: _ClassVar[int]
    received_ms: int
    decoded_ms: int
    committed_ms: int
    final_ms: int
    lag_ms: int
    def __init__(self, received_ms: _Optional[int] = ..., decoded_ms: _Optional[int] = ..., committed_ms: _Optional[int] = ..., final_ms: _Optional[int] = ..., lag_ms: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_chunk_bytes", "max_chunk_ms", "max_real_time_factor", "burst_ms", "idle_ms", "max_connection_ms", "max_targets", "max_message_bytes", "max_silence_ms", "resume_ms")
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_REAL_TIME_FACTOR_FIELD_NUMBER: _ClassVar[int]
    BURST_MS_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONNECTION_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_TARGETS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SILENCE_MS_FIELD_NUMBER: _ClassVar[int]
    RESUME_MS_FIELD_NUMBER: _ClassVar[int]
    max_chunk_bytes: int
    max_chunk_ms: int
    max_real_time_factor: float
    burst_ms: int
    idle_ms: int
    max_connection_ms: int
    max_targets: int
    max_message_bytes: int
    max_silence_ms: int
    resume_ms: int
    def __init__(self, max_chunk_bytes: _Optional[int] = ..., max_chunk_ms: _Optional[int] = ..., max_real_time_factor: _Optional[float] = ..., burst_ms: _Optional[int] = ..., idle_ms: _Optional[int] = ..., max_connection_ms: _Optional[int] = ..., max_targets: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_silence_ms: _Optional[int] = ..., resume_ms: _Optional[int] = ...) -> None: ...

class SessionStarted(_message.Message):
    __slots__ = ("config", "limits", "model", "languages", "setting", "resume_token", "acknowledged_sequence", "unspaced_languages", "viewer_token")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UNSPACED_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    VIEWER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    config: SessionConfig
    limits: Limits
    model: str
    languages: _containers.RepeatedScalarFieldContainer[str]
    setting: MeasuredSetting
    resume_token: str
    acknowledged_sequence: int
    unspaced_languages: _containers.RepeatedScalarFieldContainer[str]
    viewer_token: str
    def __init__(self, config: _Optional[_Union[SessionConfig, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., model: _Optional[str] = ..., languages: _Optional[_Iterable[str]] = ..., setting: _Optional[_Union[MeasuredSetting, _Mapping]] = ..., resume_token: _Optional[str] = ..., acknowledged_sequence: _Optional[int] = ..., unspaced_languages: _Optional[_Iterable[str]] = ..., viewer_token: _Optional[str] = ...) -> None: ...

class MeasuredSetting(_message.Message):
    __slots__ = ("name", "erasure", "latency_ms", "bleu_loss")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ERASURE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    BLEU_LOSS_FIELD_NUMBER: _ClassVar[int]
    name: str
    erasure: float
    latency_ms: int
    bleu_loss: float
    def __init__(self, name: _Optional[str] = ..., erasure: _Optional[float] = ..., latency_ms: _Optional[int] = ..., bleu_loss: _Optional[float] = ...) -> None: ...

class ConfigApplied(_message.Message):
    __slots__ = ("update_id", "effective_at_ms", "config")
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    update_id: int
    effective_at_ms: int
    config: SessionConfig
    def __init__(self, update_id: _Optional[int] = ..., effective_at_ms: _Optional[int] = ..., config: _Optional[_Union[SessionConfig, _Mapping]] = ...) -> None: ...

class ConfigRejected(_message.Message):
    __slots__ = ("update_id", "message")
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    update_id: int
    message: str
    def __init__(self, update_id: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("resume_token", "acknowledged_sequence", "acknowledged_ms")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_MS_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    acknowledged_sequence: int
    acknowledged_ms: int
    def __init__(self, resume_token: _Optional[str] = ..., acknowledged_sequence: _Optional[int] = ..., acknowledged_ms: _Optional[int] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("time_left_ms", "reason", "resume_token")
    TIME_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    time_left_ms: int
    reason: GoAwayReason
    resume_token: str
    def __init__(self, time_left_ms: _Optional[int] = ..., reason: _Optional[_Union[GoAwayReason, str]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class Caption(_message.Message):
    __slots__ = ("segment_id", "revision", "language", "committed_append", "tentative", "withdrawn", "snapshot", "final", "start_ms", "end_ms", "stability", "heard_ms", "words", "other_language", "held_back", "chatter", "incomplete")
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_APPEND_FIELD_NUMBER: _ClassVar[int]
    TENTATIVE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    HEARD_MS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    OTHER_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_FIELD_NUMBER: _ClassVar[int]
    CHATTER_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    segment_id: int
    revision: int
    language: str
    committed_append: str
    tentative: str
    withdrawn: int
    snapshot: bool
    final: bool
    start_ms: int
    end_ms: int
    stability: float
    heard_ms: int
    words: _containers.RepeatedCompositeFieldContainer[Word]
    other_language: str
    held_back: bool
    chatter: bool
    incomplete: bool
    def __init__(self, segment_id: _Optional[int] = ..., revision: _Optional[int] = ..., language: _Optional[str] = ..., committed_append: _Optional[str] = ..., tentative: _Optional[str] = ..., withdrawn: _Optional[int] = ..., snapshot: bool = ..., final: bool = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., stability: _Optional[float] = ..., heard_ms: _Optional[int] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ..., other_language: _Optional[str] = ..., held_back: bool = ..., chatter: bool = ..., incomplete: bool = ...) -> None: ...

class Word(_message.Message):
    __slots__ = ("text", "confidence", "start_ms", "end_ms")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    text: str
    confidence: float
    start_ms: int
    end_ms: int
    def __init__(self, text: _Optional[str] = ..., confidence: _Optional[float] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ...) -> None: ...

class SpeechEvent(_message.Message):
    __slots__ = ("type", "segment_id", "offset_ms")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_MS_FIELD_NUMBER: _ClassVar[int]
    type: SpeechEventType
    segment_id: int
    offset_ms: int
    def __init__(self, type: _Optional[_Union[SpeechEventType, str]] = ..., segment_id: _Optional[int] = ..., offset_ms: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: NoticeCode
    message: str
    def __init__(self, code: _Optional[_Union[NoticeCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("audio_ms", "duration_ms", "segments", "captions", "finals", "withdrawn", "first_caption_ms", "first_caption_p50_ms", "lag_p50_ms", "lag_p95_ms", "decoding")
    AUDIO_MS_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    FINALS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    FIRST_CAPTION_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_CAPTION_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LAG_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LAG_P95_MS_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    audio_ms: int
    duration_ms: int
    segments: int
    captions: int
    finals: int
    withdrawn: int
    first_caption_ms: _containers.RepeatedScalarFieldContainer[int]
    first_caption_p50_ms: int
    lag_p50_ms: int
    lag_p95_ms: int
    decoding: DecodeStats
    def __init__(self, audio_ms: _Optional[int] = ..., duration_ms: _Optional[int] = ..., segments: _Optional[int] = ..., captions: _Optional[int] = ..., finals: _Optional[int] = ..., withdrawn: _Optional[int] = ..., first_caption_ms: _Optional[_Iterable[int]] = ..., first_caption_p50_ms: _Optional[int] = ..., lag_p50_ms: _Optional[int] = ..., lag_p95_ms: _Optional[int] = ..., decoding: _Optional[_Union[DecodeStats, _Mapping]] = ...) -> None: ...

class DecodeStats(_message.Message):
    __slots__ = ("passes", "tokens", "drafted", "accepted")
    PASSES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    passes: int
    tokens: int
    drafted: int
    accepted: int
    def __init__(self, passes: _Optional[int] = ..., tokens: _Optional[int] = ..., drafted: _Optional[int] = ..., accepted: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("client_time_ms",)
    CLIENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    client_time_ms: int
    def __init__(self, client_time_ms: _Optional[int] = ...) -> None: ...

class ListCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCapabilitiesResponse(_message.Message):
    __slots__ = ("model", "languages", "encodings", "min_sample_rate_hertz", "max_sample_rate_hertz", "max_channels", "modes", "vads", "limits", "server_version", "translations", "unspaced_languages", "defaults", "keeping")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    MIN_SAMPLE_RATE_HERTZ_FIELD_NUMBER: _ClassVar[int]
    MAX_SAMPLE_RATE_HERTZ_FIELD_NUMBER: _ClassVar[int]
    MAX_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    VADS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRANSLATIONS_FIELD_NUMBER: _ClassVar[int]
    UNSPACED_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    KEEPING_FIELD_NUMBER: _ClassVar[int]
    model: str
    languages: _containers.RepeatedScalarFieldContainer[str]
    encodings: _containers.RepeatedScalarFieldContainer[AudioEncoding]
    min_sample_rate_hertz: int
    max_sample_rate_hertz: int
    max_channels: int
    modes: _containers.RepeatedScalarFieldContainer[CaptionMode]
    vads: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    server_version: str
    translations: _containers.RepeatedCompositeFieldContainer[Translation]
    unspaced_languages: _containers.RepeatedScalarFieldContainer[str]
    defaults: SessionConfig
    keeping: Keeping
    def __init__(self, model: _Optional[str] = ..., languages: _Optional[_Iterable[str]] = ..., encodings: _Optional[_Iterable[_Union[AudioEncoding, str]]] = ..., min_sample_rate_hertz: _Optional[int] = ..., max_sample_rate_hertz: _Optional[int] = ..., max_channels: _Optional[int] = ..., modes: _Optional[_Iterable[_Union[CaptionMode, str]]] = ..., vads: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., server_version: _Optional[str] = ..., translations: _Optional[_Iterable[_Union[Translation, _Mapping]]] = ..., unspaced_languages: _Optional[_Iterable[str]] = ..., defaults: _Optional[_Union[SessionConfig, _Mapping]] = ..., keeping: _Optional[_Union[Keeping, _Mapping]] = ...) -> None: ...

class Keeping(_message.Message):
    __slots__ = ("recorded", "stored_ms")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    STORED_MS_FIELD_NUMBER: _ClassVar[int]
    recorded: bool
    stored_ms: int
    def __init__(self, recorded: bool = ..., stored_ms: _Optional[int] = ...) -> None: ...

class Translation(_message.Message):
    __slots__ = ("source", "targets")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    source: str
    targets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., targets: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchCaptionsRequest(_message.Message):
    __slots__ = ("viewer_token", "language", "mode", "session_id", "final_segments")
    VIEWER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FINAL_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    viewer_token: str
    language: str
    mode: CaptionMode
    session_id: str
    final_segments: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, viewer_token: _Optional[str] = ..., language: _Optional[str] = ..., mode: _Optional[_Union[CaptionMode, str]] = ..., session_id: _Optional[str] = ..., final_segments: _Optional[_Iterable[int]] = ...) -> None: ...

class WatchCaptionsResponse(_message.Message):
    __slots__ = ("session_id", "event_sequence", "cursors", "server_time_ms", "started", "caption", "speech", "notice", "go_away", "ended")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    event_sequence: int
    cursors: Cursors
    server_time_ms: int
    started: WatchStarted
    caption: Caption
    speech: SpeechEvent
    notice: Notice
    go_away: GoAway
    ended: WatchEnded
    def __init__(self, session_id: _Optional[str] = ..., event_sequence: _Optional[int] = ..., cursors: _Optional[_Union[Cursors, _Mapping]] = ..., server_time_ms: _Optional[int] = ..., started: _Optional[_Union[WatchStarted, _Mapping]] = ..., caption: _Optional[_Union[Caption, _Mapping]] = ..., speech: _Optional[_Union[SpeechEvent, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., ended: _Optional[_Union[WatchEnded, _Mapping]] = ...) -> None: ...

class WatchStarted(_message.Message):
    __slots__ = ("language", "mode", "model", "unspaced", "added", "languages")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    UNSPACED_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    language: str
    mode: CaptionMode
    model: str
    unspaced: bool
    added: bool
    languages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, language: _Optional[str] = ..., mode: _Optional[_Union[CaptionMode, str]] = ..., model: _Optional[str] = ..., unspaced: bool = ..., added: bool = ..., languages: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchEnded(_message.Message):
    __slots__ = ("captions", "finals")
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    FINALS_FIELD_NUMBER: _ClassVar[int]
    captions: int
    finals: int
    def __init__(self, captions: _Optional[int] = ..., finals: _Optional[int] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("streams", "active")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[StreamStats]
    active: int
    def __init__(self, streams: _Optional[_Iterable[_Union[StreamStats, _Mapping]]] = ..., active: _Optional[int] = ...) -> None: ...

class StreamStats(_message.Message):
    __slots__ = ("session_id", "connected", "age_ms", "targets", "viewer_languages", "viewers", "cursors", "lag_p50_ms", "lag_p95_ms", "queued_ms", "unsent_events", "segments", "readings", "skipped", "failures", "decoding")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    VIEWER_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    VIEWERS_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    LAG_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LAG_P95_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MS_FIELD_NUMBER: _ClassVar[int]
    UNSENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    connected: bool
    age_ms: int
    targets: _containers.RepeatedScalarFieldContainer[str]
    viewer_languages: _containers.RepeatedScalarFieldContainer[str]
    viewers: int
    cursors: Cursors
    lag_p50_ms: int
    lag_p95_ms: int
    queued_ms: int
    unsent_events: int
    segments: int
    readings: int
    skipped: int
    failures: int
    decoding: DecodeStats
    def __init__(self, session_id: _Optional[str] = ..., connected: bool = ..., age_ms: _Optional[int] = ..., targets: _Optional[_Iterable[str]] = ..., viewer_languages: _Optional[_Iterable[str]] = ..., viewers: _Optional[int] = ..., cursors: _Optional[_Union[Cursors, _Mapping]] = ..., lag_p50_ms: _Optional[int] = ..., lag_p95_ms: _Optional[int] = ..., queued_ms: _Optional[int] = ..., unsent_events: _Optional[int] = ..., segments: _Optional[int] = ..., readings: _Optional[int] = ..., skipped: _Optional[int] = ..., failures: _Optional[int] = ..., decoding: _Optional[_Union[DecodeStats, _Mapping]] = ...) -> None: ...

class ForgetStreamRequest(_message.Message):
    __slots__ = ("resume_token",)
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    def __init__(self, resume_token: _Optional[str] = ...) -> None: ...

class ForgetStreamResponse(_message.Message):
    __slots__ = ("texts", "recording")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    RECORDING_FIELD_NUMBER: _ClassVar[int]
    texts: bool
    recording: bool
    def __init__(self, texts: bool = ..., recording: bool = ...) -> None: ...
