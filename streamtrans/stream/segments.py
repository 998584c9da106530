"""A stretch of speech whose final captions are not out yet."""

from __future__ import annotations

from streamtrans.stream.lines import Line


class Segment:
    """One that has lines to finish: what is said in each language, and how far it was read."""

    def __init__(self, number: int, start: int, lines: list[Line], *, fresh: bool) -> None:
        self.number = number
        self.start = start
        self.end: int | None = None
        self.lines = lines
        self.due = start  # end of the newest reading due or taken
        self.read_to = start
        self.credible = False  # whether there is enough speech in it to believe what is read
        self.needed = 0  # samples of speech from which it is
        self.fresh = fresh  # after silence: what the encoder remembers of before is of no use

    @property
    def open_lines(self) -> list[Line]:
        """The lines that have no final caption yet."""
        return [line for line in self.lines if not line.closed]

    @property
    def promised_to(self) -> int:
        """End of the audio whose reading made the last promise in each of the lines that are open."""
        promised = [line.promised_at for line in self.open_lines]
        return min((self.start if at is None else at for at in promised), default=self.start)

    def line(self, language: str) -> Line | None:
        """Return the line in ``language``, if there is one."""
        return next((line for line in self.lines if line.language == language), None)
