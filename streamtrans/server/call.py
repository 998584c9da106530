"""One call: a link that is attached to a live session.

```
client ──▶ link ──messages──▶ feed ──samples──▶ live session
client ◀── link ◀──messages── reader ◀──────────── its hub
```
Messages are taken one at a time, so a client that is too fast is held by flow control and not by a queue of ours.

A call that must be over, for its age or because the server leaves, stops hearing in time for its last words::

    begins    go_away      last words                    hurry          until
      |-- hears --|-- hears ---|--- finals, summary, status --|-- what is shown is final --|
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from streamtrans.core import milliseconds, samples
from streamtrans.server.config import ServerConfig
from streamtrans.server.intake import Bucket, Pace, Samples, too_fast, too_many
from streamtrans.server.keys import Holder, Spent
from streamtrans.server.link import Left, Link, LinkLost, read
from streamtrans.server.opening import nothing_in_it, retargeted
from streamtrans.server.outbox import Answer, Overflow
from streamtrans.server.refusal import (
    Refusal,
    exhausted,
    lost_audio,
    lost_events,
    out_of_order,
    superseded,
    too_old,
    unsupported,
)
from streamtrans.server.registry import Speaker
from streamtrans.wire import (
    Checkpoint,
    ClientMessage,
    ConfigApplied,
    ConfigRejected,
    GoAway,
    Measured,
    Notice,
    Resume,
    ServerMessage,
    Started,
    Update,
    payload_of,
    started_message,
    update_from_proto,
)

_FULL_POLL_S = 0.02
"""How often a held client's session is asked whether it has room again."""

_CHECKPOINT = samples(1_000)
"""Audio between two checkpoints: larger saves messages, smaller lets the client keep less."""

_HURRY = 0.25
"""Share of the time for last words that is kept for sending them: what isn't read by then stays unread."""


class Call:
    """An admitted client, from ``started`` to ``summary``."""

    def __init__(self, speaker: Speaker, link: Link, config: ServerConfig, resume: Resume | None = None) -> None:
        self.speaker = speaker
        live = self._live = speaker.live
        self._link = link
        self._config = config
        self._intake = speaker.intake
        self._reader = speaker.reader
        self._keeper = speaker.keeper
        self._heard_before = speaker.heard_before
        self._position = speaker.intake.sequence
        """On a resumed call: number of the newest message that came again; what comes before any follows all heard."""
        self._resume = resume
        self._checked = live.arrivals.received
        self._superseded = asyncio.Event()
        self.broken = False
        """Whether the client was lost, or has called again, before the end."""
        self.waits = False
        """Whether the stream can't be kept just now, and may be resumed later."""
        self.left = False
        """Whether the client has said that it wants nothing more."""
        self._pace = Pace(config.limits, again_s=speaker.again_s)
        self._messages = Bucket(config.max_messages_per_s, config.burst_messages)
        self._hearing: asyncio.Task[None] | None = None
        self._sent_away = False
        age_ms = config.limits.max_connection_ms
        self._reason, self._why = too_old(age_ms), "max_age"
        self._warn_s = config.warning_ms / 1000
        self._rescheduled = asyncio.Event()
        self._schedule(age_ms / 1000)

    def leave(self, within_s: float, reason: Refusal) -> None:
        """Be over ``within_s`` from now, unless it is sooner anyway, and say ``reason`` after the last captions."""
        if asyncio.get_running_loop().time() + within_s < self._until:
            self._reason, self._why = reason, "shutdown"
            self._schedule(within_s)
            self._warn()

    def _schedule(self, within_s: float) -> None:
        self._until = asyncio.get_running_loop().time() + within_s
        self._last_words = min(self._config.last_words_ms / 1000, within_s / 2)
        self._rescheduled.set()

    def _warn(self) -> None:
        """Say how long the client is heard yet; once for each end that is set."""
        self._warn_s = 0
        left = self._until - self._last_words - asyncio.get_running_loop().time()
        elsewhere = self._live.token if self._keeper is not None and self._why == "shutdown" else ""
        self._reader.tell(GoAway(max(0, round(left * 1000)), self._why, elsewhere))

    async def run(self) -> None:
        """Serve the client to the end of its audio, the last captions and the summary.

        Raises:
            Refusal: alone or in a group; the call ends with its status.
            EngineClosed: in a group; nothing more can be read.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(self._grow_old()), tasks.create_task(self._give_way())]
                await self._begin()
                if not self._reader.finished:
                    self._hearing = tasks.create_task(self._hear_out())
                    await self._tell()
                for task in watching:
                    task.cancel()
        finally:
            self._hearing = None  # the frames that it may have been cancelled in hold this call
        if self._sent_away:
            raise self._reason

    @property
    def token(self) -> str:
        """Of the session."""
        return self._live.token

    @property
    def holder(self) -> Holder:
        """Whose key began the stream."""
        return self._live.holder

    def give_way(self) -> None:
        """End at once, for another call has come to go on with this stream."""
        self.broken = True
        self._superseded.set()

    async def _give_way(self) -> None:
        await self._superseded.wait()
        raise superseded()

    async def _begin(self) -> None:
        """Tell what is in effect; on a resumed call what was missed first, and nothing more if that was all."""
        limit_ms = min(self._config.first_message_ms, self._config.limits.idle_ms)
        if self._resume is not None:
            last = self._resume.last_event_sequence
            missed = self._reader.missed(last) if last >= self._reader.forgotten_at else None
            if missed is None:
                raise lost_events(self._resume.last_event_sequence)
            for message in missed:
                await self._keep(message)
                await self._write(message, limit_ms)
        if not self._reader.finished:
            await self._send(self._greeting(), limit_ms)

    async def _grow_old(self) -> None:
        """Hear no more in time for the last words, then wait for nothing, and in the end give up.

        Raises:
            Refusal: the last words were not told in time.
        """
        await self._come_to(1, self._warn_s)
        if self._warn_s:
            self._warn()
        await self._come_to(1)
        if self._hearing is None:
            raise self._reason  # even `started` could not be told
        if not self._hearing.done():
            self._sent_away = True
            self._hearing.cancel()
            self._end()
        await self._come_to(_HURRY)
        self._live.hurry()
        await self._come_to(0)
        raise self._reason

    async def _come_to(self, share: float, ahead_s: float = 0.0) -> None:
        """Wait until ``share`` of the time for last words is left, and ``ahead_s``, wherever that moves meanwhile."""
        clock = asyncio.get_running_loop().time
        while (left := self._until - share * self._last_words - ahead_s - clock()) > 0:
            self._rescheduled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._rescheduled.wait()

    async def _hear_out(self) -> None:
        """Take what the client says, to its end, or that of its quota: what was heard before is told all the same."""
        try:
            await self._hear_all()
        except Spent as spent:
            self._reason, self._sent_away, self._warn_s = spent, True, 0
            left_s = self._until - asyncio.get_running_loop().time()
            self._schedule(min(left_s, self._config.last_words_ms / 1000))
            self._live.end()

    async def _hear_all(self) -> None:
        limits = self._config.limits
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        last = 0
        while True:
            await self._hold(self._messages.spend(1), too_many)
            message = await self._next(heard_at + limits.idle_ms / 1000)
            kind = payload_of(message) if message is not None else "end"
            if message is not None and message.end.leave:
                self.left = True
                raise Left
            if message is not None and self._came_before(kind, message):
                heard_at = loop.time()
                continue
            if message is None or kind == "end":
                last = 0 if message is None else message.end.last_sequence
                break
            if kind == "audio":
                await self._hear([self._intake.audio(message.audio.data, message.audio.sequence)], self._pace.spend)
                if (problem := self._intake.problem()) is not None:
                    self._live.tell(Notice("AUDIO_SCALE", problem))
                heard_at = loop.time() if message.audio.data else heard_at
                self._check()
            elif kind == "silence":
                told = self._intake.silence(message.silence.duration_ms, message.silence.sequence)
                await self._hear(told, self._pace.spend_silence)
                heard_at = loop.time()
                self._check()
            elif kind == "end_utterance":
                await self._hear([self._intake.utterance()], self._pace.spend)
                self._live.end_utterance()
            elif kind == "ping":
                self._reader.acknowledge(message.ping.received_event_sequence)
                self._reader.tell(Answer(message.ping.client_time_ms))
            elif kind == "update":
                self._update(update_from_proto(message.update))
            else:
                _refuse(kind)
        self._end(last)

    def _came_before(self, kind: str | None, message: ClientMessage) -> bool:
        """Say whether ``message`` was heard on an earlier call, as what isn't acknowledged is sent again."""
        if self._resume is None:
            return False
        if kind in ("audio", "silence"):
            self._position = message.audio.sequence or message.silence.sequence
            return 0 < self._position <= self._intake.sequence
        # What came before audio that was heard was heard, too.
        return kind in ("end_utterance", "update") and self._position < self._intake.sequence

    async def _next(self, deadline: float) -> ClientMessage | None:
        try:
            message = await read(self._link, self._config.limits, deadline)
            if message is None and self._live.opening.options.resumable:
                raise LinkLost  # who means it says `end`
        except LinkLost:
            self.broken = True
            raise
        return message

    def _check(self) -> None:
        """Acknowledge what was heard, once there is enough of it."""
        received = self._live.arrivals.received
        if self._live.opening.options.resumable and received - self._checked >= _CHECKPOINT:
            self._checked = received
            self._reader.tell(Checkpoint(self._live.token, self._intake.sequence, milliseconds(received)))

    def _update(self, update: Update) -> None:
        """Answer an update, whole or not at all."""
        live = self._live
        try:
            opening = retargeted(live.opening, update, live.served, self._config)
        except Refusal as refusal:
            self._reader.tell(ConfigRejected(update.update_id, refusal.message))
            return
        effective_at_ms = milliseconds(live.retarget(opening))
        self._reader.tell(ConfigApplied(update.update_id, effective_at_ms, opening.options))

    def _end(self, last_sequence: int = 0) -> None:
        if self._intake.sequence < self._heard_before and not self._sent_away:
            raise lost_audio(self._heard_before, self._intake.sequence)
        if not self._live.ended:  # as on a call that was resumed after `end`, which says it again
            self._live.hear(self._intake.rest(last_sequence))
            self._live.end()

    async def _hear(self, pieces: Iterable[Samples], spend: Callable[[int], float]) -> None:
        """Give the samples of one message to the session, unless they are so few that they wait for more."""
        left = iter(pieces)
        try:
            await self._hold(spend(0), too_fast)
            for piece in left:
                if len(piece):
                    self._live.hear(piece)
                    wait_s = spend(len(piece))
                    if self._config.pace == "flow":
                        await self._hold(wait_s, too_fast)
                        await asyncio.sleep(0)  # what came in one piece with more of its kind keeps nobody waiting
        except asyncio.CancelledError:
            if not self._sent_away:  # a message that has been counted is heard whole, or a resumed call would miss it
                for piece in left:
                    self._live.hear(piece)
            raise

    async def _hold(self, wait_s: float, excess: Callable[[float, ServerConfig], str]) -> None:
        """Hold a client that is too fast, or refuse it."""
        config = self._config
        if config.pace == "flow":
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            while self._live.full:
                await asyncio.sleep(_FULL_POLL_S)
        elif wait_s > 0:
            raise exhausted(excess(wait_s, config), round(wait_s * 1000) + 1)
        elif self._live.full:
            behind_ms = self._live.opening.session.max_behind_ms
            raise exhausted(f"more than {behind_ms} ms of audio wait to be read", config.retry_after_ms)

    async def _tell(self) -> None:
        """Send what there is to read, to its end."""
        try:
            while (message := await self._reader.take()) is not None:
                await self._send(message)
        except Overflow as error:
            raise exhausted(str(error), self._config.retry_after_ms) from error
        await self._send(self._reader.summary())

    async def _send(self, message: ServerMessage, limit_ms: int | None = None) -> None:
        sealed = self._reader.seal(message)
        await self._keep(sealed)
        await self._write(sealed, limit_ms)

    async def _keep(self, sealed: ServerMessage) -> None:
        """See to it that what is about to be told can be gone on with."""
        if self._keeper is not None:
            try:
                await self._keeper.before(sealed)
            except Refusal as refusal:
                self.waits = refusal.reason == "store_failed"
                raise

    async def _write(self, sealed: ServerMessage, limit_ms: int | None = None) -> None:
        limit_ms = limit_ms or self._config.limits.idle_ms
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await self._link.write(sealed)
        except LinkLost:
            self.broken = True
            raise
        except TimeoutError as error:
            problem = f"nothing was read for {limit_ms} ms; read while you send"
            raise exhausted(problem, self._config.retry_after_ms) from error

    def _greeting(self) -> ServerMessage:
        opening, served = self._live.opening, self._live.served
        measured = None
        if (setting := opening.setting) is not None:
            measured = Measured(setting.name, setting.erasure, round(setting.latency_ms), setting.bleu_loss)
        return started_message(
            Started(
                session_id=self._live.session_id,
                options=opening.options,
                limits=served.bounded(self._config.limits),
                model=served.model_name,
                languages=served.languages,
                setting=measured,
                resume_token=self._live.token if opening.options.resumable else "",
                acknowledged_sequence=self._intake.sequence,
                unspaced_languages=served.unspaced,
                viewer_token=self._live.viewer_token,
            )
        )


def _refuse(kind: str | None) -> NoReturn:
    if kind is None:
        raise nothing_in_it()
    if kind == "config":
        raise out_of_order("`config` came twice; it is sent once, as the first message")
    raise unsupported(f"this server takes no `{kind}`; open a new stream with other settings")
