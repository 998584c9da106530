"""Vocabularies that aren't Whisper's: SentencePiece, with or without bytes, and byte-level BPE with other orders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import tokenizers

from streamtrans.core import BadModel, Tokens
from streamtrans.text.tokenizer import MOST_TOKENS, byte_alphabet
from streamtrans.text.vocabulary import Vocabulary

SPACE = "▁"
"""What SentencePiece writes for a space."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTES = {character: byte for byte, character in byte_alphabet().items()}

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


def spelt(content: str) -> bytes:
    """Return the bytes of a SentencePiece token: ``▁`` is a space, ``<0x41>`` the byte it names."""
    byte = _BYTE.fullmatch(content)
    return bytes([int(byte[1], 16)]) if byte else content.replace(SPACE, " ").encode()


def spelt_in_bytes(content: str) -> bytes:
    """Return the bytes of a token of byte-level BPE; what is written otherwise is taken as it stands."""
    if all(character in _BYTES for character in content):
        return bytes(_BYTES[character] for character in content)
    return content.encode()


def read_backend(folder: Path) -> tokenizers.Tokenizer:
    """Read ``tokenizer.json`` of a folder, of whatever kind.

    Raises:
        BadModel: it is missing, or can't be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BadModel(f"{folder} has no tokenizer.json; save the model with its fast tokenizer")
    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, OSError | ValueError):
            raise  # the library raises nothing narrower for what it can't build
        raise BadModel(f"{path}: not a tokenizer that can be built ({error})") from None
    return backend


def pieces_of(backend: tokenizers.Tokenizer) -> list[bytes]:
    """Return the bytes of every token of a Hugging Face tokenizer; special tokens have none."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    added = backend.get_added_tokens_decoder()
    in_bytes = isinstance(backend.decoder, tokenizers.decoders.ByteLevel)
    spell = spelt_in_bytes if in_bytes else spelt
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for content, token in vocabulary.items():
        if token not in added:
            pieces[token] = spell(content)
        elif not added[token].special:
            pieces[token] = content.encode()
    return pieces
