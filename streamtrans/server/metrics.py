"""What a server counts for Prometheus, and where that is read.

Law: nothing tells what was said or by whom. Labels are words of ours out of short lists: no texts, languages, sessions,
addresses or keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.server.capacity import Capacity
from streamtrans.server.config import Served
from streamtrans.server.link import LinkLost
from streamtrans.server.listening import address
from streamtrans.server.refusal import refusal_in
from streamtrans.stream import SessionStats

_DELAYS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
"""Borders of the histograms, in seconds; what is promised is a lag below 1."""

_ENGINE = (
    ("busy_seconds", "Time in which the device was at work", "busy_s"),
    ("decode_seconds", "Of that, in passes and guesses", "decode_s"),
    ("passes", "Passes of the model", "passes"),
    ("forwards", "Texts in these passes; divided by passes: the mean batch", "forwards"),
    ("readings", "Jobs answered", "readings"),
    ("failed", "Requests that failed", "failed"),
    ("cancelled", "Requests that were withdrawn", "cancelled"),
)
"""Name, what it is, field of ``EngineStats``."""

_ENGINE_NOW = (
    ("waiting_jobs", "Jobs without a slot", "waiting"),
    ("live_jobs", "Jobs being decoded", "live"),
    ("free_slots", "Slots for texts that nobody uses", "free"),
)


class Metrics:
    """The counts of one server; what counts may be called from any thread."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, processor time and open files, where there is /proc
        self.active = Gauge("streamtrans_streams_active", "Streams that are being served", registry=registry)
        self.refused = Counter(
            "streamtrans_streams_refused", "Streams that were not let in", ["reason"], registry=registry
        )
        self.ended = Counter(
            "streamtrans_streams_ended", "Streams that were let in and are over", ["how"], registry=registry
        )
        self._audio = Counter("streamtrans_audio_seconds", "Audio heard, told silence included", registry=registry)
        self._readings = Counter("streamtrans_readings", "Readings of segments", registry=registry)
        self._skipped = Counter("streamtrans_readings_skipped", "Readings replaced by newer ones", registry=registry)
        self._failures = Counter(
            "streamtrans_readings_failed", "Requests that streams got no answer to", registry=registry
        )
        self._segments = Counter("streamtrans_segments", "Segments of speech", registry=registry)
        self._tokens = Counter("streamtrans_tokens", "Tokens written", registry=registry)
        self._drafted = Counter("streamtrans_tokens_drafted", "Tokens guessed ahead", registry=registry)
        self._accepted = Counter("streamtrans_tokens_accepted", "Guesses that the model kept", registry=registry)
        self.lag = Histogram(
            "streamtrans_lag_seconds", "Age of speech when it was read", buckets=_DELAYS, registry=registry
        )
        self.first_caption = Histogram(
            "streamtrans_first_caption_seconds",
            "From a segment's first sample to its first text",
            buckets=_DELAYS,
            registry=registry,
        )

    def heard(self, samples: int) -> None:
        """Count audio."""
        self._audio.inc(samples / SAMPLE_RATE)

    def progressed(self, before: SessionStats, now: SessionStats) -> None:
        """Count what a session has done between ``before`` and ``now``."""
        self._readings.inc(now.readings - before.readings)
        self._skipped.inc(now.skipped - before.skipped)
        self._failures.inc(now.failures - before.failures)
        self._segments.inc(now.segments - before.segments)
        self._tokens.inc(now.decode.tokens - before.decode.tokens)
        self._drafted.inc(now.decode.drafted - before.decode.drafted)
        self._accepted.inc(now.decode.accepted - before.decode.accepted)

    def watch(self, served: Callable[[], Served | None], serving: Callable[[], bool], capacity: Capacity) -> None:
        """Show the engine of what is ``served``, whether the health is SERVING, and the load; asked at each look."""
        health = Gauge("streamtrans_serving", "1 while the health service says SERVING", registry=self.registry)
        health.set_function(lambda: float(serving()))
        rung = Gauge("streamtrans_rung", "0: full service, 1: fewer partials, 2: finals only", registry=self.registry)
        rung.set_function(lambda: float(capacity.rung))
        lag = Gauge("streamtrans_expected_lag_seconds", "Lag that admission goes by", registry=self.registry)
        lag.set_function(lambda: capacity.lag_s)
        self.registry.register(_Engine(served))


class Stream:
    """A caller on the way in and out, counted once: as refused, or as one that was served and how that ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._admitted = False

    def __enter__(self) -> Self:
        """Begin before anything can refuse it."""
        return self

    def admitted(self) -> None:
        """Count it as active from now on."""
        self._admitted = True
        self._metrics.active.inc()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count its end; what was raised goes on its way."""
        how = _how(error)
        if self._admitted:
            self._metrics.active.dec()
            self._metrics.ended.labels(how).inc()
        elif error is not None:
            self._metrics.refused.labels(how).inc()


class MetricsPort:
    """A thread that answers Prometheus on a port of its own.

    Raises:
        BadConfig: the address can't be listened on.
    """

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(port, host, metrics.registry)
        except OSError as error:
            raise BadConfig(f"can't listen for metrics on {address(host, port)}: {error.strerror or error}") from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Answer no more; takes up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Engine(Collector):
    def __init__(self, served: Callable[[], Served | None]) -> None:
        self._served = served

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield what the engine counts by itself, where there is one that does."""
        served = self._served()
        if served is None or served.stats is None:
            return
        stats = served.stats()
        for name, what, field in _ENGINE:
            yield CounterMetricFamily(f"streamtrans_engine_{name}", what, value=getattr(stats, field))
        for name, what, field in _ENGINE_NOW:
            yield GaugeMetricFamily(f"streamtrans_engine_{name}", what, value=getattr(stats, field))


def _how(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    if (refusal := refusal_in(error)) is not None:
        return refusal.reason
    lost = isinstance(error, LinkLost) or (isinstance(error, BaseExceptionGroup) and error.subgroup(LinkLost))
    return "client_gone" if lost or not isinstance(error, Exception) else "internal"
