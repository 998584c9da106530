"""The service: who is let in."""

from __future__ import annotations

import asyncio
import logging
import time
from weakref import WeakValueDictionary

import streamtrans
from streamtrans import audio
from streamtrans.core import EngineClosed
from streamtrans.server.call import Call
from streamtrans.server.capacity import Capacity
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.doors import Anteroom, Room
from streamtrans.server.ending import ending
from streamtrans.server.grpc_link import Context, GrpcLink, metadata_of
from streamtrans.server.intake import Intake
from streamtrans.server.keeper import Keeper
from streamtrans.server.kept import FORGOTTEN, name_of, new_token, session_of
from streamtrans.server.keys import Holder, Keys, bearer
from streamtrans.server.link import Link, Metadata
from streamtrans.server.live import LiveSession
from streamtrans.server.metrics import Metrics, Stream
from streamtrans.server.opening import open_stream, watched_language
from streamtrans.server.reader import Reader
from streamtrans.server.refusal import Refusal, expired, invalid, no_viewer, unavailable, unknown_token
from streamtrans.server.registry import Registry, Speaker, stats_of
from streamtrans.server.spans import exporting
from streamtrans.server.stores import StoreFailed, store_at
from streamtrans.server.taking_over import Deal
from streamtrans.server.tape import erased
from streamtrans.server.viewers import Viewer, Write
from streamtrans.wire import (
    MODES,
    Capabilities,
    CapabilitiesRequest,
    CapabilitiesResponse,
    ForgetRequest,
    ForgetResponse,
    GoAway,
    Resume,
    ServiceBase,
    StatsRequest,
    StatsResponse,
    WatchRequest,
    capabilities_to_proto,
    mode_from_proto,
    resume_from_proto,
)

_log = logging.getLogger(__name__)


class TranslationService(ServiceBase):  # type: ignore[misc]  # generated without types
    """The methods of ``streamtrans.v1.TranslationService``, under the names that gRPC looks for."""

    def __init__(self, config: ServerConfig) -> None:
        self.served: Served | None = None
        """Set once the model is warm."""
        self.draining = False
        """Set before the server stops: no new call is admitted."""
        self.failed = asyncio.Event()
        """Set when the engine is found to have stopped though nobody stopped the server; it stays so."""
        self.metrics = Metrics()
        self.capacity = Capacity(config.load, config.session.reading_interval_ms, config.retry_after_ms)
        """What the device carries; asked before a stream is let in."""
        self.spans = exporting(config.traces)
        self._config = config
        self._keys = Keys(config.keys, config.retry_after_ms, config.signers)
        self._sessions = Room("sessions", config.max_sessions, config.sessions_per_connection, config.retry_after_ms)
        patience_ms = min(config.first_message_ms, config.limits.idle_ms)
        self.anteroom = Anteroom(config.max_waiting, patience_ms, config.retry_after_ms)
        """Of all carriers."""
        self._calls: dict[Call, asyncio.Event] = {}
        """Those that run, and what is set once their streams are ended or wait to be resumed."""
        self._viewable: WeakValueDictionary[str, LiveSession] = WeakValueDictionary()
        """By their tokens for viewers."""
        self._viewers: set[Viewer] = set()
        self._over: dict[LiveSession, asyncio.TimerHandle] = {}
        """Streams that are over, and were watched: who was cut off from one may read it to its end."""
        self.registry = Registry(config.limits.resume_ms / 1000, config.max_sessions)
        self._keep_s = (config.limits.resume_ms + config.limits.idle_ms) / 1000  # who says nothing writes nothing
        self.store = None if config.store is None else store_at(config.store, self._keep_s)

    def leave(self, grace_ms: int) -> None:
        """Admit nobody any more, and let every call that runs be over within ``grace_ms``, its last captions told."""
        self.draining = True
        for call in self._calls:
            call.leave(grace_ms / 1000, self._going())
        for viewer in self._viewers:
            viewer.warn(GoAway(grace_ms, "shutdown"))

    @property
    def active_sessions(self) -> int:
        """Streams that are being served."""
        return len(self._sessions)

    async def StreamTranslate(self, _messages: object, context: Context) -> None:
        """Serve one stream."""
        token, link = new_token(), GrpcLink(context)
        async with ending(f"session {session_of(token)}", link):
            await self.stream(token, link, context.peer(), metadata_of(context))

    async def ListCapabilities(self, _request: CapabilitiesRequest, context: Context) -> CapabilitiesResponse:
        """Say what is offered; raises a refusal for the doors to tell."""
        return self.capabilities(metadata_of(context))

    @property
    def asks_for_keys(self) -> bool:
        """Whether who calls must say who he is."""
        return self._config.keys is not None or self._config.signers is not None

    async def stream(
        self, token: str, link: Link, peer: str, metadata: Metadata, config: ServerConfig | None = None
    ) -> None:
        """Serve one stream, whatever it comes over; raises what ends it for :func:`~.ending.ending` to tell.

        A new one gets ``token``, by which it can be gone on with; see :func:`~.kept.session_of`. The limits of
        ``config``, where it is given, hold for its call.
        """
        with Stream(self.metrics) as stream:
            holder = self._keys.holder(metadata, "speak")
            await self._stream(token, link, peer, stream, holder, config=config or self._config)

    def capabilities(self, metadata: Metadata) -> CapabilitiesResponse:
        """Say what is offered.

        Raises:
            Refusal: nothing is, at this time or to who calls.
        """
        self._keys.holder(metadata)
        served = self._ready()
        return capabilities_to_proto(
            Capabilities(
                model=served.model_name,
                languages=served.languages,
                encodings=audio.ENCODINGS,
                vads=served.vads,
                modes=tuple(MODES),
                limits=served.bounded(self._config.limits),
                min_sample_rate_hertz=audio.MIN_RATE,
                max_sample_rate_hertz=audio.MAX_RATE,
                max_channels=audio.MAX_CHANNELS,
                server_version=streamtrans.__version__,
                translations=served.translations,
                unspaced_languages=served.unspaced,
                defaults=self._config.captions,
                recorded=self._config.record is not None,
                stored_ms=0 if self.store is None else round(self._keep_s * 1000),
            )
        )

    def refuse_speaker(self, metadata: Metadata) -> None:
        """Turn away who could begin no stream now, whatever it is.

        Raises:
            Refusal: that is so.
        """
        holder = self._keys.holder(metadata, "speak")
        self._ready()
        holder.refuse_when_full()

    async def WatchCaptions(self, request: WatchRequest, context: Context) -> None:
        """Let somebody read along; raises a refusal for the doors to tell."""
        await self.watch(request, GrpcLink(context).write, metadata_of(context))

    async def GetStats(self, _request: StatsRequest, context: Context) -> StatsResponse:
        """Say how the streams of the caller's key are getting on; raises a refusal for the doors to tell."""
        return self.stats(metadata_of(context))

    async def watch(self, request: WatchRequest, write: Write, metadata: Metadata) -> None:
        """Let somebody read along, whatever he comes over, who is told by ``write``.

        Raises:
            Refusal: he may not, doesn't read, or his token has expired meanwhile.
            StreamtransError: what stopped the stream.
        """
        live, holds_s = self._shown(request, bearer(metadata))
        served = self._ready()
        opening = live.opening.session
        language = watched_language(request.language, opening.targets, served, opening.source)
        mode = mode_from_proto(request.mode)
        patience_s = self._config.limits.idle_ms / 1000
        viewer = Viewer(live, language, mode, held=request.final_segments, write=write, patience_s=patience_s)
        age_s, warning_ms = self._config.limits.max_connection_ms / 1000, self._config.warning_ms
        old = GoAway(warning_ms, "max_age")
        growing_old = asyncio.get_running_loop().call_later(age_s - warning_ms / 1000, viewer.warn, old)
        self._viewers.add(viewer)
        try:
            async with asyncio.timeout(holds_s):
                await viewer.run(self._config.retry_after_ms)
        except TimeoutError as error:
            raise expired() from error
        finally:
            self._viewers.remove(viewer)
            growing_old.cancel()

    def _shown(self, request: WatchRequest, key: str) -> tuple[LiveSession, float | None]:
        """Return what a viewer may watch, and for how many seconds; ``None``: to its end.

        Raises:
            Refusal: nothing; what he tried is told only to who has a signed token.
        """
        live = self._viewable.get(request.viewer_token)
        if live is not None:
            return live, None
        claims = self._keys.viewing(request.viewer_token or key, request.session_id)
        if claims is None:
            raise no_viewer()
        session_id = claims.session or request.session_id
        live = next((each for each in self._viewable.values() if each.session_id == session_id), None)
        if live is None:
            raise no_viewer()
        return live, claims.exp - time.time()

    def stats(self, metadata: Metadata) -> StatsResponse:
        """Say how the streams of the caller's key are getting on.

        Raises:
            Refusal: who calls has no key.
        """
        holder = self._keys.holder(metadata)
        connected = [call.speaker for call in self._calls]
        speakers = [each for each in (*connected, *self.registry) if each.live.holder is holder]
        speakers.sort(key=lambda speaker: speaker.live.began_at)
        told = [stats_of(each, connected=each in connected) for each in speakers]
        return StatsResponse(streams=told, active=sum(each.connected for each in told))

    async def ForgetStream(self, request: ForgetRequest, context: Context) -> ForgetResponse:
        """Delete what is kept of a stream; raises a refusal for the doors to tell."""
        return await self.forget(request, metadata_of(context))

    async def forget(self, request: ForgetRequest, metadata: Metadata) -> ForgetResponse:
        """Delete what is kept of a stream, and end it where it runs: here, or where it is fenced by that.

        Raises:
            Refusal: who calls has no key, or another one than who spoke, or the store fails.
        """
        holder, token = self._keys.holder(metadata, "speak"), request.resume_token
        if not token:
            raise invalid([("resume_token", "is empty; a stream's is in `started`")])
        await self._take_from_calls(token, holder)
        speaker = self.registry.take(token, holder)
        if speaker is not None:
            await speaker.leave(forget=True)
        readable = [live for live in self._over if live.token == token and live.holder is holder]
        for live in readable:
            self._over.pop(live).cancel()
        stored = await self._forget_stored(token, holder)
        recording = False
        if self._config.record is not None:
            recording = await asyncio.to_thread(erased, self._config.record, session_of(token))
        return ForgetResponse(texts=speaker is not None or bool(readable) or stored, recording=recording)

    async def _forget_stored(self, token: str, holder: Holder) -> bool:
        if self.store is None:
            return False
        name = name_of(token, holder.name, self._ready().model_name)
        try:
            claimed = await self.store.claim(name)
            if claimed is not None:  # dropped, it could be written again by who has it, and doesn't know
                await self.store.put(name, claimed[0], FORGOTTEN)
        except StoreFailed as error:
            raise unavailable(str(error), self._config.retry_after_ms, "store_failed") from error
        return claimed is not None and claimed[1] != FORGOTTEN

    async def _take_from_calls(self, token: str, holder: Holder) -> None:
        """Let calls that have the stream of ``token`` give way until none has it: another may have waited to take it.

        Raises:
            Refusal: another key began it; who has this one learns no more of it than who guesses.
        """
        while (call := next((each for each in self._calls if each.token == token), None)) is not None:
            if call.holder is not holder:
                raise unknown_token()
            over = self._calls[call]
            call.give_way()
            await over.wait()

    async def _stream(
        self, token: str, link: Link, peer: str, stream: Stream, holder: Holder, *, config: ServerConfig
    ) -> None:
        served = self._ready()
        self._sessions.refuse_when_full(peer)  # who is turned away should hear it before he says anything
        first = await self.anteroom.wait(link.read, peer)
        self._ready()  # it may have changed while the client kept us waiting
        if first is not None and (resume := resume_from_proto(first.config)) is not None:
            await self._go_on(resume, link, peer, stream, holder)
            return
        opening = open_stream(first, served, self._config)
        self.capacity.refuse_when_full(len(opening.session.targets))
        with self._sessions.place(peer), holder.place(new=True):
            stream.admitted()
            session_id = session_of(token)
            _log.info("session %s: %s → %s", session_id, opening.session.source, opening.session.targets)
            intake = Intake(opening.options, self._config.limits)
            live = LiveSession(
                session_id,
                opening,
                served,
                self._config,
                metrics=self.metrics,
                holder=holder,
                capacity=self.capacity,
                spans=self.spans,
                token=token,
            )
            kept = self._config.max_unsent_events if opening.options.resumable else 0
            reader = Reader(live, kept)
            keeper = None
            if self.store is not None and opening.options.resumable:
                keeper = Keeper(
                    self.store, 1, live=live, intake=intake, reader=reader, retry_after_ms=self._config.retry_after_ms
                )
            await self._attend(Speaker(live, intake, reader, keeper), link, config)

    async def _go_on(self, resume: Resume, link: Link, peer: str, stream: Stream, holder: Holder) -> None:
        """Go on with a stream whose call broke; one that hasn't noticed yet gives way."""
        await self._take_from_calls(resume.token, holder)
        with self._sessions.place(peer), holder.place():  # before the stream is taken: it may be asked for again
            speaker = self.registry.take(resume.token, holder)
            if speaker is None or not await self._still_ours(speaker):
                speaker = await self._take_over(resume, holder)
            stream.admitted()
            _log.info("session %s goes on", speaker.live.session_id)
            await self._attend(speaker, link, self._config, resume)

    async def _still_ours(self, speaker: Speaker) -> bool:
        """Say whether no other server has gone on with the stream; what is left of it here ends then."""
        try:
            ours = speaker.keeper is None or await speaker.keeper.owns()
        except Refusal:
            self.registry.keep(speaker)
            raise
        if not ours:
            await speaker.leave(forget=False)
        return ours

    async def _take_over(self, resume: Resume, holder: Holder) -> Speaker:
        """Go on with a stream that another server kept, or this one before it was started anew."""
        if self.store is None:
            raise unknown_token()
        deal = Deal(self.store, self._ready(), self._config, self.metrics, self.capacity, self.spans)
        return await deal.take_over(resume, holder)

    async def _attend(self, speaker: Speaker, link: Link, config: ServerConfig, resume: Resume | None = None) -> None:
        call = Call(speaker, link, config, resume)
        over = self._calls[call] = asyncio.Event()
        self._viewable[speaker.live.viewer_token] = speaker.live
        try:
            await call.run()
        except* EngineClosed:
            raise self.stopped() from None
        finally:
            del self._calls[call]
            task = asyncio.current_task()  # which is cancelled when the client is gone
            left = call.broken or speaker.reader.finished or (task is not None and task.cancelling() > 0)
            resumable = speaker.live.opening.options.resumable and not call.left
            fenced = speaker.keeper is not None and speaker.keeper.fenced
            if (left or call.waits) and resumable and not (fenced or self.draining):
                self.registry.keep(speaker)
            else:
                await speaker.leave(forget=not (fenced or self.draining))
                if speaker.reader.finished and speaker.live.audience.was_there:
                    self._leave_readable(speaker.live)
            over.set()

    def _leave_readable(self, live: LiveSession) -> None:
        keep_s = self._config.limits.resume_ms / 1000
        self._over[live] = asyncio.get_running_loop().call_later(keep_s, self._over.pop, live)
        if len(self._over) > self._config.max_sessions:
            oldest = next(iter(self._over))
            self._over.pop(oldest).cancel()

    def _ready(self) -> Served:
        if self.failed.is_set():
            raise self.stopped()
        if self.draining:
            raise self._going()
        if self.served is None:
            raise unavailable("the model is not warm yet", self._config.retry_after_ms, "loading")
        return self.served

    def _going(self) -> Refusal:
        return unavailable("the server is shutting down", self._config.retry_after_ms, "leaving")

    def stopped(self) -> Refusal:
        """Say why the engine answers no more; unless the server is leaving, it has failed, which is noted once."""
        retry_after_ms = self._config.retry_after_ms
        if not self.failed.is_set():
            if self.draining:
                return self._going()
            _log.error("the engine has stopped by itself; every call is refused until the server is restarted")
            self.failed.set()
        problem = "the engine has stopped; call again once the server has been restarted"
        return unavailable(problem, retry_after_ms, "engine_stopped")
