"""Captions of one segment in several languages, brought together: what bots call an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamtrans.client import Caption


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is read of one segment so far, in the languages that were asked for; each reading replaces the one before.

    ``start`` and ``end`` are samples at 16 kHz since the stream began. A ``final`` one is the last of its segment.
    """

    segment: int
    languages: tuple[str, ...]
    """Those that were asked for."""
    captions: tuple[Caption, ...]
    """In the order of the languages; those that nothing is read in yet are left out."""
    final: bool

    @property
    def start(self) -> int:
        """The first sample."""
        return min(caption.start for caption in self.captions)

    @property
    def end(self) -> int:
        """The sample after the last one."""
        return max(caption.end for caption in self.captions)

    def caption(self, language: str) -> Caption | None:
        """Return what is read in ``language``."""
        return next((each for each in self.captions if each.language == language), None)


class Utterances:
    """Bring the captions of each segment together; law: each segment ends in one final utterance, of all languages."""

    def __init__(self, languages: Sequence[str]) -> None:
        self._languages = tuple(languages)
        self._open: dict[int, dict[str, Caption]] = {}

    def take(self, caption: Caption) -> Utterance:
        """Take a caption; return what is read of its segment now."""
        read = self._open.setdefault(caption.segment, {})
        read[caption.language] = caption
        known = tuple(read[language] for language in self._languages if language in read)
        final = len(known) == len(self._languages) and all(each.final for each in known)
        if final:
            del self._open[caption.segment]
        return Utterance(caption.segment, self._languages, known, final)
