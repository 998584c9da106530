"""Client messages become samples, as many, at the pace and of the size that the limits allow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from streamtrans.audio import ENCODINGS, Decoder
from streamtrans.core import SAMPLE_RATE, BadAudio
from streamtrans.server.config import ServerConfig
from streamtrans.server.refusal import invalid, unsupported
from streamtrans.wire import Limits, StreamOptions

Samples = npt.NDArray[np.float32]

_SILENT = {"pcm_s16le": 0x00, "pcm_f32le": 0x00, "mulaw": 0xFF, "alaw": 0xD5}
"""Encoding → the byte that digital silence is made of (ITU-T G.711 for the last two)."""


_MOST_PLACES = 10_000
"""Messages that are remembered; of more, more than is needed would be sent again."""

_NOTHING = np.zeros(0, np.float32)


class Clock(Protocol):
    """Seconds of a clock that never goes back."""

    def __call__(self) -> float:
        """Return the time now."""


_LEAST_MS = 20
"""Audio that is decoded at once; smaller chunks wait until they make up as much, or something else comes."""


class Intake:
    """Decode a stream's audio.

    Args:
        options: how it is encoded.
        limits: of one message.
        place: where it is taken up: the number of the last message before, and the frames up to it.

    Raises:
        Refusal: this server doesn't decode the encoding, or rate or channels are out of range.
    """

    def __init__(self, options: StreamOptions, limits: Limits, place: tuple[int, int] = (0, 0)) -> None:
        if options.encoding not in ENCODINGS:
            raise unsupported(
                f"encoding {options.encoding} isn't decoded by this server; use one of {', '.join(ENCODINGS)}"
            )
        try:
            self._decoder = Decoder(options.encoding, options.sample_rate_hertz, options.channels)
        except BadAudio as error:
            raise invalid([("audio_format", str(error))]) from error
        self._limits = limits
        self._rate = options.sample_rate_hertz
        self._silence = bytes([_SILENT[options.encoding]]) * self._decoder.frame_bytes
        self._least_bytes = self._rate * _LEAST_MS // 1000 * self._decoder.frame_bytes
        self._held = bytearray()
        self._told = False
        self.sequence, self._frames = place
        """Number of the newest message that was numbered, 0 before the first; frames that were sent."""
        self._places = deque([place])
        """Message and frames up to its end, the oldest first: where the stream may have to be taken up."""
        self._remembers = False

    def audio(self, data: bytes, sequence: int = 0) -> Samples:
        """Return the samples that are ready once ``data`` is taken; an empty chunk is no audio and no error.

        Raises:
            Refusal: the chunk is too long, ends within a frame, holds samples that are no numbers, or is out of turn.
        """
        self._count("audio.sequence", sequence)
        limits = self._limits
        if len(data) > limits.max_chunk_bytes:
            raise invalid([("audio.data", f"{len(data)} bytes; at most {limits.max_chunk_bytes} in one chunk")])
        duration_ms = len(data) // self._decoder.frame_bytes * 1000 / self._rate
        if duration_ms > limits.max_chunk_ms:
            raise invalid(
                [("audio.data", f"{duration_ms:.0f} ms of audio; at most {limits.max_chunk_ms} in one chunk")]
            )
        try:
            self._decoder.check(data)
        except BadAudio as error:
            raise invalid([("audio.data", str(error))]) from error
        self._held += data
        self._note(len(data) // self._decoder.frame_bytes)
        return self._decode() if len(self._held) >= self._least_bytes else _NOTHING

    def problem(self) -> str | None:
        """Return what is wrong with the audio so far, once: it is said, and the stream goes on."""
        if self._told or (problem := self._decoder.problem) is None:
            return None
        self._told = True
        return problem

    def silence(self, duration_ms: int, sequence: int = 0) -> Iterator[Samples]:
        """Return the samples of ``duration_ms`` of digital silence, a second at a time.

        Silence passes through the same decoder as audio, so that it stands exactly where it was sent.

        Raises:
            Refusal: the duration is not positive, or too long, or the message is out of turn.
        """
        self._count("silence.sequence", sequence)
        most = self._limits.max_silence_ms
        if not 0 < duration_ms <= most:
            raise invalid([("silence.duration_ms", f"{duration_ms} is out of range; use 1 to {most}")])
        frames = duration_ms * self._rate // 1000
        self._note(frames)
        return (self._decode(self._silence * min(self._rate, frames - at)) for at in range(0, frames, self._rate))

    def rest(self, last_sequence: int = 0) -> Samples:
        """Return what is held back, at the end of the stream, whose last message has the number ``last_sequence``.

        Raises:
            Refusal: messages are numbered, and another one was the last; or what is held back are no numbers.
        """
        if last_sequence and self.sequence and last_sequence != self.sequence:
            problem = f"is {last_sequence}, but the last message that came has number {self.sequence}"
            raise invalid([("end.last_sequence", problem)])
        return self.utterance()

    def utterance(self) -> Samples:
        """Return what is held back of an utterance that ends here."""
        return np.concatenate([self._decode(), self._decoder.flush()])

    def remember(self) -> None:
        """Remember from now on where messages end, for whoever asks `settled`, which forgets them again."""
        self._remembers = True

    def settled(self, sample: int) -> tuple[int, int]:
        """Return the last message that is no part of what follows ``sample``, and the frames up to its end.

        It isn't asked for an earlier one again.
        """
        while len(self._places) > 1 and self.position(self._places[1][1]) <= sample:
            self._places.popleft()
        return self._places[0]

    def position(self, frames: int) -> int:
        """Return the sample that so many frames reach to."""
        return frames * SAMPLE_RATE // self._rate

    def _note(self, frames: int) -> None:
        self._frames += frames
        if self.sequence and self._remembers:
            self._places.append((self.sequence, self._frames))
            if len(self._places) > _MOST_PLACES:
                del self._places[1]

    def _decode(self, more: bytes = b"") -> Samples:
        data = bytes(self._held) + more
        self._held.clear()
        try:
            return self._decoder.decode(data)
        except BadAudio as error:
            raise invalid([("audio.data", str(error))]) from error

    def _count(self, path: str, sequence: int) -> None:
        """Refuse a numbered message that doesn't follow the one before it; 0 is no number."""
        if not sequence:
            return
        if sequence != self.sequence + 1:
            problem = (
                f"is {sequence} where {self.sequence + 1} was due; count audio and silence together, from 1, by ones"
            )
            raise invalid([(path, problem)])
        self.sequence = sequence


class Bucket:
    """An allowance that fills up again: ``burst`` at first and at most, and ``rate`` more per second."""

    def __init__(self, rate: float, burst: float, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._spent = 0.0
        """Beyond the allowance; 0 is a full burst in hand."""
        self._at = clock()

    def spend(self, amount: float) -> float:
        """Take ``amount`` in any case; return the seconds until the bucket is in balance again."""
        now = self._clock()
        self._spent = max(0.0, self._spent - (now - self._at) * self._rate) + amount
        self._at = now
        return max(0.0, (self._spent - self._burst) / self._rate)


class Pace:
    """A budget of audio per wall time: a burst at first, then a multiple of real time.

    Audio that was not sent in time may be sent later, up to the burst. Silence costs only what it is ahead of the
    clock: told once it has passed, up to the longest that one message may tell, it is no faster than speech is.
    """

    def __init__(self, limits: Limits, clock: Clock = time.monotonic, again_s: float = 0.0) -> None:
        """Begin; ``again_s`` are sent once more, and may come at once too."""
        self._bucket = Bucket(limits.max_real_time_factor, limits.burst_ms / 1000 + again_s, clock)
        self._most_late_s = limits.max_silence_ms / 1000
        self._clock = clock
        self._end = clock()
        """When all audio so far would have been spoken, had each piece begun as soon as the one before had ended."""

    def spend(self, count: int) -> float:
        """Take ``count`` samples of audio; return the seconds to wait until it is in balance again."""
        self._advance(count)
        return self._bucket.spend(count / SAMPLE_RATE)

    def spend_silence(self, count: int) -> float:
        """Take ``count`` samples of silence that were told, not sent; return as :meth:`spend` does."""
        return self._bucket.spend(self._advance(count))

    def _advance(self, count: int) -> float:
        """Let the audio go on by ``count`` samples; return how many seconds of them lie ahead of the clock."""
        now = self._clock()
        before = max(self._end, now - self._most_late_s)
        self._end = before + count / SAMPLE_RATE
        return max(0.0, self._end - max(before, now))


def too_fast(wait_s: float, config: ServerConfig) -> str:
    """Say to a sender how much too fast its audio is."""
    limits = config.limits
    return (
        f"audio comes faster than {limits.max_real_time_factor:g} times real time beyond a burst of "
        f"{limits.burst_ms} ms; it is {wait_s:.1f} s early"
    )


def too_many(wait_s: float, config: ServerConfig) -> str:
    """Say to a sender how much too many its messages are."""
    return (
        f"more than {config.max_messages_per_s:g} messages a second come beyond a burst of "
        f"{config.burst_messages}; send 20 to 250 ms of audio in each, and go on in {wait_s:.1f} s"
    )
