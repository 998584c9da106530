"""Settings of a server, and what it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamtrans.core import LIVE, BadConfig, CaptionChoice, Tokens
from streamtrans.stream import EngineLike, Origin, SessionConfig, Settings, Spellers
from streamtrans.text import joins_without_spaces
from streamtrans.wire import Limits

if TYPE_CHECKING:
    from streamtrans.engine import EngineStats

__all__ = ["Limits", "Load", "Served", "ServerConfig", "Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files that identify the server."""

    certificate: Path
    """The certificate chain."""
    key: Path
    client_roots: Path | None = None
    """Given: clients must present a certificate that these sign."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the device may be loaded with; see ``server/capacity.py``.

    Raises:
        BadConfig: a value is out of range.
    """

    max_lag_ms: int = 1_000
    """Lag that 95 % of what is said should not exceed, or two steps between readings where those are more: nobody is
    let in who would make it more. Smaller: fewer streams, calmer."""
    most_busy: float = 0.85
    """Share of the time in which the device may be at work, a newcomer included. Larger: more streams, less to spare
    where all of them speak at once."""
    longer: float = 1.5
    """On the first rung, steps between readings are so many times as long. Larger: less work, more lag."""
    window_ms: int = 5_000
    """Time over which load is measured, and after which a rung, or a newcomer, has shown its effect."""
    calm_ms: int = 10_000
    """How long there must be less lag again before more is done; longer each time where that was too early."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("max_lag_ms", self.max_lag_ms, 1),
            ("longer", self.longer, 1),
            ("window_ms", self.window_ms, 1),
            ("calm_ms", self.calm_ms, 1),
        ):
            if not least <= value < float("inf"):
                raise BadConfig(f"load.{name} is {value}; use at least {least}")
        if not 0 < self.most_busy <= 1:
            raise BadConfig(f"load.most_busy is {self.most_busy}; use more than 0 and at most 1")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a server listens, whom it admits and how long it waits."""

    host: str = "127.0.0.1"
    """``0.0.0.0`` or ``[::]`` listens to the network; use :class:`Tls` there."""
    port: int = 50051
    """0 takes any free one."""
    tls: Tls | None = None
    limits: Limits = field(default_factory=Limits)
    max_sessions: int = 64
    """Streams at once, whatever the machine carries; ``load`` bounds what is measured."""
    max_sessions_per_connection: int | None = None
    """Streams of one connection at once, so that one client can't keep all others out; ``None``: half of
    ``max_sessions``, but at least 8. Behind a proxy that puts many clients on one connection, allow it all of them."""
    max_viewers: int = 1_000
    """Who may read along at once, all streams together."""
    first_message_ms: int = 5_000
    """How long a caller may take to send its first message, and to read the answer: larger forgives slower networks,
    smaller makes room sooner where many call and say nothing."""
    max_waiting: int = 64
    """Calls that have said nothing yet; of more, those of whoever has most lose their places."""
    retry_after_ms: int = 1_000
    """What a refused client is told to wait: larger spreads a rush over more time."""
    pace: Literal["flow", "refuse"] = "flow"
    """A sender beyond a rate limit is slowed down by flow control, or refused."""
    max_messages_per_s: float = 200.0
    """Of one stream, once the burst is used up; chunks of 10 ms at twice real time are as many. Each costs the same,
    however little is in it, so larger lets one client take more from the others."""
    burst_messages: int = 1_000
    """That may come at once: larger forgives longer network stalls of clients with tiny chunks."""
    captions: CaptionChoice = LIVE
    """What a stream gets of what its caller doesn't say; its budgets hold where neither mode nor budget is said."""
    session: SessionConfig = field(default_factory=lambda: SessionConfig(targets=("en",)))
    """What a stream gets where neither its caller nor ``captions`` asks for something else; languages, mode and
    detector always come from the caller, ``captions`` and the model."""
    max_unsent_events: int = 1_000
    """Finals and speech events that wait for a client that doesn't read; tentative ones are replaced."""
    load: Load | None = field(default_factory=Load)
    """Up to which load streams are let in, and from which on less is done for each; ``None``: all of it is done for
    everybody, as where the load itself is to be measured."""
    behind_ms: int = 3_000
    """Lag from which the client is told BEHIND_REALTIME; smaller warns earlier and oftener."""
    warm_timeout_ms: int = 300_000
    """The first job may compile and allocate; larger forgives slower machines."""
    grace_ms: int = 10_000
    """How long running calls may go on after a shutdown was asked for."""
    last_words_ms: int = 5_000
    """So long before a call has to be over, for its age or for a shutdown, or when half of its time has gone, it hears
    no more and gets its last captions: larger suits slower models, smaller hears longer."""
    go_away_ms: int = 30_000
    """How long before a call hears no more, or is read no more, for its age, it is told so; or a quarter of its time.
    Larger: more time to open another one."""
    record: Path | None = None
    """Folder that keeps a recording of every session, its audio included, as ``<session id>.stsession``; what can't be
    written is logged, and the call goes on. ``None``: nothing that is said is kept."""
    record_quota_mb: int = 10_000
    """What that folder may hold, in million bytes; a recording that would exceed it ends there. An hour has 120."""
    keys: Path | None = None
    """File of the keys (hashes, see ``streamtrans key``) whose holders may call; ``None``: nobody is asked for one."""
    signers: Path | None = None
    """File of those whose signed tokens (see ``streamtrans key --sign``) let somebody in too; ``None``: nobody's do."""
    traces: str | None = None
    """Where spans of streams and readings are sent, by OTLP over HTTP, such as http://collector:4318/v1/traces; nothing
    of what is said. ``None``: nowhere."""
    store: str | None = None
    """Where resumable streams are kept, so that another server, or this one started anew, can go on with them: a
    folder, or ``redis://HOST:PORT/NUMBER``. Their latest texts lie there, sealed with their tokens, and no audio.
    ``None``: nowhere."""
    http_port: int | None = None
    """Where WebSockets and browsers may call, over HTTP; 0 takes any free one. ``None``: nowhere."""
    http_host: str = "127.0.0.1"
    """The address of that port."""
    allow_origin: str = ""
    """Whose web pages may call beside the server's own, such as ``https://talks.example.org``, joined by commas; ``*``:
    everybody's."""
    max_web_connections: int = 1_000
    """On that port at once, whatever they ask for; more are closed as they come."""
    upload_real_time_factor: float = 20.0
    """Recordings that are sent whole are read so many times as fast as they were said, at most. Larger: sooner done,
    and more taken from streams that are live."""
    max_uploads: int = 8
    """Such recordings at once, half of them of one address."""
    max_upload_mb: int = 100
    """Of such a recording, in million bytes."""
    max_upload_ms: int = 10_800_000
    """The longest of them."""
    upload_timeout_ms: int = 600_000
    """To receive one in. Larger: slower lines may send large ones, and hold their places meanwhile."""
    metrics_port: int | None = None
    """Where Prometheus may ask, over HTTP; 0 takes any free one. ``None``: nowhere."""
    metrics_host: str = "127.0.0.1"
    """The address of that port. Whoever reaches it learns how much is done here, and nothing of what is said."""

    @property
    def sessions_per_connection(self) -> int:
        """Streams of one connection at once."""
        given = self.max_sessions_per_connection
        return max(8, self.max_sessions // 2) if given is None else given

    @property
    def warning_ms(self) -> int:
        """How long before a call hears no more, or is read no more, for its age, that is said."""
        return min(self.go_away_ms, self.limits.max_connection_ms // 4)

    def __post_init__(self) -> None:
        if self.pace not in ("flow", "refuse"):
            raise BadConfig(f"pace is {self.pace!r}; use 'flow' or 'refuse'")
        ports = (("port", self.port), ("metrics_port", self.metrics_port or 0), ("http_port", self.http_port or 0))
        for name, port in ports:
            if not 0 <= port <= 65_535:
                raise BadConfig(f"{name} is {port}; use 1 to 65535, or 0 for any free one")
        for name, value, least in (
            ("max_sessions", self.max_sessions, 1),
            ("max_sessions_per_connection", self.sessions_per_connection, 1),
            ("max_viewers", self.max_viewers, 1),
            ("first_message_ms", self.first_message_ms, 1),
            ("max_waiting", self.max_waiting, 1),
            ("max_web_connections", self.max_web_connections, 1),
            ("retry_after_ms", self.retry_after_ms, 1),
            ("max_messages_per_s", self.max_messages_per_s, 1),
            ("burst_messages", self.burst_messages, 1),
            ("max_unsent_events", self.max_unsent_events, 1),
            ("record_quota_mb", self.record_quota_mb, 1),
            ("upload_real_time_factor", self.upload_real_time_factor, 1),
            ("max_uploads", self.max_uploads, 1),
            ("max_upload_mb", self.max_upload_mb, 1),
            ("max_upload_ms", self.max_upload_ms, 1),
            ("upload_timeout_ms", self.upload_timeout_ms, 1),
            ("behind_ms", self.behind_ms, 1),
            ("warm_timeout_ms", self.warm_timeout_ms, 1),
            ("grace_ms", self.grace_ms, 0),
            ("last_words_ms", self.last_words_ms, 0),
            ("go_away_ms", self.go_away_ms, 0),
        ):
            if value < least:
                raise BadConfig(f"{name} is {value}; use at least {least}")


@dataclass(frozen=True, slots=True)
class Served:
    """A warm model and what it can do; ``vads`` names the detectors, the default first."""

    engine: EngineLike
    tokenizer: Spellers
    languages: tuple[str, ...]
    """Canonical codes."""
    model_name: str
    vads: tuple[str, ...] = ("silero", "webrtc", "energy")
    max_segment_ms: int = 30_000
    """The longest segment that the model can hold."""
    ask: Callable[[str, str | None], object] | None = None
    """Called with each target and the spoken language, where one is named, before a stream is admitted; raises
    :class:`~streamtrans.core.UnsupportedLanguage` for a pair that the model doesn't translate. ``None``: all go."""
    translations: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Spoken language and what the model makes of it; empty: any of ``languages`` becomes any."""
    settings: Settings = field(default_factory=Settings)
    """What was measured with this model: the defaults per mode, and what budgets choose from."""
    origin: Origin | None = None
    """What recordings say of the model; ``None``: only its name, so that they replay with their own answers."""
    stats: Callable[[], EngineStats] | None = None
    """What the engine counts; ``None``: it doesn't."""
    word: Tokens = ()
    """Something that can be said in the first language, where a second model translates what the first one writes."""

    @property
    def unspaced(self) -> tuple[str, ...]:
        """The languages whose segments are joined without a space."""
        return tuple(filter(joins_without_spaces, self.languages))

    def bounded(self, limits: Limits) -> Limits:
        """Return ``limits`` with no more targets than the engine decodes at once."""
        return replace(limits, max_targets=min(limits.max_targets, self.engine.capacity))
