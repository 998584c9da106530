"""One stream of audio out, and what comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import grpc
import numpy as np
import numpy.typing as npt

from streamtrans.client.carrier import Call
from streamtrans.client.errors import DataLost, InvalidRequest, ServerFault, TimedOut
from streamtrans.client.lasting import KEPT_S, LastingLink, Resumed
from streamtrans.client.link import Link
from streamtrans.core import Event
from streamtrans.wire import (
    BYTES_PER_SAMPLE,
    BadFields,
    Change,
    Checkpoint,
    ConfigApplied,
    ConfigRejected,
    Cursors,
    LostMessage,
    Notice,
    Reducer,
    ServerMessage,
    Started,
    StreamOptions,
    Summary,
    audio_message,
    change_from_proto,
    config_message,
    cursors_from_proto,
    end_message,
    end_utterance_message,
    notice_from_proto,
    payload_of,
    ping_message,
    silence_message,
    started_from_proto,
    summary_from_proto,
    update_message,
)

StreamEvent = Event | Started | Resumed | Notice | Change | Summary
Sound = npt.NDArray[np.floating] | bytes | bytearray | memoryview
"""What can be sent: samples, or bytes in the announced encoding."""

_CHUNK_S = 0.25
"""Audio in one message; a longer piece is cut. Larger saves messages, smaller starts sooner."""


class TranslationStream:
    """A stream that was admitted: send audio into it and iterate over what comes back, at the same time.

    Sending waits while the server or the network is behind, so a caller who only sends and never iterates
    may wait for ever: do both, each in a task of its own, or iterate once everything short is sent.

    Sending and iterating may be cancelled, by a timeout for instance, and the stream goes on: the next event is
    still to come, and of a long piece of audio what has not begun to be sent is left out.

    With ``options.resumable`` the stream outlives its connection, where the server offers that: what the server has not
    acknowledged is kept and sent again over another one, and :class:`Resumed` among the events says that it was.
    """

    def __init__(
        self, call: Callable[[], Call[ServerMessage]], options: StreamOptions, timeout_s: float, resume_s: float
    ) -> None:
        self.options = options
        self.cursors = Cursors()
        """Positions that the newest message told."""
        self.round_trip_ms: float | None = None
        """Of the newest answered :meth:`ping`."""
        self.summary: Summary | None = None
        self._call = call
        self._timeout_s = timeout_s
        self._resume_s = resume_s
        self._link: Link[ServerMessage] | LastingLink | None = None
        self._started: Started | None = None
        self._fresh = True
        self._reducer = Reducer()
        self._events = 0
        self._sequence = 0
        self._updates = 0
        self._answered: set[int] = set()
        """Updates; one that was sent again may be answered again."""
        self._odd = b""
        """The beginning of a frame whose end is to come."""
        self._ended = False
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open the stream and wait until the server has admitted it.

        Raises:
            BadFields: there is no target, or an option has no form on the wire.
            ClientError: the server refused.
        """
        if not self.options.targets:
            raise BadFields([("targets", "is empty; name at least one language to translate into")])
        opening = config_message(self.options)
        self._link = self._new_link()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._link.write(opening)
                response = await self._read()
            if response is None or payload_of(response) != "started":
                raise ServerFault(grpc.StatusCode.INTERNAL, "the server didn't answer the configuration")
            self._started = started_from_proto(response)
        except TimeoutError as error:
            silent = f"the server said nothing within {self._timeout_s:g} s"
            raise TimedOut(grpc.StatusCode.DEADLINE_EXCEEDED, silent) from error
        except BadFields as error:
            raise ServerFault(grpc.StatusCode.INTERNAL, f"the server's configuration is malformed: {error}") from error
        finally:
            if self._started is None:
                await self._link.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; a stream that has not come to its end is cancelled."""
        await self._running.close()

    @property
    def started(self) -> Started:
        """What is in effect: session id, options with defaults filled in, limits, model."""
        if self._started is None:
            raise RuntimeError("the stream isn't open; use it in `async with client.stream(...) as stream`")
        return self._started

    async def send(self, audio: Sound) -> None:
        """Send audio: bytes in the announced encoding, or samples for a PCM encoding.

        Samples are floats in [-1, 1] of shape ``(n,)`` or ``(n, channels)`` at the announced rate. Any length is fine:
        long ones are cut, and of bytes what doesn't fill a frame waits for the next ones. Waits while the server is
        behind.

        Raises:
            ClientError: the server has ended the call.
            TypeError: it is neither an array nor bytes.
            ValueError: samples of a wrong type or shape, or for an encoding that only bytes can carry.
        """
        frame = self._frame
        if isinstance(audio, bytes | bytearray | memoryview):
            data = self._odd + bytes(audio)
            whole = len(data) // frame * frame
            data, self._odd = data[:whole], data[whole:]
        else:
            data = encode(audio, self.options)
        most = min(round(self.options.sample_rate_hertz * _CHUNK_S) * frame, self.started.limits.max_chunk_bytes)
        step = max(frame, most // frame * frame)
        for start in range(0, len(data), step):
            async with self._turn():
                self._sequence += 1
                await self._running.write(audio_message(data[start : start + step], self._sequence))

    async def send_silence(self, duration_ms: int) -> None:
        """Stand for digital silence without sending it."""
        async with self._turn():
            self._sequence += 1
            await self._running.write(silence_message(duration_ms, self._sequence))

    async def end_utterance(self) -> None:
        """Close the current segment here, without waiting for silence."""
        async with self._turn():
            await self._running.write(end_utterance_message())

    async def update(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> int:
        """Change the targets while the stream runs; return the number of this update.

        The answer comes among the events: :class:`ConfigApplied` or :class:`ConfigRejected` with that number.
        """
        async with self._turn():
            self._updates += 1
            update = self._updates
            await self._running.write(update_message(update, add, remove))
        return update

    async def ping(self) -> None:
        """Measure the round trip; the answer updates :attr:`round_trip_ms` while you iterate."""
        async with self._turn():
            await self._running.write(ping_message(time.monotonic_ns() // 1_000_000))

    async def end(self) -> None:
        """Say that no audio follows; the last captions and the summary come, then the iteration ends."""
        if self._ended:
            return
        async with self._turn():
            self._ended = True
            await self._running.write(end_message(self._sequence), last=True)

    def __aiter__(self) -> Self:
        """Iterate over the events; the first is :class:`Started`, the last :class:`Summary`."""
        return self

    async def __anext__(self) -> StreamEvent:
        """Return the next event.

        Raises:
            ClientError: the call ended without success.
        """
        if self._fresh:
            self._fresh = False
            return self.started
        while (response := await self._read()) is not None:
            event = self._event(response)
            if event is not None:
                return event
        if self.summary is None and not self._running.closed:
            raise DataLost(grpc.StatusCode.DATA_LOSS, "the stream ended without a summary")
        raise StopAsyncIteration

    def _new_link(self) -> Link[ServerMessage] | LastingLink:
        if not self.options.resumable:
            return Link(self._call())
        return LastingLink(self._call, round(KEPT_S * self.options.sample_rate_hertz) * self._frame, self._resume_s)

    @property
    def _frame(self) -> int:
        """Bytes of one sample of all channels; 1 where that depends on what is encoded."""
        return BYTES_PER_SAMPLE.get(self.options.encoding, 1) * self.options.channels

    @property
    def _running(self) -> Link[ServerMessage] | LastingLink:
        if self._link is None:
            raise RuntimeError("the stream isn't open; use it in `async with client.stream(...) as stream`")
        return self._link

    def _event(self, response: ServerMessage) -> StreamEvent | None:
        kind = payload_of(response)
        if kind == "notice":
            return notice_from_proto(response.notice)
        if kind == "summary":
            self.summary = summary_from_proto(response.summary)
            return self.summary
        if kind == "pong":
            self.round_trip_ms = time.monotonic_ns() / 1e6 - response.pong.client_time_ms
            return None
        if kind == "started" and isinstance(self._link, LastingLink):
            return self._link.resumed()
        try:
            change = change_from_proto(response)
            return self._reducer.reduce(response) if change is None else self._news(change)
        except LostMessage as error:
            raise DataLost(grpc.StatusCode.DATA_LOSS, str(error)) from error

    def _news(self, change: Change) -> Change | None:
        """Return what the caller should know of ``change``: no bookkeeping, and no answer twice."""
        if isinstance(change, ConfigApplied | ConfigRejected):
            if change.update_id in self._answered:
                return None
            self._answered.add(change.update_id)
        return None if isinstance(change, Checkpoint) else change

    async def _read(self) -> ServerMessage | None:
        response = await self._running.read()
        if response is None:
            return None
        self._events += 1
        if response.event_sequence != self._events:
            raise DataLost(
                grpc.StatusCode.DATA_LOSS,
                f"event {response.event_sequence} came where {self._events} was due",
            )
        self.cursors = cursors_from_proto(response.cursors)
        return response

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for whoever writes; what is counted in here and then written is on its way, cancelled or not."""
        async with self._writing:
            await self._running.clear()
            if self._ended:
                raise InvalidRequest(grpc.StatusCode.FAILED_PRECONDITION, "the stream has ended; open a new one")
            yield


def encode(samples: npt.NDArray[np.floating], options: StreamOptions) -> bytes:
    """Return ``samples``, ``(n,)`` or ``(n, channels)`` in [-1, 1], in the PCM encoding of ``options``.

    Raises:
        TypeError: it is no array.
        ValueError: they are no floats, or not finite, the shape doesn't fit the channels, or the encoding is not PCM.
    """
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"audio is a {type(samples).__name__}; send a numpy array, or bytes in the stream's encoding")
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be floats in [-1, 1], not {samples.dtype}; send integers as bytes")
    if not samples.ndim or samples.shape[1:] not in ([(), (1,)] if options.channels == 1 else [(options.channels,)]):
        raise ValueError(f"samples of shape {samples.shape} don't fit {options.channels} channels")
    if options.encoding not in ("pcm_s16le", "pcm_f32le"):
        raise ValueError(f"{options.encoding} takes bytes; samples go with pcm_s16le or pcm_f32le")
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite numbers; there is a NaN or an infinity")
    if options.encoding == "pcm_f32le":
        return samples.astype("<f4").tobytes()
    scaled = np.multiply(np.clip(samples, -1.0, 1.0), 32767, dtype=np.float64)  # 32767 is none of float16's numbers
    return bytes(scaled.round().astype("<i2").tobytes())
