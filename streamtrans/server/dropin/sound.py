"""The audio of a conversation, as it comes from its client, in messages of the call."""

from __future__ import annotations

from collections.abc import Iterator

from streamtrans.wire import BYTES_PER_SAMPLE, ClientMessage, StreamOptions, audio_message, silence_message

_CHUNK_S = 0.25
"""Of what comes at once, in one message."""


class Sound:
    """Numbers messages of whole frames of audio."""

    def __init__(self, options: StreamOptions) -> None:
        self.heard_ms = 0.0
        self.sequence = 0
        """Number of the newest message."""
        self._size = BYTES_PER_SAMPLE[options.encoding] * options.channels
        self._rate = options.sample_rate_hertz
        self._odd = b""

    def take(self, data: bytes) -> Iterator[ClientMessage]:
        """Yield ``data``; what is left over of a frame waits for the next."""
        data = self._odd + data
        whole = len(data) // self._size * self._size
        self._odd = data[whole:]
        self.heard_ms += whole / self._size * 1000 / self._rate
        step = max(1, round(self._rate * _CHUNK_S)) * self._size
        for start in range(0, whole, step):
            self.sequence += 1
            yield audio_message(data[start : min(whole, start + step)], self.sequence)

    def silence(self, duration_ms: int) -> ClientMessage:
        """Return that nothing is to be heard for so long."""
        self.sequence += 1
        return silence_message(duration_ms, self.sequence)
