"""The languages that viewers of a stream read, beside those that its speaker asked for.

Law: a language is written while somebody reads it, and for a while longer: who was cut off misses nothing by it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamtrans.server.earlier import Earlier
from streamtrans.server.refusal import exhausted


class Audience:
    """Who reads along now, in which language.

    Args:
        earlier: catches up in a language that is new.
        spoken_for: the languages that are written for the speaker.
        rewrite: called when other languages are to be written.
        most: languages at once, the speaker's included.
        stays_s: how long a language is written for nobody, unless another one needs its place.
        retry_after_ms: what is told to who finds no place.
    """

    def __init__(
        self,
        earlier: Earlier,
        spoken_for: Callable[[], tuple[str, ...]],
        rewrite: Callable[[], None],
        *,
        most: int,
        stays_s: float,
        retry_after_ms: int,
    ) -> None:
        self._earlier, self._spoken_for, self._rewrite = earlier, spoken_for, rewrite
        self._most, self._stays_s, self._retry_after_ms = most, stays_s, retry_after_ms
        self._readers: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        """Languages that nobody reads any more, the oldest first."""
        self._closed = False
        self.was_there = False
        """Whether there ever was a viewer."""

    def __len__(self) -> int:
        """Viewers."""
        return self._readers.total()

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that are written for viewers alone."""
        spoken_for = self._spoken_for()
        return tuple(each for each in (*self._readers, *self._leaving) if each not in spoken_for)

    @contextmanager
    def watched(self, language: str) -> Iterator[bool]:
        """Write ``language`` too for the block; say whether it is new.

        Raises:
            Refusal: so many languages can't be written at once.
        """
        added = language not in (*self._spoken_for(), *self.languages)
        if added:
            self._make_room()
        elif language in self._leaving:
            self._leaving.pop(language).cancel()
        self._readers[language] += 1
        self.was_there = True
        try:
            if added:
                self._rewrite()
                self._earlier.begin(language)
            yield added
        finally:
            self._readers[language] -= 1
            if not self._readers[language]:
                del self._readers[language]
                self._let_go(language)

    def close(self) -> None:
        """Write nothing more; who reads may read to the end what there is."""
        self._closed = True
        for language in tuple(self._leaving):
            self._forget(language)
        targets = self._spoken_for()
        self._spoken_for, self._rewrite = (lambda: targets), _nothing  # they held the stream, which holds this

    def _make_room(self) -> None:
        while len(written := (*self._spoken_for(), *self.languages)) >= self._most:
            idle = next((each for each in self._leaving if each not in self._spoken_for()), None)
            if idle is None:
                problem = f"this stream is written in {len(written)} languages, and no more go"
                raise exhausted(problem, self._retry_after_ms, "viewer_languages")
            self._forget(idle)

    def _let_go(self, language: str) -> None:
        if self._closed:
            self._earlier.end(language)
        else:
            timer = asyncio.get_running_loop().call_later(self._stays_s, self._forget, language)
            self._leaving[language] = timer

    def _forget(self, language: str) -> None:
        self._leaving.pop(language).cancel()
        self._earlier.end(language)
        if not self._closed and language not in self._spoken_for():
            self._rewrite()


def _nothing() -> None:
    """Rewrite nothing: the stream is over."""
