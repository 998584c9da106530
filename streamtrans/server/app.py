"""The server process: bind, load and warm the model, serve, and go with grace."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from streamtrans.allocator import give_back, settling
from streamtrans.core import SAMPLE_RATE, BadConfig, Detect, EngineClosed, Health, Job, Target
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.doors import Doors, Kind, kinds
from streamtrans.server.health import NOT_SERVING, SERVING, HealthService
from streamtrans.server.listening import address, refuse_taken
from streamtrans.server.metrics import MetricsPort
from streamtrans.server.opening import check_defaults
from streamtrans.server.service import TranslationService
from streamtrans.server.tls import credentials, is_loopback
from streamtrans.vad import vad_window
from streamtrans.wire import SERVICE_NAME, add_service

if TYPE_CHECKING:
    from streamtrans.server.gateway import Gateway

_log = logging.getLogger(__name__)

EngineFactory = Callable[[], Served]
"""Loads the model; called once, in a thread of its own."""

_SPARE_CALLS = 160
"""Calls of one connection beyond its sessions: health, reflection, capabilities, and those that nobody ends."""

_TOLD = {
    Health.SERVING: (logging.WARNING, "the device answers again"),
    Health.STALLED: (logging.ERROR, "the device hangs; the health is NOT_SERVING until it answers"),
}

_PINGS_MS = 10_000
"""Clients may ping as often while nothing is said."""

_STOP = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask a server to go."""

_READINGS = 3
"""The first compiles and allocates; of the others one may have been held up."""

_TOGETHER = 4
"""Readings that are asked for at once, as by so many streams."""

_STATUS_S = 0.5
"""Time for the statuses of calls that came to their ends at the end of the grace."""

_CLOSE_S = 1.0
"""How long a device may take to finish what it is at; one that hangs is left behind."""

_WATCH_S = 0.25
"""How often is looked whether the engine answers."""

_LAST_WORDS_MS = 1_000
"""The most grace where the engine has stopped: time for the calls to be told, as none of them can go on."""


class TranslationServer:
    """A server that listens at once and serves as soon as its model is warm; an async context manager.

    Args:
        config: how to listen and whom to admit.
        engine_factory: loads what is served; it may block for as long as it needs.
    """

    def __init__(self, config: ServerConfig, engine_factory: EngineFactory) -> None:
        self.config = config
        self.port = 0
        """Set on entering: the port that is listened on."""
        self.metrics_port: int | None = None
        """Set on entering, where metrics are served."""
        self.http_port: int | None = None
        """Set on entering, where WebSockets and browsers may call."""
        self._gateway: Gateway | None = None
        self._metrics: MetricsPort | None = None
        self._factory = engine_factory
        self._service = TranslationService(config)
        self._health = HealthService(("", SERVICE_NAME))
        service = self._service
        service.metrics.watch(lambda: service.served, lambda: self._health.serving, service.capacity)
        self._server: grpc.aio.Server | None = None
        self._warming: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen, and begin to load the model.

        Raises:
            BadConfig: the address can't be listened on, or a TLS file can't be read.
        """
        places = kinds(self.config)
        server = grpc.aio.server(options=_options(self.config), interceptors=[Doors(places)])
        add_service(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        self.port = _listen(server, self.config)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(server.stop, None)
            if self.config.metrics_port is not None:
                self._metrics = MetricsPort(self.config.metrics_host, self.config.metrics_port, self._service.metrics)
                undo.callback(self._metrics.close)
                self.metrics_port = self._metrics.port
            if self.config.http_port is not None:
                self._gateway = await _gateway(self.config, self._service, places, lambda: self._health.serving)
                undo.push_async_callback(self._gateway.close, 0)
                self.http_port = self._gateway.port
            await server.start()
            undo.pop_all()
        self._server = server
        self._warming = asyncio.create_task(self._warm_up())
        self._warming.add_done_callback(_report)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop with the configured grace, or with little where the engine has failed."""
        grace_ms = self.config.grace_ms
        await self.stop(min(grace_ms, _LAST_WORDS_MS) if self.failed.is_set() else grace_ms)

    @property
    def active_sessions(self) -> int:
        """Streams that are being served."""
        return self._service.active_sessions

    @property
    def failed(self) -> asyncio.Event:
        """Set once the engine has stopped by itself; only a new server can serve again."""
        return self._service.failed

    async def ready(self) -> None:
        """Wait until the model is warm.

        Raises:
            Exception: whatever kept the model from loading or warming up.
        """
        if self._warming is None:
            raise RuntimeError("the server isn't running; use it in `async with TranslationServer(...)`")
        await asyncio.shield(self._warming)

    async def stop(self, grace_ms: int) -> None:
        """Refuse new calls, let running ones come to their ends within ``grace_ms``, and close the engine.

        Who speaks on is heard while there is time enough for the last captions; see ``ServerConfig.last_words_ms``.
        """
        if self._server is None or self._warming is None or self._watching is None:
            return
        server, self._server = self._server, None
        self._service.leave(grace_ms)
        self._warming.cancel()
        self._watching.cancel()
        await asyncio.wait([self._warming, self._watching])
        self._health.set(NOT_SERVING)
        within_s = grace_ms / 1000 + _STATUS_S
        leaving = [] if self._gateway is None else [self._gateway.close(within_s)]
        await asyncio.gather(server.stop(within_s), *leaving)
        await self._service.registry.close()
        if self._service.store is not None:
            await self._service.store.close()
        if self._service.served is not None:
            await asyncio.to_thread(self._service.served.engine.close, _CLOSE_S)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.close)
        await asyncio.to_thread(self._service.spans.close)

    async def _warm_up(self) -> None:
        loading = asyncio.get_running_loop().run_in_executor(None, self._factory)
        try:
            served = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_close_late)
            raise
        async with AsyncExitStack() as undo:
            undo.push_async_callback(asyncio.to_thread, served.engine.close, _CLOSE_S)
            async with asyncio.timeout(self.config.warm_timeout_ms / 1000):
                self._service.capacity.learn(*await _exercise(served))
            check_defaults(self.config, served)
            undo.pop_all()  # warm: the engine closes with the server
        self._service.served = served
        self._health.set(SERVING)
        _log.info("serving %s on port %d", served.model_name, self.port)

    async def _watch(self) -> None:
        """Say to those who ask for the health whether the engine answers, until it has stopped."""
        told = Health.SERVING
        while not self.failed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await self.failed.wait()
            served = self._service.served
            if served is not None:
                self._service.capacity.look(served.stats() if served.stats is not None else None)
            health = Health.SERVING if served is None else served.engine.health
            if health is Health.CLOSED:
                self._service.stopped()
            elif served is not None and health is not told:
                told = health
                _log.log(*_TOLD[health])
                self._health.set(SERVING if health is Health.SERVING else NOT_SERVING)
        self._health.set(NOT_SERVING)


async def serve(
    config: ServerConfig,
    engine_factory: EngineFactory,
    *,
    on_ready: Callable[[TranslationServer], None] | None = None,
    on_stopping: Callable[[TranslationServer], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then go with grace; a second signal ends the process, whatever it waits for.

    Args:
        config: how to listen and whom to admit.
        engine_factory: loads what is served.
        on_ready: called once the model is warm.
        on_stopping: called after the first signal, before anything is waited for.

    Raises:
        BadConfig: the address can't be listened on.
        EngineClosed: the engine stopped by itself; whoever started the process may start it again.
        Exception: whatever kept the model from loading.
    """
    give_back()
    asked_to_stop = asyncio.Event()
    with _signals(asked_to_stop), settling() as settle:
        async with TranslationServer(config, engine_factory) as server:
            stopping = asyncio.create_task(asked_to_stop.wait())
            warming = asyncio.create_task(server.ready())
            failing = asyncio.create_task(server.failed.wait())
            await asyncio.wait([stopping, warming], return_when=asyncio.FIRST_COMPLETED)
            if warming.done():
                warming.result()
                settle()
                if on_ready is not None:
                    on_ready(server)
            await asyncio.wait([stopping, failing], return_when=asyncio.FIRST_COMPLETED)
            for task in (stopping, warming, failing):
                task.cancel()
            if not asked_to_stop.is_set():
                raise EngineClosed("the engine has stopped by itself, so nothing can be served: start the server again")
            if on_stopping is not None:
                on_stopping(server)


@contextmanager
def _signals(asked_to_stop: asyncio.Event) -> Iterator[None]:
    """Set the event at the first SIGTERM or SIGINT, and leave the second to the system, which ends the process."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _STOP}

    def first() -> None:
        asked_to_stop.set()
        _forget(loop)
        for number in _STOP:
            signal.signal(number, signal.SIG_DFL)

    try:
        for number in _STOP:
            loop.add_signal_handler(number, first)
    except NotImplementedError:  # Windows, whose loop wakes up for handlers by itself
        for number in _STOP:
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(first))
    try:
        yield
    finally:
        if not asked_to_stop.is_set():
            _forget(loop)
            for number, handler in before.items():
                signal.signal(number, handler)


def _forget(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(NotImplementedError):
        for number in _STOP:
            loop.remove_signal_handler(number)


async def _exercise(served: Served) -> tuple[float, float]:
    """Run a detection and a few readings, so that the first caller doesn't pay for what happens only once.

    Return what a reading took at best, in seconds: alone, and its share where some are asked for together.
    """
    vad = served.vads[0]
    silence = np.zeros(SAMPLE_RATE // 2, np.float32)
    window = vad_window(vad)
    spoken, written = next(iter(served.translations), (served.languages[0], served.languages))
    # What a second model translates must say something, and silence says nothing.
    other = [Target(code) for code in written if code != spoken][:1] if served.word else []
    job = Job(
        segment=0,
        start=0,
        end=len(silence),
        last=True,
        audio=silence,
        targets=(Target(spoken if spoken in written else written[0], prefix=served.word), *other),
        source=spoken,
    )
    await asyncio.wrap_future(served.engine.submit(Detect(vad, np.zeros((1, window), np.float32), None)))

    async def share_s(count: int) -> float:
        began = time.monotonic()
        await asyncio.gather(*(asyncio.wrap_future(served.engine.submit(job)) for _ in range(count)))
        return (time.monotonic() - began) / count

    together = min(_TOGETHER, served.engine.capacity)
    return min([await share_s(1) for _ in range(_READINGS)]), min([await share_s(together) for _ in range(_READINGS)])


def _report(warming: asyncio.Task[None]) -> None:
    """Log why the model isn't served, whether or not somebody waits for it."""
    if not warming.cancelled() and (error := warming.exception()) is not None:
        _log.error("the model can't be served: %s", error)


def _close_late(loading: asyncio.Future[Served]) -> None:
    """Close an engine that came up after its server had gone."""
    if not loading.cancelled() and loading.exception() is None:
        loading.result().engine.close(_CLOSE_S)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.limits.max_message_bytes),
        ("grpc.max_concurrent_streams", config.sessions_per_connection + _SPARE_CALLS),
        ("grpc.so_reuseport", 0),  # two servers on one port would share its calls unnoticed
        ("grpc.keepalive_time_ms", 30_000),  # finds clients whose network vanished
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_MS),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.http2.bdp_probe", 0),  # keeps what a held client has in flight at about 64 KB
    ]


async def _gateway(
    config: ServerConfig, service: TranslationService, places: dict[str, Kind], serving: Callable[[], bool]
) -> Gateway:
    """Return what listens for HTTP.

    Raises:
        BadConfig: the address can't be listened on, or what is needed for it isn't installed.
    """
    try:
        from streamtrans.server.gateway import Gateway
    except ImportError as error:
        raise BadConfig(f"HTTP needs the package {error.name}, which comes with the extra gateway") from error
    gateway = Gateway(config, service, places, serving)
    await gateway.listen()
    _warn(config, config.http_host, gateway.port)
    return gateway


def _listen(server: grpc.aio.Server, config: ServerConfig) -> int:
    refuse_taken(config.host, config.port)
    where = address(config.host, config.port)
    try:
        if config.tls is not None:
            port = server.add_secure_port(where, credentials(config.tls))
        else:
            port = server.add_insecure_port(where)
    except RuntimeError as error:
        raise BadConfig(f"can't listen on {where}; is it in use by another server?") from error
    _warn(config, config.host, port)
    return port


def _warn(config: ServerConfig, host: str, port: int) -> None:
    """Say aloud what strangers can do."""
    if is_loopback(host):
        return
    if config.tls is None:
        _log.warning(
            "listening on %s WITHOUT ENCRYPTION: whoever is on the network can connect, and hear what is said and read "
            "what is written; give the server a certificate and a key (--tls-cert, --tls-key)",
            address(host, port),
        )
    if config.keys is None and config.signers is None and (config.tls is None or config.tls.client_roots is None):
        _log.warning(
            "listening on %s WITHOUT KEYS: whoever reaches it may use it; make keys (streamtrans key) "
            "and give the server their file (--keys), or admit only certificates of yours (--tls-client-ca)",
            address(host, port),
        )
