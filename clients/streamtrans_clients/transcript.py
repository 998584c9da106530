"""What was said, as it stays: final captions by language, kept for files, and how much was taken back on the way.

Law: a file holds each final text once, in the order in which it was said, at its place in the whole recording, however
many streams it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from streamtrans.client import Caption, subtitles


class SaveError(Exception):
    """Captions can't be saved; the message says why."""


class Transcript:
    """The captions of one sitting; it may take several streams, one after the other."""

    def __init__(self) -> None:
        self._finals: dict[str, list[Caption]] = {}
        self._shown: dict[tuple[int, str], list[str]] = {}
        self._unspaced: frozenset[str] = frozenset()
        self._offset = self._end = 0
        self._withdrawn = self._words = 0

    def begin(self, unspaced: Sequence[str] = ()) -> None:
        """Let a new stream follow what was said so far; ``unspaced`` languages are counted in characters."""
        self._offset = self._end
        self._unspaced = frozenset(unspaced)
        self._shown.clear()

    def take(self, caption: Caption) -> Caption:
        """Keep a caption; return it with its times in the whole recording."""
        units = self._units(caption)
        key = caption.segment, caption.language
        before = self._shown.pop(key, [])
        same = next((at for at, (old, new) in enumerate(zip(before, units, strict=False)) if old != new), None)
        self._withdrawn += max(0, len(before) - (min(len(before), len(units)) if same is None else same))
        moved = replace(
            caption,
            start=caption.start + self._offset,
            end=caption.end + self._offset,
            heard=caption.heard + self._offset,
        )
        self._end = max(self._end, moved.end, moved.heard)
        if not caption.final:
            self._shown[key] = units
        elif caption.text.strip():
            self._words += len(units)
            self._finals.setdefault(caption.language, []).append(moved)
        return moved

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that something was written in."""
        return tuple(self._finals)

    def finals(self, language: str) -> Sequence[Caption]:
        """Return the final captions in ``language``."""
        return self._finals.get(language, [])

    @property
    def erasure(self) -> float:
        """Words withdrawn per word of final text; characters in languages written without spaces."""
        return self._withdrawn / self._words if self._words else 0.0

    def save(self, path: Path) -> list[Path]:
        """Write ``path`` in the format of its ending; of several languages each gets a file, ``talk.de.srt``.

        Raises:
            SaveError: no such format, nothing was said, the file is there already, or can't be written.
        """
        if path.suffix.lower() not in FORMATS:
            raise SaveError(f"{path}: give a name that ends in {', '.join(FORMATS)}")
        if not self._finals:
            raise SaveError("nothing was said yet that could be saved")
        many = len(self._finals) > 1
        files = {path.with_suffix(f".{code}{path.suffix}") if many else path: code for code in self._finals}
        for file, language in files.items():
            write = FORMATS[path.suffix.lower()]
            try:
                with file.open("x", encoding="utf-8") as open_file:
                    open_file.write(write(map(subtitles.cue, self._finals[language])))
            except FileExistsError:
                raise SaveError(f"{file} is there already; give another name") from None
            except OSError as error:
                raise SaveError(f"{file}: {error.strerror or error}") from error
        return list(files)

    def _units(self, caption: Caption) -> list[str]:
        if caption.language in self._unspaced:
            return [each for each in caption.text if not each.isspace()]
        return caption.text.split()


FORMATS = {f".{name}": write for name, write in subtitles.FORMATS.items()}
"""Ending of a name → what is written of cues."""
