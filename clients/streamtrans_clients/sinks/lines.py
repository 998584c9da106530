"""Captions as lines: two that roll, where a text can be replaced; or pieces that are given once, where it can't."""

from __future__ import annotations

from dataclasses import replace

from streamtrans.client import Caption, subtitles
from streamtrans_clients.boards import marked, printable

_Key = tuple[str, int]
"""Who speaks, and in which segment."""


class Roll:
    """The newest lines of everything said; a line, once broken, is broken there for good.

    Args:
        lines: shown at once.
        columns: of a line.
    """

    def __init__(self, lines: int, columns: int) -> None:
        self._lines = lines
        self._columns = columns
        self._done: list[str] = []
        self._open: dict[_Key, list[str]] = {}

    def show(self, caption: Caption, speaker: str) -> str:
        """Take a caption and return what is to be seen now, lines with breaks between."""
        lines = subtitles.wrap(named(marked(caption), speaker), self._columns)
        key = speaker, caption.segment
        if caption.final:
            self._open.pop(key, None)
            self._done = [*self._done, *lines][-self._lines :]
        else:
            self._open[key] = lines
        shown = [*self._done, *(line for lines in self._open.values() for line in lines)]
        return "\n".join(shown[-self._lines :])


class Pieces:
    """What is promised, in pieces of at most a line; all pieces together are the final texts, each word once.

    A line that may still grow waits until it is full or the segment is final.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._given: dict[_Key, int] = {}
        """Characters of an open segment that have been given out."""
        self._last = ""
        """Who spoke last."""

    def of(self, caption: Caption, speaker: str) -> list[str]:
        """Return what hasn't been given yet and can be; a name is put where another speaker goes on."""
        key = speaker, caption.segment
        said = " ".join(printable(caption.committed).split())
        rest = said[self._given.get(key, 0) :].lstrip()
        text = named(rest, speaker if speaker != self._last else "")
        lines = subtitles.wrap(text, self._columns)
        whole = lines if caption.final else lines[:-1]
        end = 0
        for line in whole:
            end = text.index(line, end) + len(line)
        left = min(len(text) - end, len(rest))
        if left == len(rest):
            whole = []  # a name alone, and nothing said
        self._given[key] = len(said) - left
        if caption.final:
            del self._given[key]
        if whole:
            self._last = speaker
        return whole


def cue(caption: Caption, speaker: str) -> subtitles.Cue:
    """Return a final caption as players want it, behind the name of who says it."""
    made = subtitles.cue(caption)
    return replace(made, text=named(made.text, speaker), speaker=speaker)


def named(text: str, speaker: str) -> str:
    """Return ``text`` behind the name of who says it, where there are both."""
    name = " ".join(printable(speaker).split())
    return f"{name}: {text}" if name and text else text
