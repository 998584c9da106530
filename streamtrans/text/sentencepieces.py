"""SentencePiece: what its pieces spell, and who cuts texts into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from streamtrans.core import BadModel, needs
from streamtrans.text.tokenizer import byte_alphabet

if TYPE_CHECKING:
    import sentencepiece

_BYTES = {character: byte for byte, character in byte_alphabet().items()}
SPACE = "▁"
"""What stands for a space in the names of pieces."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def spelt(name: str) -> bytes:
    """Return the bytes of a piece by its name."""
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(SPACE, " ").encode()


def pieces(
    numbers: Mapping[str, int], size: int, special: Collection[int], spell: Callable[[str], bytes] = spelt
) -> list[bytes]:
    """Return what each of ``size`` tokens spells: nothing where it is ``special``, or not among ``numbers``."""
    found = [b""] * size
    for name, token in numbers.items():
        if token not in special:
            found[token] = spell(name)
    return found


class Cutter:
    """Cuts texts with a SentencePiece model whose pieces another list numbers.

    Args:
        file: the model.
        numbers: piece → token.
        unknown: the token of pieces that aren't there.

    Raises:
        BadModel: the file is no such model, or the package that reads it is missing.
    """

    def __init__(self, file: Path, numbers: Mapping[str, int], unknown: int) -> None:
        self._processor = _processor(file)
        self._numbers = numbers
        self._unknown = unknown

    def __call__(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return [self._numbers.get(name, self._unknown) for name in self._processor.encode(text, out_type=str)]


class Backend:
    """Cuts texts as a ``tokenizer.json`` says, whatever kind it is of.

    Raises:
        BadModel: the file can't be read.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._backend, self._commanding = (tokenizers.Tokenizer.from_file(str(file)) for _ in range(2))
        except Exception as error:
            if type(error) is not Exception:  # the library raises that and nothing narrower
                raise
            raise BadModel(f"{file}: not a tokenizer that can be built ({error})") from error
        self._backend.encode_special_tokens = True  # "</s>" in somebody's text is text

    def __call__(self, text: str) -> Sequence[int]:
        """Return the tokens of a text."""
        tokens: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return tokens

    def commanded(self, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a text in which names of commands are commands, and per token where it ends in it."""
        found = self._commanding.encode(text)
        return found.ids, [end for _, end in found.offsets]

    def spelt(self, name: str) -> bytes:
        """Return the bytes of a piece by its name."""
        if isinstance(self._backend.decoder, tokenizers.decoders.ByteLevel):
            return bytes(_BYTES[character] for character in name if character in _BYTES)
        return spelt(name)

    @property
    def numbers(self) -> dict[str, int]:
        """Piece → token, the added ones too."""
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def special(self) -> frozenset[int]:
        """Tokens that are commands and no text."""
        added = self._backend.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)


def _processor(file: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        import sentencepiece
    except ImportError:
        raise BadModel(needs(f"the tokenizer of {file.parent}", "sentencepiece", "translators")) from None
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError) as error:
        raise BadModel(f"{file} is no SentencePiece model: {str(error).splitlines()[0]}") from None
