"""Probabilities become segments: hysteresis, pre-roll, padding, and a cut where speech never pauses.

Law: the boundaries follow from the windows alone; segments are ordered, disjoint, inside of what was heard,
and no longer than ``max_segment_ms``::

    probability   ▁▁▁▂▆▇█▇▅▇▆▂▁▁▁▁▁▁▁▁
    segment         [----onset....end--]
                     pre-roll      padding, then silence until min_silence_ms is over
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamtrans.core import BadAudio, BadConfig, milliseconds, samples
from streamtrans.segment.rules import EndpointRules

Reason: TypeAlias = Literal["silence", "length", "sentence", "forced"]
"""Why a segment closed: speech paused, it was cut at its maximum length or where a sentence ended, or somebody asked
for it."""


_DISTANCE = 0.15
"""Decibels that a window must be quieter to be preferred to one a millisecond nearer to the end of a sentence."""
_FLOOR = 1e-9
"""Energy of what counts as silence: below -90 dB one window is as quiet as another."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment begins at sample ``start``, which lies in the past by onset and pre-roll."""

    start: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The open segment ends before sample ``end`` of the audio heard: a window boundary, unless it was forced."""

    end: int
    reason: Reason


Boundary: TypeAlias = Opened | Closed


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of a stream that a new segmenter goes on with; some of it is heard again.

    Of the samples before ``known`` all boundaries were found; none before ``earliest`` belongs to a segment that is
    still to open; ``opened`` are start and onset of the segment that is open.
    """

    known: int = 0
    earliest: int = 0
    opened: tuple[int, int] | None = None


_NOTHING = Before()


@dataclass(slots=True)
class _Open:
    """The open segment: its first sample, where it may first be cut, the end of its last window of speech."""

    start: int
    onset: int
    speech_end: int


class Segmenter:
    """Decide window by window where segments begin and end; one object per stream.

    ``Opened`` and ``Closed`` alternate. After ``Closed(end, "length")`` the next segment opens exactly at
    ``end``, and the windows already heard beyond it count for it.

    Args:
        rules: thresholds and durations.
        window: samples per window, as the detector has it.
        heard: where the stream is taken up: a multiple of ``window``.
        before: what is known of it then.

    Raises:
        BadConfig: the rules leave no room for windows of this size.
    """

    def __init__(self, rules: EndpointRules, window: int, heard: int = 0, before: Before = _NOTHING) -> None:
        """Begin a stream, or go on with one."""
        if window < 1:
            raise BadConfig(f"a window has at least one sample; got {window}")
        self.rules = rules
        self.window = window
        self._needed = max(1, math.ceil(samples(rules.min_speech_ms) / window))
        self._min_silence = samples(rules.min_silence_ms)
        self._padding = math.ceil(samples(rules.padding_ms) / window) * window
        self._pre_roll = samples(rules.pre_roll_ms)
        self._reach = samples(rules.onset_reach_ms) // window * window
        self._max_length = samples(rules.max_segment_ms)
        self._search = samples(rules.cut_search_ms) // window
        # One window in three may dip below the threshold while an onset builds up.
        onset = self._needed + self._needed // 3
        # Where segments are short there is less room for what comes before the speech.
        self._head = min(samples(rules.head_ms), self._max_length - self._check(onset))
        self._count = heard // window
        self._known = before.known  # before it nothing is decided anew
        self._voiced = 0
        self._speaking = False
        self._open = _Open(*before.opened, speech_end=before.opened[0]) if before.opened is not None else None
        self._earliest = max(before.earliest, heard)  # end of the last segment: nothing before it can be used again
        self._doubtful = heard  # where the newest run of windows that may belong to an onset began
        self._recent: deque[int | None] = deque(maxlen=onset)  # where speech that began with this window would start
        self._energies: deque[float] = deque(maxlen=self._search + 1)
        self._sure: deque[bool] = deque(maxlen=self._search + 1)  # whether these windows were speech beyond doubt

    def _check(self, onset: int) -> int:
        """Return the samples that a segment must have room for."""
        ms = milliseconds(self.window)
        if self._search < 3:
            raise BadConfig(f"cut_search_ms must span at least three windows of {ms} ms")
        shortest = self._pre_roll + self._reach + (onset + 1) * self.window
        if self._max_length < shortest:
            raise BadConfig(
                f"max_segment_ms ({self.rules.max_segment_ms}) must have room for pre-roll, onset (with its "
                f"reach back) and one window more: at least {milliseconds(shortest - 1) + 1} ms"
            )
        return shortest

    @property
    def heard(self) -> int:
        """Samples fed so far: the end of the last window."""
        return self._count * self.window

    @property
    def safe_until(self) -> int:
        """Samples before this index belong to no segment that is open or still to come; it never sinks."""
        if self._open is not None:
            return self._open.start
        return self._start_of(self._onset())

    def feed(self, probability: float, energy: float) -> list[Boundary]:
        """Take the next window: its speech probability, and the mean square of its samples.

        Raises:
            BadAudio: the probability is outside of [0, 1], or the energy isn't a number of zero or more.
        """
        if not (0 <= probability <= 1 and 0 <= energy < math.inf):
            raise BadAudio(
                f"window {self._count}: a probability in [0, 1] and a finite energy of 0 or more are needed; "
                f"got {probability} and {energy}"
            )
        reached = self._reached()
        self._count += 1
        self._energies.append(energy)
        if probability >= self.rules.threshold:
            self._speaking = True
        elif probability < self.rules.release_threshold:
            self._speaking = False
        self._sure.append(probability >= self.rules.sure_threshold)
        self._voiced += self._sure[-1]
        if probability < self.rules.onset_threshold:
            self._doubtful = self.heard
        if self.heard <= self._known:
            return self._recall(reached)
        if self._open is None:
            return self._await_onset(reached)
        return self._follow(self._open)

    @property
    def known(self) -> int:
        """Of the samples before all boundaries are decided on."""
        return max(self._known, self.heard)

    @property
    def earliest(self) -> int:
        """Nothing before this sample belongs to a segment that is still to open."""
        return self._earliest

    @property
    def onset(self) -> int | None:
        """Where speech begins in the open segment."""
        return None if self._open is None else self._open.onset

    @property
    def pause(self) -> int:
        """Samples since the last window of speech in the open segment; 0 while there is speech, or no segment."""
        return 0 if self._open is None else self.heard - self._open.speech_end

    @property
    def voiced(self) -> int:
        """Samples of the open segment, its onset included, that were speech beyond doubt."""
        return self._voiced * self.window

    def divide(self, moment: int, first: int, last: int) -> list[Boundary]:
        """Cut the open segment in ``[first, last]``, where it is quiet and near ``moment``.

        Nothing happens, and nothing is returned, where speech has paused since, no window lies there that is still
        known, or it is not quieter than elsewhere: words of one sentence run into each other, sentences less often.
        """
        segment = self._open
        if segment is None:
            return []
        around = sum(self._energies) / len(self._energies)
        quiet = around * 10 ** (-self.rules.sentence_dip_db / 10)
        places = [
            (10 * math.log10(energy + _FLOOR) + abs(end - moment) / samples(1) * _DISTANCE, end)
            for end, energy in self._windows()
            if first <= end <= last and segment.onset < end < segment.speech_end and energy <= quiet
        ]
        if not places:
            return []
        cut = min(places)[1]
        return self._cut(cut, segment, "sentence")

    def flush(self, beyond: int = 0) -> list[Boundary]:
        """Close what is open, or what was about to open, at the end of the audio heard.

        Args:
            beyond: samples of the window that has begun, which belong to what ends here.

        Feeding may go on: a new utterance begins, and no later segment reaches back before this point.
        """
        boundaries: list[Boundary] = []
        if self.heard + beyond <= self._known:
            return boundaries  # it was asked before
        if self._open is None and any(onset is not None for onset in self._recent):
            boundaries.append(self._begin(self._start_of(self._onset())))
        if self._open is not None:
            boundaries.append(self._close(self.heard + beyond, "forced"))
        # What comes next is a new utterance, for which this one's windows must not count.
        self._recent.clear()
        self._speaking = False
        self._earliest = max(self._earliest, self.heard + beyond)
        return boundaries

    def _recall(self, reached: int) -> list[Boundary]:
        """Hear again what was decided on."""
        segment = self._open
        if segment is None and self.heard > self._earliest:
            return self._await_onset(reached)
        if segment is None:
            self._speaking = False
        elif self._speaking and self.heard > segment.start:
            segment.speech_end = self.heard
        if segment is None or self.heard <= segment.onset:
            self._voiced = 0
        return []

    def _await_onset(self, reached: int) -> list[Boundary]:
        self._recent.append(reached if self._speaking else None)
        if all(onset is None for onset in self._recent):
            self._voiced = 0  # single windows that no segment opened with say nothing of the next one
        if not self._speaking or sum(onset is not None for onset in self._recent) < self._needed:
            return []
        return [self._begin(self._start_of(self._onset()))]

    def _follow(self, segment: _Open) -> list[Boundary]:
        """Close the open segment after enough silence, or cut it before the next window would be too much."""
        if self._speaking:
            segment.speech_end = self.heard
        elif self.heard - segment.speech_end >= self._min_silence:
            return [self._close_in_silence(segment)]
        if self.heard + self.window - segment.start <= self._max_length:
            return []
        cut = self._quietest(segment)
        if cut >= segment.speech_end:
            # Only silence would be left for the next segment: it has no reason to exist.
            return [self._close_in_silence(segment)]
        return self._cut(cut, segment, "length")

    def _cut(self, cut: int, segment: _Open, reason: Reason) -> list[Boundary]:
        """End the open segment within speech; the windows beyond belong to the next one."""
        closed = self._close(cut, reason)
        self._open = _Open(cut, cut, segment.speech_end)
        beyond = (self.heard - cut) // self.window
        self._voiced = sum(list(self._sure)[len(self._sure) - beyond :])
        return [closed, Opened(cut)]

    def _begin(self, start: int) -> Opened:
        # Not inside of the pre-roll: what is cut off there would hold no speech.
        self._open = _Open(start, self._onset(), self.heard)
        return Opened(start)

    def _close_in_silence(self, segment: _Open) -> Closed:
        return self._close(min(segment.speech_end + self._padding, self.heard), "silence")

    def _close(self, end: int, reason: Reason) -> Closed:
        self._open = None
        self._voiced = 0
        self._earliest = end
        self._recent.clear()
        return Closed(end, reason)

    def _onset(self) -> int:
        """Return where speech begins: with the earliest window that an onset may count, or with the next one."""
        return next((onset for onset in self._recent if onset is not None), self._reached())

    def _reached(self) -> int:
        """Return where speech would begin whose first certain window is the next one."""
        return max(self._doubtful, self.heard - self._reach, self._earliest)

    def _start_of(self, onset: int) -> int:
        start = onset - self._pre_roll
        if start <= self._head:
            start = 0
        return max(start, self._earliest)

    def _windows(self) -> list[tuple[int, float]]:
        """Return the end and the energy of the windows of the search span; the last one, half heard, is left out."""
        oldest = self._count - len(self._energies)
        return [((oldest + at + 1) * self.window, energy) for at, energy in enumerate(self._energies)][:-1]

    def _quietest(self, segment: _Open) -> int:
        """Return the end of the quietest window of the search span, not before the onset of ``segment``.

        A window is as loud as itself, counted twice, and its two neighbours; of equals the latest wins. The
        last window, whose neighbour isn't heard yet, is left out: the next segment has heard something.
        """
        recent = list(self._energies)
        first = self._count - len(recent)  # the window that ``recent[0]`` belongs to
        best, cut = math.inf, 0
        for i in range(1, len(recent) - 1):
            loudness = recent[i - 1] + 2 * recent[i] + recent[i + 1]
            if (first + i) * self.window >= segment.onset and loudness <= best:
                best, cut = loudness, (first + i + 1) * self.window
        return cut
