"""OpenTelemetry spans of streams and of their readings, where they are asked for.

```
stream   |-------------------------------------------|     a live session, whoever is connected to it
reading     |---|    |----|   |--|                         each from being asked for to its answer
```
Law: nothing tells what was said or by whom. Attributes are counts, times, the mode, and the session's random id; no
exception, whose words may quote anything, is recorded.
"""

from __future__ import annotations

import time
from typing import Any

import streamtrans
from streamtrans.core import BadConfig, Job, milliseconds, needs
from streamtrans.stream import SessionStats

_EXPORT_S = 1.0
"""How long a collector may take for what is sent at once; a server that stops waits no longer for it."""


class Spans:
    """Makes spans and sends them where ``exporter`` sends them; without one it makes none."""

    def __init__(self, exporter: Any | None = None) -> None:
        self._provider: Any | None = None
        self._tracer: Any | None = None
        if exporter is not None:
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            self._provider = TracerProvider(resource=Resource({SERVICE_NAME: "streamtrans"}), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._tracer = self._provider.get_tracer("streamtrans", streamtrans.__version__)

    def stream(self, session_id: str, mode: str, texts: int) -> StreamSpan:
        """Begin the span of a stream."""
        if self._tracer is None:
            return StreamSpan(None, None)
        about = {"session.id": session_id, "streamtrans.mode": mode, "streamtrans.texts": texts}
        return StreamSpan(self._tracer, self._tracer.start_span("stream", attributes=about))

    def close(self) -> None:
        """Send what waits to be sent; takes as long as that takes."""
        if self._provider is not None:
            self._provider.shutdown()


class StreamSpan:
    """The span of one stream, which those of its readings belong to."""

    def __init__(self, tracer: Any | None, span: Any | None) -> None:
        self._tracer, self._span = tracer, span

    def reading(self, job: Job, seconds: float, *, answered: bool) -> None:
        """Add a reading that has just ended, and took so many seconds."""
        if self._tracer is None or self._span is None:
            return
        from opentelemetry.trace import set_span_in_context

        ended = time.time_ns()
        about = {
            "streamtrans.final": job.last,
            "streamtrans.texts": len(job.targets),
            "streamtrans.audio_ms": milliseconds(job.end - job.start),
            "streamtrans.new_ms": milliseconds(len(job.audio)),
            "streamtrans.answered": answered,
        }
        span = self._tracer.start_span(
            "reading",
            context=set_span_in_context(self._span),
            start_time=ended - round(seconds * 1e9),
            attributes=about,
        )
        span.end(ended)

    def end(self, stats: SessionStats) -> None:
        """End it, with what the stream has cost; ending twice is fine."""
        if self._span is None:
            return
        for name in ("segments", "readings", "skipped", "failures"):
            self._span.set_attribute(f"streamtrans.{name}", getattr(stats, name))
        self._span.end()
        self._span = self._tracer = None


def exporting(endpoint: str | None) -> Spans:
    """Return spans that go to a collector by OTLP over HTTP; none where there is no ``endpoint``.

    Raises:
        BadConfig: OpenTelemetry isn't installed.
    """
    if endpoint is None:
        return Spans()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise BadConfig(needs("sending traces", package, "otel")) from error
    return Spans(OTLPSpanExporter(endpoint, timeout=_EXPORT_S))
