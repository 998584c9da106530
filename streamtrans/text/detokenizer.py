"""Turn tokens into text one by one, never showing half a character.

Law: the text of ``tokens[:m]`` is a prefix of the text of ``tokens[:n]`` for every ``m <= n``.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable


class Detokenizer:
    """Collect the text of one segment from its tokens.

    Tokens are pieces of UTF-8. Bytes that may still become a character are withheld until the next
    token decides; bytes that never can become U+FFFD. One space before the first word of a line is layout
    of the vocabulary, not text, and is dropped.
    """

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._fresh = True  # at the beginning of a line
        self._parts: list[str] = []

    def add(self, token: int) -> str:
        """Return the text that ``token`` completes; it may be empty."""
        text = self._decoder.decode(self._piece(token))
        if text:
            text = text.removeprefix(" ") if self._fresh else text
            text, self._fresh = text.replace("\n ", "\n"), text.endswith("\n")
        self._parts.append(text)
        return text

    def extend(self, tokens: Iterable[int]) -> str:
        """Return the text that ``tokens`` complete, taken in order."""
        return "".join([self.add(token) for token in tokens])

    @property
    def text(self) -> str:
        """All text so far, without withheld bytes."""
        return "".join(self._parts)

    @property
    def whole(self) -> bool:
        """Whether no byte is withheld: the tokens so far end with a whole character."""
        return not self._decoder.getstate()[0]
