"""A stretch of speech whose final captions are not out yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from streamtrans.core import Caption, Doubt, Event, Hypothesis, Job, Reading, SpeechEnded, SpeechStarted
from streamtrans.stream.lines import Line
from streamtrans.stream.policies import Span


class Segment:
    """One that has lines to finish: what is said in each language, and how far it was read."""

    def __init__(self, number: int, start: int, lines: list[Line], *, fresh: bool, gain: float = 1.0) -> None:
        self.number = number
        self.start = start
        self.end: int | None = None
        self.lines = lines
        self.due = start  # end of the newest reading due or taken
        self.read_to = start
        self.credible = False  # whether there is enough speech in it to believe what is read
        self.needed = 0  # samples of speech from which it is
        self.gain = gain  # what its samples are multiplied by for the model
        self.fresh = fresh  # after silence: what the encoder remembers of before is of no use

    @property
    def open_lines(self) -> list[Line]:
        """The lines that have no final caption yet, what they are translated from first; none where nobody sees any."""
        lines = [line for line in self.lines if not line.closed]
        return sorted(lines, key=lambda line: line.translated) if any(not line.hidden for line in lines) else []

    @property
    def transcript(self) -> Line | None:
        """The open line that others are translated from, if there are such."""
        lines = [line for line in self.lines if not line.closed and not line.translated]
        return lines[0] if lines and any(line.translated for line in self.lines) else None

    @property
    def read_lines(self) -> list[Line]:
        """The lines to read: the open ones, and before them a closed transcript that some are translated from."""
        lines = self.open_lines
        behind = any(line.translated for line in lines)
        return [line for line in self.lines if behind and line.closed and not line.translated] + lines

    @property
    def promised_to(self) -> int:
        """End of the audio whose reading made the last promise in each of the lines that are open."""
        promised = [line.promised_at for line in self.open_lines]
        return min((self.start if at is None else at for at in promised), default=self.start)

    def line(self, language: str) -> Line | None:
        """Return the line in ``language``, if there is one."""
        return next((line for line in self.lines if line.language == language), None)

    def take(self, job: Job, reading: Reading | None, certain: int) -> list[Caption]:
        """Take what came of ``job``, ``None`` where nothing did; return what that shows.

        Audio from sample ``certain`` on may yet fall to the next segment. The translation of a transcript that is
        certainly wrong is as wrong.
        """
        span, captions = Span(job.segment, job.start, job.end), []
        hypotheses = reading.hypotheses if reading is not None else ()
        read = {target.language: said for target, said in zip(job.targets, hypotheses, strict=False)}
        transcript, wrong = self.transcript, self._wrong(read)
        for line in self.open_lines:  # languages may have come and gone since the job was taken
            hypothesis, caption = read.get(line.language), None
            if line.translated and hypothesis is not None and wrong is not None:
                hypothesis = replace(hypothesis, doubt=wrong)
            within = len(transcript.committed) if transcript is not None and line.translated else None
            if job.last:
                caption = line.finish(hypothesis, span, credible=self.credible, within=within)
            elif hypothesis is not None:
                caption = line.read(hypothesis, span, certain=certain, within=within)
            if caption is not None and not line.hidden:
                captions.append(caption)
        return captions

    def _wrong(self, read: Mapping[str, Hypothesis]) -> Doubt | None:
        """Return what is certainly wrong with the transcript that others are translated from, as it was read."""
        heard = (read[line.language].doubt for line in self.lines if not line.translated and line.language in read)
        return next((doubt for doubt in heard if doubt is not None and doubt.certain), None)

    def leave(self, targets: Sequence[str], heard: int) -> list[Caption]:
        """Close the lines of languages that aren't among ``targets`` any more, at sample ``heard``."""
        captions = []
        for line in self.open_lines:
            if line.language in targets:
                line.reveal()
            elif not line.hidden:
                closing = line.part() if line is self.transcript else line
                captions.append(closing.finish(None, Span(self.number, self.start, heard), credible=self.credible))
        return captions

    def hand_over(self, following: Segment) -> list[Event]:
        """Close the lines that saw a sentence end; what they said after it begins those of the segment ``following``.

        The translations of such a line end with it, where the newest reading gave one; the others wait for the last.
        """
        transcript = self.transcript
        source = None if transcript is None else transcript.ending
        closing: list[Event] = []
        carried: list[Event] = []
        span = Span(self.number, self.start, following.start)
        for line in self.open_lines:
            if line.translated and source is not None and line.believed_at == self.read_to:
                final, rest = line.finish_with(source, span)
            elif line.ending is not None:
                final, rest = line.finish_sentence(span)
            else:
                line.keep_until(following.start)
                continue
            onward = following.line(line.language)
            assert onward is not None, f"{line.language} is open and no target"
            shown = onward.carry(rest, Span(following.number, following.start, following.read_to))
            if line.hidden:
                continue
            if shown is not None:
                final = replace(final, moved=shown.text)
                carried.append(shown)
            closing.append(final)
        ended = SpeechEnded(self.number, following.start)
        begun = SpeechStarted(following.number, following.start, following.gain)
        return [ended, *closing, begun, *carried]
