"""What every vocabulary can do, whoever made it: its tokens are pieces of UTF-8, and all else follows from that."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence

from streamtrans.core import Tokens
from streamtrans.text.detokenizer import Detokenizer
from streamtrans.text.languages import canonical
from streamtrans.text.sentences import sentence_ends
from streamtrans.text.spelling import Spelling

# Scripts written without spaces: every whole character may end a "word".
_UNSPACED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3000, 0x30FF),  # CJK punctuation, kana
    (0x3100, 0x312F),  # Bopomofo
    (0x31F0, 0x31FF),  # small katakana
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF00, 0xFFEF),  # full-width forms
    (0x20000, 0x3FFFF),  # Han, further extensions
)


class Vocabulary(ABC):
    """Tokens and what they spell. Immutable, shared by all streams.

    A model that has several end tokens calls one of them ``eot``, and answers with that whichever it chose.
    """

    eot: int
    """The end-of-text token."""
    _pieces: Sequence[bytes]
    """The bytes of every token: none for special tokens."""

    @abstractmethod
    def encode(self, text: str) -> Tokens:
        """Return the tokens of a text, without special tokens."""

    @abstractmethod
    def layout(self) -> str:
        """Return JSON that says all that is needed to spell."""

    @property
    def size(self) -> int:
        """Number of token ids, special ones included."""
        return len(self._pieces)

    def piece(self, token: int) -> bytes:
        """Return the bytes a token stands for: none for special tokens and ids beyond the vocabulary."""
        return self._pieces[token] if 0 <= token < len(self._pieces) else b""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a segment's tokens.

        Special tokens and an incomplete last character give nothing; impossible bytes give U+FFFD.
        """
        return Detokenizer(self.piece).extend(tokens)

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:
        """Return the largest ``m <= n`` such that ``tokens[:m]`` ends with a whole word.

        A word is whole when the next token begins with a space, or when one of the characters at
        the seam belongs to a script without spaces. The end of ``tokens`` counts only if ``final``:
        the next token might go on with the word.
        """
        n = min(n, len(tokens))
        if n <= 0:
            return 0
        if final and n == len(tokens):
            return n
        detokenizer = Detokenizer(self.piece)
        texts: list[str] = []
        whole: list[bool] = []
        for token in tokens:
            texts.append(detokenizer.add(token))
            whole.append(detokenizer.whole)
        for m in range(n, 0, -1):
            if whole[m - 1] and _is_seam(_last(texts, m), _first(texts, m)):
                return m
        return 0

    def sentence_end(self, tokens: Sequence[int], language: str = "en") -> tuple[int, int] | None:
        """Return where the first sentence ends and the next begins, ``(stop, resume)``, if a next one has begun.

        A sentence ends with a line, whose break belongs to neither, or where ``sentences`` sees an end in ``language``
        that lies between two tokens.
        """
        detokenizer = Detokenizer(self.piece)
        text = ""
        starts: dict[int, int] = {}  # length of the text so far → the token that goes on from there
        for at, token in enumerate(tokens):
            if detokenizer.whole:
                starts[len(text)] = at  # tokens without text belong to what is before them
            added = detokenizer.add(token)
            if added.endswith("\n"):
                found = self._seam(text, starts, language)
                return found or ((at, at + 1) if text and at + 1 < len(tokens) else None)
            text += added
        return self._seam(text, starts, language)

    def speaking(self, language: str) -> Spelling:
        """Return how this vocabulary spells a language."""
        return Spelling(self, canonical(language))

    def _seam(self, text: str, starts: dict[int, int], language: str) -> tuple[int, int] | None:
        """Return the first end of a sentence in a line of text at which a token starts."""
        for end in sentence_ends(text, language):
            for place in range(len(text[:end].rstrip()), end + 1):
                if place in starts:
                    return starts[place], starts[place]
        return None


def segment_text(text: str) -> str:
    """Return ``text`` as vocabularies spell the text of a segment: with a space before the first word of each line."""
    first, *lines = text.split("\n")
    if first and not first[0].isspace() and not _is_unspaced(first[0]):
        first = " " + first
    return "\n".join([first, *(line if not line or _is_unspaced(line[0]) else " " + line for line in lines)])


def _last(texts: Sequence[str], m: int) -> str:
    return next((text[-1] for text in reversed(texts[:m]) if text), "")


def _first(texts: Sequence[str], m: int) -> str:
    return next((text[0] for text in texts[m:] if text), "")


def _is_seam(before: str, after: str) -> bool:
    if not before or not after or unicodedata.category(after).startswith("M"):
        return False
    return after.isspace() or before == "\n" or _is_unspaced(before) or _is_unspaced(after)


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return any(low <= code <= high for low, high in _UNSPACED_RANGES)
