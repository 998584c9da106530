"""Texts with times in the forms that players and tables read: SubRip, WebVTT, tab-separated values, plain text.

Law: the cues hold every word of the captions, in order, in lines of at most :data:`LINE_WIDTH` columns; cues don't
overlap, each ends after it starts, and stays as long as it takes to read wherever there is room.

The numbers are those that broadcasters and streaming services agree on: two lines of 42 columns, 17 columns a second,
five sixths of a second at least and seven seconds at most, two frames between cues.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from streamtrans.core import Caption, milliseconds

LINE_WIDTH = 42
"""Columns per line; a Chinese character takes two, and a longer word stays whole."""

CUE_LINES = 2
"""Lines shown at once; a caption of more becomes several cues."""

READING_SPEED = 17
"""Columns that are read in a second. Larger: cues end earlier."""

MIN_MS, MAX_MS, GAP_MS = 833, 7_000, 80
"""How long a cue stays at least and at most, and how long nothing is shown before the next."""

_MERGE_MS = 300
"""A pause up to which a cue that is too short to be read joins its neighbour."""

_SHORT = 20
"""Columns below which a cue looks lost."""

_CLOSING = frozenset(",.;:!?)]}»”’%，。；：！？、）】》」』…")
"""Characters that no line may begin with."""

_SENTENCE_ENDS, _PAUSES = (".", "!", "?", "…", "。", "！", "？"), (",", ";", ":", "，", "；", "：", "、", "–", "—")


@dataclass(frozen=True, slots=True)
class Timed:
    """A word and when it is said, in milliseconds."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in milliseconds; where ``words`` are known, when each word of it is said.

    Texts of different speakers share no line.
    """

    start_ms: int
    end_ms: int
    text: str
    words: tuple[Timed, ...] = ()
    speaker: str = ""


def cue(caption: Caption, most: int | None = None) -> Cue:
    """Return a final caption as a cue that ends with the audio, which has ``most`` samples."""
    end = caption.end if most is None else min(caption.end, most)
    words = tuple(
        Timed(word.text, milliseconds(word.start), milliseconds(word.end))
        for word in caption.words
        if word.start is not None and word.end is not None
    )
    text = caption.text + ("" if caption.complete else " […]")
    return Cue(milliseconds(caption.start), milliseconds(end), text, words)


def srt(captions: Iterable[Cue]) -> str:
    """Return a SubRip file: numbered cues, comma before the milliseconds."""
    return srt_cues(split(captions))


def srt_cues(cues: Iterable[Cue], first: int = 1) -> str:
    """Return what a SubRip file says of cues that can be read as they are, numbered from ``first`` on."""
    return "".join(
        f"{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n{_arrowless(cue.text)}\n\n"
        for number, cue in enumerate(cues, first)
    )


def vtt(captions: Iterable[Cue]) -> str:
    """Return a WebVTT file (https://www.w3.org/TR/webvtt1/): ampersand and angle brackets are escaped."""
    return "WEBVTT\n\n" + vtt_cues(split(captions))


def vtt_cues(cues: Iterable[Cue]) -> str:
    """Return what a WebVTT file says of cues that can be read as they are."""
    return "".join(f"{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}\n{_escape(cue.text)}\n\n" for cue in cues)


def tsv(captions: Iterable[Cue]) -> str:
    """Return a table: start and end in milliseconds, text; a line for each caption, under the names of the columns."""
    lines = [f"{cue.start_ms}\t{cue.end_ms}\t{' '.join(_clean(cue.text).split())}\n" for cue in captions]
    return "start\tend\ttext\n" + "".join(lines)


def txt(captions: Iterable[Cue]) -> str:
    """Return the text alone, a line for each sentence that the model marked, or else for each caption."""
    return "".join(f"{line}\n" for cue in captions for line in _sentences(cue.text))


FORMATS: dict[str, Callable[[Iterable[Cue]], str]] = {"srt": srt, "vtt": vtt, "tsv": tsv, "txt": txt}
"""Extension → writer."""


def split(captions: Iterable[Cue]) -> list[Cue]:
    """Make of captions, which may be long, cues that can be read; empty ones are left out."""
    merged = _merged([cue for caption in captions for cue in _cut(caption)])
    return _spaced([replace(cue, text="\n".join(_lines(cue.text))) for cue in merged])


def wrap(text: str, columns: int = LINE_WIDTH) -> list[str]:
    """Break ``text`` into lines: between words, and between Chinese characters; what is added later moves nothing."""
    return _fill(list(_pieces(text)), columns)


@lru_cache(maxsize=256)  # whoever writes while people speak asks for the newest captions again and again
def _cut(caption: Cue) -> tuple[Cue, ...]:
    return tuple(_cues(caption))


def _cues(caption: Cue) -> Iterator[Cue]:
    """Cut a caption where it costs least: after sentences rather than clauses, and into few and even cues.

    Their lines aren't laid out yet; a cue that begins with a break follows the mark of a sentence.
    """
    pieces: list[str] = []
    for sentence in _sentences(caption.text):
        first, *rest = _pieces(sentence)
        pieces += ["\n" + first if pieces else first, *rest]
    # best[n]: what the first n pieces cost at least, and where the last of their cues begins
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(pieces) + 1):
        best.append((float("inf"), stop - 1))
        for start in range(stop - 1, -1, -1):
            lines = _lines("".join(pieces[start:stop]))
            if len(lines) > CUE_LINES and stop - start > 1:
                break
            ended = stop == len(pieces) or pieces[stop].startswith("\n")
            cost = best[start][0] + _cost(lines, pieces[stop - 1].rstrip(), ended=ended)
            if cost < best[stop][0]:
                best[stop] = (cost, start)
    cuts = [len(pieces)]
    while cuts[-1] > 0:
        cuts.append(best[cuts[-1]][1])
    cuts.reverse()
    yield from _share(caption, ["".join(pieces[start:stop]) for start, stop in pairwise(cuts)])


def _cost(lines: Sequence[str], last: str, *, ended: bool) -> float:
    """Return what a cue of these lines, whose last word is ``last``, costs the reader."""
    width = sum(map(_width, lines))
    pause = 0.0 if ended or last.endswith(_SENTENCE_ENDS) else 1.0 if last.endswith(_PAUSES) else 2.0
    return 1.0 + pause + 2 * max(0.0, 1 - width / _SHORT) + max(0.0, width / LINE_WIDTH / CUE_LINES - 0.8)


def _lines(text: str) -> list[str]:
    """Lay out what is between marks of sentences: in as few lines as it takes, of lengths as even as may be."""
    lines: list[str] = []
    for sentence in text.strip("\n").split("\n"):
        broken = _fill(list(_pieces(sentence)))
        lines += _even(sentence) if len(broken) == CUE_LINES else broken
    return lines


def _even(text: str) -> list[str]:
    """Break ``text`` once: near its middle, or after a mark that isn't much farther."""
    pieces = list(_pieces(text))
    halves = [["".join(pieces[:at]).strip(), "".join(pieces[at:]).strip()] for at in range(1, len(pieces))]
    fitting = [half for half in halves if max(map(_width, half)) <= LINE_WIDTH] or halves

    def oddness(half: list[str]) -> int:
        bonus = LINE_WIDTH // 3 if half[0].endswith(_SENTENCE_ENDS + _PAUSES) else 0
        return abs(_width(half[0]) - _width(half[1])) - bonus

    return min(fitting, key=oddness)


def _fill(pieces: Sequence[str], columns: int = LINE_WIDTH) -> list[str]:
    lines: list[str] = []
    line = ""
    for piece in pieces:
        if line.strip() and _width((line + piece).rstrip()) > columns:
            lines.append(line.strip())
            line = piece
        else:
            line += piece
    return [*lines, line.strip()] if line.strip() else lines


def _share(caption: Cue, texts: Sequence[str]) -> Iterator[Cue]:
    """Divide a caption's time among ``texts``: by its words, else by their width; each gets a millisecond at least."""
    sizes = [len("".join(text.split())) for text in texts]
    places = _places(caption)
    total = sum(_width(text) for text in texts)
    end_ms = max(caption.end_ms, caption.start_ms + len(texts))
    start_ms, shown, letters = caption.start_ms, 0, 0
    for left, text, size in zip(range(len(texts) - 1, -1, -1), texts, sizes, strict=True):
        shown, letters = shown + _width(text), letters + size
        until_ms = caption.start_ms + round((end_ms - caption.start_ms) * shown / total)
        if places and left:
            until_ms = places[letters]
        until_ms = min(max(until_ms, start_ms + 1), end_ms - left)
        yield Cue(start_ms, until_ms, text, speaker=caption.speaker)
        start_ms = until_ms


def _places(caption: Cue) -> list[int]:
    """Return for each number of letters until when they are said; nothing where words don't spell the text."""
    places = [caption.start_ms]
    for word in caption.words:
        places += [word.end_ms] * len("".join(word.text.split()))
    return places if len(places) == 1 + len("".join(caption.text.split())) else []


def _merged(cues: Sequence[Cue]) -> list[Cue]:
    """Join cues that are too short to be read with a neighbour, where both are two lines at most."""
    merged: list[Cue] = []
    for cue in cues:
        before = merged[-1] if merged else None
        if before is not None and min(_lasts(before, cue.start_ms), _lasts(cue)) < MIN_MS:
            joint = "" if _wide(before.text[-1]) or _wide(cue.text[0]) or cue.text[0] == "\n" else " "
            joint = joint if cue.speaker == before.speaker else "\n"
            text = before.text + joint + cue.text
            near = cue.start_ms - before.end_ms <= _MERGE_MS and cue.end_ms - before.start_ms <= MAX_MS
            if near and len(_lines(text)) <= CUE_LINES:
                merged[-1] = replace(before, end_ms=cue.end_ms, text=text, speaker=cue.speaker)
                continue
        merged.append(cue)
    return merged


def _lasts(cue: Cue, next_ms: int | None = None) -> int:
    """Return how long a cue can stay, as far as the next lets it."""
    return (max(cue.end_ms, next_ms - GAP_MS) if next_ms is not None else cue.end_ms) - cue.start_ms


def _spaced(cues: Sequence[Cue]) -> list[Cue]:
    """Let cues stay until they are read, but not into the next, nor for ever."""
    spaced = []
    for at, cue in enumerate(cues):
        reading_ms = max(MIN_MS, _width(cue.text) * 1000 // READING_SPEED)
        end_ms = min(max(cue.end_ms, cue.start_ms + reading_ms), cue.start_ms + max(MAX_MS, reading_ms))
        if at + 1 < len(cues):
            next_ms = cues[at + 1].start_ms
            end_ms = min(end_ms, max(next_ms - GAP_MS, (cue.start_ms + next_ms + 1) // 2))
        spaced.append(replace(cue, end_ms=max(end_ms, cue.start_ms + 1)))
    return spaced


def _sentences(text: str) -> list[str]:
    """Return what stands between the marks of sentences that a model writes: breaks of lines."""
    return [clean for line in text.splitlines() if (clean := " ".join(_clean(line).split()))]


def _clean(text: str) -> str:
    return "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)


def _pieces(text: str) -> Iterator[str]:
    """Yield what stays together: a word with its space, or one wide character with what closes it."""
    piece = ""
    for character in " ".join(_clean(text).split()):
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
    """Columns of a text; marks that stand above or below a letter take none."""
    return sum(1 + _wide(each) for each in text if unicodedata.category(each) not in ("Mn", "Me", "Cf", "Cc"))


def _arrowless(text: str) -> str:
    """SubRip has no escapes; an arrow would be taken for a line of times."""
    return text.replace("-->", "→")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(ms: int, point: str) -> str:
    """Return hours, minutes, seconds and thousandths, with ``point`` before these: ``00:01:02.003``."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
