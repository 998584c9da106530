"""One call: a reader feeds the session, a pump runs it, a writer tells the client.

```
client ──▶ reader ──samples──▶ session ◀──pump──▶ engine
client ◀── writer ◀──outbox── events ◀──┘
```
The reader takes one message at a time, so a client that is too fast is held by HTTP/2 flow control and not by
a queue of ours. The first of the three to fail ends all.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError

from streamtrans.core import Caption, Detection, Event, Job, Reading, Request, milliseconds
from streamtrans.server.arrivals import Arrivals
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.intake import Intake, Pace, Samples, too_fast
from streamtrans.server.opening import Opening, new_session, nothing_in_it, recorded
from streamtrans.server.outbox import Answer, Item, Outbox
from streamtrans.server.refusal import (
    exhausted,
    idle,
    invalid,
    out_of_order,
    too_old,
    unsupported,
)
from streamtrans.stream import EngineLike, Recorder, SessionLike, pump
from streamtrans.wire import (
    ClientMessage,
    Cursors,
    Encoder,
    Envelope,
    Limits,
    Measured,
    Notice,
    ServerMessage,
    Started,
    Summary,
    notice_message,
    payload_of,
    pong_message,
    started_message,
    summary_message,
)

Context = grpc.aio.ServicerContext[ClientMessage, ServerMessage]

_FULL_POLL_S = 0.02
"""How often a held client's session is asked whether it has room again."""


async def read(context: Context, limits: Limits, deadline: float) -> ClientMessage | None:
    """Return the next message, ``None`` at the end; ``deadline`` is a time of the event loop.

    Raises:
        Refusal: nothing came in time, or what came is no message.
    """
    try:
        async with asyncio.timeout_at(deadline):
            message = await context.read()
    except TimeoutError as error:
        raise idle(limits.idle_ms) from error
    except DecodeError as error:
        raise invalid([("message", "the bytes are no StreamTranslateRequest")]) from error
    return message if isinstance(message, ClientMessage) else None


class Call:
    """An admitted stream, from ``started`` to ``summary``."""

    def __init__(
        self, session_id: str, opening: Opening, served: Served, config: ServerConfig, context: Context
    ) -> None:
        self._opening = opening
        self._served = served
        self._config = config
        self._context = context
        self._intake = Intake(opening.options, config.limits)
        session = new_session(opening, served)
        self._recorder: Recorder | None = None
        if config.record is not None:
            self._recorder = recorded(session, served, config.record / f"{session_id}.stsession")
        self._session: SessionLike = self._recorder or session
        self._pace = Pace(config.limits)
        self._arrivals = Arrivals()
        self._changed = asyncio.Event()
        self._outbox = Outbox()
        self._envelope = Envelope(session_id)
        self._encoder = Encoder()
        self._session_id = session_id
        self._began = time.monotonic()
        self._behind = False
        self._failures = 0
        self._captions = 0
        self._finals = 0
        self._withdrawn = 0

    async def run(self) -> None:
        """Serve the client to the end of its audio, the last captions and the summary.

        Raises:
            Refusal: alone or in a group; the call ends with its status.
            EngineClosed: in a group; nothing more can be read.
        """
        limits = self._config.limits
        try:
            async with asyncio.timeout(limits.max_connection_ms / 1000):
                await self._send(self._greeting())
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read())
                    tasks.create_task(self._pump())
                    tasks.create_task(self._write())
        except TimeoutError as error:
            raise too_old(limits.max_connection_ms) from error
        finally:
            if self._recorder is not None:
                self._recorder.close()

    async def _read(self) -> None:
        limits = self._config.limits
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            message = await read(self._context, limits, heard_at + limits.idle_ms / 1000)
            kind = payload_of(message) if message is not None else "end"
            if message is None or kind == "end":
                break
            if kind == "audio":
                await self._hear(self._intake.audio(message.audio.data))
                heard_at = loop.time() if message.audio.data else heard_at
            elif kind == "silence":
                for piece in self._intake.silence(message.silence.duration_ms):
                    await self._hear(piece)
                heard_at = loop.time()
            elif kind == "end_utterance":
                self._session.end_utterance()
                self._changed.set()
            elif kind == "ping":
                self._post(Answer(message.ping.client_time_ms))
            else:
                _refuse(kind)
        self._arrive(self._intake.rest())
        self._session.end()
        self._changed.set()

    async def _hear(self, samples: Samples) -> None:
        """Give ``samples`` to the session, then hold a client that is too fast, or refuse it."""
        self._arrive(samples)
        config = self._config
        wait_s = self._pace.spend(len(samples))
        if config.pace == "flow":
            await asyncio.sleep(wait_s)
            while self._session.full:
                await asyncio.sleep(_FULL_POLL_S)
        elif wait_s > 0:
            raise exhausted(too_fast(wait_s, config.limits), round(wait_s * 1000) + 1)
        elif self._session.full:
            behind_ms = self._opening.session.max_behind_ms
            raise exhausted(f"more than {behind_ms} ms of audio wait to be read", config.retry_after_ms)

    def _arrive(self, samples: Samples) -> None:
        self._arrivals.arrived(len(samples), time.monotonic())
        self._session.hear(samples)
        self._changed.set()
        self._look()

    async def _pump(self) -> None:
        engine = _Watched(self._served.engine, self._arrivals)
        await pump(self._session, engine, changed=self._changed, emit=self._emit)
        self._outbox.close()

    async def _emit(self, events: list[Event]) -> None:
        now = time.monotonic()
        for event in events:
            self._arrivals.saw(event, now)
            self._post(event)
            if isinstance(event, Caption) and event.final and not event.complete:
                problem = f"the model's limit cut off the text of segment {event.segment} in {event.language}"
                self._post(Notice("TEXT_INCOMPLETE", problem))
        self._look()

    def _post(self, item: Item) -> None:
        self._outbox.put(item)
        if len(self._outbox) > self._config.max_unsent_events:
            raise exhausted(
                f"{len(self._outbox)} events wait to be read; read while you send",
                self._config.retry_after_ms,
            )

    def _look(self) -> None:
        """Note what needs no reading, and tell the client when the service is not what it should be."""
        self._arrivals.skip(self._session.cursors.decoded)
        session, lag_ms = self._opening.session, self._arrivals.lag_s(time.monotonic()) * 1000
        # Where only closed segments are read, a segment's beginning has to wait for its end.
        patience_ms = session.endpoints.max_segment_ms if session.mode == "final" else 0
        if not self._behind and lag_ms > self._config.behind_ms + patience_ms:
            self._behind = True
            self._post(Notice("BEHIND_REALTIME", f"readings are {lag_ms:.0f} ms behind the audio"))
        elif lag_ms < self._config.behind_ms / 2 + patience_ms:
            self._behind = False
        failures = self._session.stats.failures
        if failures > self._failures:
            self._failures = failures
            self._post(Notice("QUALITY_DEGRADED", "a reading failed; the stream goes on without it"))

    async def _write(self) -> None:
        while (item := await self._outbox.take()) is not None:
            await self._send(self._encode(item))
        await self._send(summary_message(self._summary()))

    def _encode(self, item: Item) -> ServerMessage:
        if isinstance(item, Answer):
            return pong_message(item.client_time_ms)
        if isinstance(item, Notice):
            return notice_message(item)
        message = self._encoder.encode(item)
        if isinstance(item, Caption):
            self._captions += 1
            self._finals += item.final
            self._withdrawn += message.caption.withdrawn
        return message

    async def _send(self, message: ServerMessage) -> None:
        cursors = self._session.cursors
        told = Cursors(
            received_ms=milliseconds(cursors.received),
            decoded_ms=milliseconds(cursors.decoded),
            committed_ms=milliseconds(cursors.committed),
            final_ms=milliseconds(cursors.final),
            lag_ms=round(self._arrivals.lag_s(time.monotonic()) * 1000),
        )
        sealed = self._envelope.seal(message, told, time.time_ns() // 1_000_000)
        limit_ms = self._config.limits.idle_ms
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await self._context.write(sealed)
        except TimeoutError as error:
            problem = f"nothing was read for {limit_ms} ms; read while you send"
            raise exhausted(problem, self._config.retry_after_ms) from error

    def _greeting(self) -> ServerMessage:
        served, setting = self._served, self._opening.setting
        measured = None
        if setting is not None:
            measured = Measured(setting.name, setting.erasure, round(setting.latency_ms), setting.bleu_loss)
        return started_message(
            Started(
                session_id=self._session_id,
                options=self._opening.options,
                limits=self._config.limits,
                model=served.model_name,
                languages=served.languages,
                setting=measured,
            )
        )

    def _summary(self) -> Summary:
        arrivals = self._arrivals
        return Summary(
            audio_ms=milliseconds(arrivals.received),
            duration_ms=round((time.monotonic() - self._began) * 1000),
            segments=arrivals.segments,
            captions=self._captions,
            finals=self._finals,
            withdrawn=self._withdrawn,
            first_caption_ms=tuple(round(delay * 1000) for delay in arrivals.first_captions_s),
            first_caption_p50_ms=round(arrivals.first_captions.percentile_s(50) * 1000),
            lag_p50_ms=round(arrivals.lags.percentile_s(50) * 1000),
            lag_p95_ms=round(arrivals.lags.percentile_s(95) * 1000),
            decoding=self._session.stats.decode,
        )


class _Watched:
    """An engine whose readings are timed; everything happens on the call's event loop."""

    def __init__(self, engine: EngineLike, arrivals: Arrivals) -> None:
        self._engine = engine
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()

    def submit(self, request: Request) -> Future[Detection | Reading]:
        """Pass ``request`` on."""
        future = self._engine.submit(request)
        if isinstance(request, Job):
            self._arrivals.began(request)
            future.add_done_callback(lambda _: self._done(request, time.monotonic()))
        return future

    def _done(self, job: Job, now: float) -> None:
        """Note the end of ``job``, from whatever thread; before the session learns of it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrivals.read, job, now)


def _refuse(kind: str | None) -> NoReturn:
    if kind is None:
        raise nothing_in_it()
    if kind == "config":
        raise out_of_order("`config` came twice; it is sent once, as the first message")
    raise unsupported(f"this server takes no `{kind}`; open a new stream with other settings")
