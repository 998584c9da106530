"""The words of decoders that are asked in ChatML: a ``tokenizer.json`` whose commands mark turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamtrans.core import BadModel
from streamtrans.model.config import shown, tokens_of
from streamtrans.model.scoring import Rules
from streamtrans.text import Pieces
from streamtrans.text.sentencepieces import Backend, pieces

BEGIN, END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Words:
    """The tokenizer, and what may be chosen of it."""

    backend: Backend
    vocabulary: Pieces
    rules: Rules
    commands: tuple[str, ...]

    def plain(self, text: str) -> str:
        """Return what was said without anything that would be a command."""
        for name in self.commands:
            text = text.replace(name, " ")
        return text


def chat_words(folder: Path, size: int, said: object) -> Words:
    """Read the tokenizer of a folder whose network knows ``size`` tokens.

    A text ends with the end of a turn, or with what was ``said`` to be an end: a token or a list of such.

    Raises:
        BadModel: it can't be read, marks no turns, or isn't this network's.
    """
    file = folder / "tokenizer.json"
    backend = Backend(file)
    numbers, special = tokens_of(backend.numbers, size, file), backend.special
    if BEGIN not in numbers or END not in numbers:
        raise BadModel(f"{file} has no {BEGIN} and {END}: only models that are asked in ChatML are known")
    ends = read_ends(folder, size, said)
    special |= {numbers[BEGIN], numbers[END], *ends} | (set(range(size)) - set(numbers.values()))
    eot, spelt = numbers[END], pieces(numbers, size, special, backend.spelt)
    rules = Rules(size, eot, special - {eot}, ends=frozenset(ends - {eot}))
    commands = tuple(name for name, token in numbers.items() if token in special)
    return Words(backend, Pieces(spelt, eot, backend), rules, commands)


def read_ends(folder: Path, size: int, said: object) -> set[int]:
    """Return the tokens of which a folder says that each ends a text; none where it says nothing.

    Raises:
        BadModel: they aren't among the ``size`` that there are.
    """
    listed = said if isinstance(said, list) else [] if said is None else [said]
    if not all(type(token) is int and 0 <= token < size for token in listed):
        raise BadModel(f"{folder}: eos_token_id is {shown(said)}; give a token or a list of tokens")
    return set(listed)
