"""Subtitle files: SubRip (.srt) and WebVTT (.vtt).

Law: the cues hold every word of the captions, in order, in lines of at most :data:`LINE_WIDTH` columns; each
cue ends after it starts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

LINE_WIDTH = 42
"""Columns per line, as broadcasters do; a Chinese character takes two, and a longer word stays whole."""

CUE_LINES = 2
"""Lines shown at once; a caption of more becomes several cues, which share its time by their length."""

_CLOSING = frozenset(",.;:!?)]}»”’%，。；：！？、）】》」』…")
"""Characters that no line may begin with."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in milliseconds."""

    start_ms: int
    end_ms: int
    text: str


def srt(captions: Iterable[Cue]) -> str:
    """Return a SubRip file: numbered cues, comma before the milliseconds."""
    return "".join(
        f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n{_arrowless(cue.text)}\n\n"
        for number, cue in enumerate(split(captions), start=1)
    )


def vtt(captions: Iterable[Cue]) -> str:
    """Return a WebVTT file (https://www.w3.org/TR/webvtt1/): ampersand and angle brackets are escaped."""
    cues = "".join(
        f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{_escape(cue.text)}\n\n" for cue in split(captions)
    )
    return "WEBVTT\n\n" + cues


FORMATS: dict[str, Callable[[Iterable[Cue]], str]] = {"srt": srt, "vtt": vtt}
"""Extension → writer."""


def split(captions: Iterable[Cue]) -> Iterator[Cue]:
    """Cut captions that are too long into cues of :data:`CUE_LINES` lines; empty ones are left out."""
    for caption in captions:
        lines = wrap(caption.text)
        texts = ["\n".join(lines[at : at + CUE_LINES]) for at in range(0, len(lines), CUE_LINES)]
        yield from _share(caption, texts)


def wrap(text: str) -> list[str]:
    """Break ``text`` into lines: between words, and between Chinese characters."""
    lines: list[str] = []
    line = ""
    for piece in _pieces(text):
        if line.strip() and _width((line + piece).rstrip()) > LINE_WIDTH:
            lines.append(line.strip())
            line = piece
        else:
            line += piece
    return [*lines, line.strip()] if line.strip() else lines


def _share(caption: Cue, texts: Sequence[str]) -> Iterator[Cue]:
    """Divide a caption's time among ``texts`` by their width; every one gets a millisecond at least."""
    total = sum(_width(text) for text in texts)
    end_ms = max(caption.end_ms, caption.start_ms + len(texts))
    start_ms, shown = caption.start_ms, 0
    for left, text in zip(range(len(texts) - 1, -1, -1), texts, strict=True):
        shown += _width(text)
        until_ms = caption.start_ms + round((end_ms - caption.start_ms) * shown / total)
        until_ms = min(max(until_ms, start_ms + 1), end_ms - left)
        yield Cue(start_ms, until_ms, text)
        start_ms = until_ms


def _pieces(text: str) -> Iterator[str]:
    """Yield what stays together: a word with its space, or one wide character with what closes it."""
    piece = ""
    clean = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    for character in " ".join(clean.split()):
        joins = character.isspace() or character in _CLOSING
        if piece and not joins and (piece[-1].isspace() or _wide(character) or _wide(piece[-1])):
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _width(text: str) -> int:
    return sum(1 + _wide(character) for character in text)


def _arrowless(text: str) -> str:
    """SubRip has no escapes; an arrow would be taken for a line of times."""
    return text.replace("-->", "→")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
