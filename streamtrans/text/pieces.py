"""Vocabularies that aren't Whisper's: SentencePiece, with or without bytes, and byte-level BPE with other orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from streamtrans.core import BadModel, Tokens
from streamtrans.text.tokenizer import MOST_TOKENS
from streamtrans.text.vocabulary import Vocabulary

KIND = "pieces"
"""How a layout says that it is one of these."""


class Pieces(Vocabulary):
    """A list of pieces, and who cuts a text into them.

    Args:
        pieces: the bytes of each token; none for special tokens.
        eot: the end-of-text token.
        cut: turns a text into tokens; ``None`` where there is only something to spell.
    """

    def __init__(self, pieces: Sequence[bytes], eot: int, cut: Callable[[str], Sequence[int]] | None = None) -> None:
        self._pieces = pieces
        self.eot = eot
        self._cut = cut

    def encode(self, text: str) -> Tokens:
        """Return the tokens of a text, without special tokens.

        Raises:
            BadModel: this vocabulary was read from a recording, which holds no way to cut texts.
        """
        if self._cut is None:
            raise BadModel("this vocabulary comes from a recording and can only spell; load its model to read texts")
        return tuple(self._cut(text))

    def layout(self) -> str:
        """Return what :meth:`of` reads."""
        pieces = [piece.decode("latin-1") for piece in self._pieces]
        return json.dumps({"type": KIND, "eot": self.eot, "pieces": pieces})

    @classmethod
    def of(cls, layout: object, *, origin: str) -> Pieces:
        """Build what :meth:`layout` said.

        Raises:
            BadModel: it is no such thing; ``origin`` is what the message calls it.
        """
        said = layout if isinstance(layout, dict) else {}
        pieces, eot = said.get("pieces"), said.get("eot")
        right = isinstance(pieces, list) and len(pieces) < MOST_TOKENS and all(isinstance(each, str) for each in pieces)
        if not right or not isinstance(pieces, list) or type(eot) is not int or not 0 <= eot < len(pieces):
            raise BadModel(f"{origin}: not a list of pieces with an end-of-text token")
        try:
            return cls([piece.encode("latin-1") for piece in pieces], eot)
        except UnicodeEncodeError:
            raise BadModel(f"{origin}: a piece holds what is no byte") from None
