"""Hold a stream's audio and find its segments, one detector window at a time.

Law: what it finds depends on the samples, never on how they were cut into chunks.

```
0      forgotten      start        position        requested     received
|--------------------|xxxxxxxxxxxxxxx|...............|~~~~~~~~~~~~~~|
                      kept            probabilities   windows not yet sent to the detector
                      for readings    wait here
```
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio, Detect, Detection, samples
from streamtrans.segment import Before, Boundary, Closed, EndpointRules, Segmenter
from streamtrans.stream.leveller import SILENCE, Leveller, Loudest, raised

Samples = npt.NDArray[np.float32]


class AudioBuffer:
    """Samples ``[start, end)`` of one stream in one array that moves and grows as needed."""

    def __init__(self, begins: int = 0) -> None:
        self._data = np.zeros(16_000, np.float32)
        self._first = 0
        self.start = begins
        self.end = begins

    def append(self, chunk: Samples) -> None:
        """Add ``(n,)`` samples at the end."""
        held = self.end - self.start
        if self._first + held + len(chunk) > len(self._data):
            grown = np.zeros(max(len(self._data), 2 * (held + len(chunk))), np.float32)
            grown[:held] = self._data[self._first : self._first + held]
            self._data, self._first = grown, 0
        at = self._first + held
        self._data[at : at + len(chunk)] = chunk
        self.end += len(chunk)

    def copy(self, start: int, end: int) -> Samples:
        """Return samples ``[start, end)`` as an array of their own."""
        if not self.start <= start <= end <= self.end:
            raise ValueError(f"samples [{start}, {end}) are outside of what is held, [{self.start}, {self.end})")
        at = self._first + start - self.start
        return self._data[at : at + end - start].copy()

    def forget(self, before: int) -> None:
        """Drop the samples before index ``before``."""
        dropped = min(max(before - self.start, 0), self.end - self.start)
        self._first += dropped
        self.start += dropped


class Listener:
    """Turn samples into ``Detect`` requests, and their answers into segment boundaries.

    Of a stream that is taken up at the sample ``begins``, ``before`` says what is known, and ``loudest`` how loud it
    was. The detector hears it brought to ``level_db``, if there is one.
    """

    def __init__(
        self,
        rules: EndpointRules,
        window: int,
        vad: str,
        detect_limit_ms: int,
        *,
        begins: int = 0,
        before: Before | None = None,
        level_db: float | None = None,
        loudest: Loudest = SILENCE,
    ) -> None:
        self._audio = AudioBuffer(begins)
        first = -(-begins // window)  # windows lie where they lay
        self._heard_before = 0 if before is None else before.known
        self._segmenter = Segmenter(rules, window, first * window, before or Before())
        self._window = window
        self._vad = vad
        self._limit = max(1, samples(detect_limit_ms) // window)
        self._state: object | None = None
        self._requested = first  # windows sent to the detector
        self._energies: deque[float] = deque()  # of the windows requested and not yet taken by step()
        self._leveller = None if level_db is None else Leveller(level_db, window, loudest)
        self._heights: deque[Loudest] = deque()  # how loud the stream was with each of these windows, where it matters
        self._loudest = loudest  # with the last window that the segmenter has seen
        self._probabilities: deque[float] = deque()
        self._newest = 0.0
        self._stepped = first  # windows given to the segmenter
        self._flushes: deque[int] = deque()  # where to close whatever is open, once its whole windows were seen
        self.ended = False

    @property
    def received(self) -> int:
        """Samples heard."""
        return self._audio.end

    @property
    def position(self) -> int:
        """Samples that the segmenter has seen."""
        return min(self._stepped * self._window, self.received)

    @property
    def safe_until(self) -> int:
        """Samples before this index belong to no segment that is still to open."""
        return self.received if self.done else min(self._segmenter.safe_until, self.position)

    @property
    def done(self) -> bool:
        """Whether the stream has ended and every boundary was reported."""
        return self.ended and not self._flushes and self._stepped == self._windows

    def hear(self, chunk: Samples) -> None:
        """Add samples of any number.

        Raises:
            BadAudio: not one-dimensional float32, not finite, or after the end.
        """
        if self.ended:
            raise BadAudio("audio came after the end of the stream; begin a new session for it")
        if chunk.ndim != 1 or chunk.dtype != np.float32:
            raise BadAudio(f"audio must be mono float32 of shape (samples,), not {chunk.dtype} of shape {chunk.shape}")
        if not np.isfinite(chunk).all():
            raise BadAudio("audio holds NaN or infinite samples")
        self._audio.append(chunk)

    def flush(self) -> None:
        """Close whatever is open, at what was heard last, once all whole windows of it were seen."""
        # Asked again at the same place it would close nothing more, but could be asked for ever.
        if not self.ended and (not self._flushes or self._flushes[-1] < self.received):
            self._flushes.append(self.received)

    def end(self) -> None:
        """Hear no more: the last window is filled with silence, then all is closed."""
        if not self.ended:
            self.ended = True
            self._flushes.append(self._windows * self._window)

    def detect(self) -> Detect | None:
        """Return the next windows to detect speech in; the caller keeps one request under way at a time."""
        count = min(self._windows - self._requested, self._limit)
        if count <= 0:
            return None
        start = self._requested * self._window
        heard = self._audio.copy(start, min(start + count * self._window, self.received))
        windows = np.zeros((count, self._window), np.float32)
        windows.reshape(-1)[: len(heard)] = heard
        self._requested += count
        energies = np.square(windows, dtype=np.float64).mean(axis=1).tolist()
        self._energies.extend(energies)
        if self._leveller is not None:
            windows = self._levelled(self._leveller, windows, energies)
        return Detect(self._vad, windows, self._state)

    def _levelled(self, leveller: Leveller, windows: Samples, energies: Sequence[float]) -> Samples:
        """Return the newest windows ``(count, window)`` for the detector, and keep how loud the stream was with each.

        What is heard again counts already.
        """
        first = self._requested - len(windows)
        for number, energy in enumerate(energies, start=first):
            again = (number + 1) * self._window <= self._heard_before
            self._heights.append(leveller.loudest if again else leveller.hear(energy))
        newest = list(self._heights)[-len(windows) :]
        return np.stack([leveller.raised(window, height) for window, height in zip(windows, newest, strict=True)])

    def detected(self, request: Detect, detection: Detection) -> None:
        """Take the answer to ``request``."""
        if len(detection.probabilities) != len(request.windows):
            raise ValueError(f"{len(detection.probabilities)} probabilities for {len(request.windows)} windows")
        self._state = detection.state
        self._probabilities.extend(detection.probabilities)
        if detection.probabilities:
            self._newest = detection.probabilities[-1]

    def undetected(self, request: Detect) -> None:
        """Go on without an answer to ``request``: whoever spoke goes on speaking, silence stays silence.

        The detector begins anew: what it remembers may be what is wrong.
        """
        self._state = None
        self._probabilities.extend([self._newest] * len(request.windows))

    def step(self) -> list[Boundary] | None:
        """Let the segmenter see one window more, or close by order; ``None`` when it must wait."""
        if self._flushes and self._flushes[0] // self._window == self._stepped:
            beyond = self._flushes.popleft() % self._window
            return self._within(self._segmenter.flush(beyond))
        if not self._probabilities:
            return None
        self._stepped += 1
        if self._heights:
            self._loudest = self._heights.popleft()
        return self._within(self._segmenter.feed(self._probabilities.popleft(), self._energies.popleft()))

    def divide(self, moment: int, first: int, last: int) -> list[Boundary]:
        """Cut the open segment in ``[first, last]``, near ``moment``, where it is quiet, or nowhere."""
        return self._segmenter.divide(moment, first, last)

    @property
    def known(self) -> int:
        """Of the samples before this index all boundaries are decided on."""
        return self._segmenter.known

    @property
    def loudest(self) -> Loudest:
        """How loud the stream was, as of what the segmenter has seen."""
        return self._loudest

    @property
    def gain(self) -> float:
        """What a segment that begins now is to be multiplied by for the model."""
        return 1.0 if self._leveller is None else self._leveller.gain(self._loudest)

    @property
    def earliest(self) -> int:
        """Samples before this index belong to no segment that is still to open, whatever is heard of them again."""
        return self._segmenter.earliest

    @property
    def onset(self) -> int | None:
        """Where speech begins in the open segment."""
        return self._segmenter.onset

    @property
    def voiced(self) -> int:
        """Samples of speech so far, as the segmenter saw them."""
        return self._segmenter.voiced

    @property
    def pause(self) -> int:
        """Samples since somebody last spoke in the open segment."""
        return self._segmenter.pause

    def audio(self, start: int, end: int, gain: float = 1.0) -> Samples:
        """Return a copy of samples ``[start, end)``, ``gain`` times as loud."""
        return raised(self._audio.copy(start, end), gain)

    def forget(self, before: int) -> None:
        """Drop audio before ``before``, as far as the detector and a coming segment don't need it."""
        self._audio.forget(min(before, self.safe_until, self._requested * self._window))

    @property
    def _windows(self) -> int:
        """Windows that can be detected: whole ones, and at the end the last one begun."""
        return -(-self.received // self._window) if self.ended else self.received // self._window

    def _within(self, boundaries: list[Boundary]) -> list[Boundary]:
        # the silence that fills the last window is no part of the stream
        return [
            Closed(min(boundary.end, self.received), boundary.reason) if isinstance(boundary, Closed) else boundary
            for boundary in boundaries
        ]
