"""Read a checkpoint's ``tokenizer.json`` and translate between text and tokens.

The format is Hugging Face's: byte-level BPE with Whisper's special tokens, whose languages are
found by their names (``<|de|>``), so stock Whisper folders and our own load alike.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from pathlib import Path
from typing import Any

import tokenizers

from streamtrans.core import BadModel, Tokens, UnsupportedLanguage
from streamtrans.text.languages import ALIASES, LANGUAGES, canonical
from streamtrans.text.vocabulary import Vocabulary, segment_text

END_OF_TEXT = "<|endoftext|>"
START_OF_TRANSCRIPT = "<|startoftranscript|>"
MOST_TOKENS = 10_000_000
"""More than any vocabulary has: a token is a place in a list."""
_CONTROL = re.compile(r"<\|([^|<>]*)\|>")


class Tokenizer(Vocabulary):
    """Vocabulary of one model. Immutable, shared by all streams."""

    def __init__(self, backend: tokenizers.Tokenizer, *, origin: str = "tokenizer") -> None:
        """Wrap ``backend``; ``origin`` is what error messages call it.

        Raises:
            BadModel: it isn't byte-level BPE, or end-of-text or start-of-transcript is missing.
        """
        if not isinstance(backend.decoder, tokenizers.decoders.ByteLevel):
            raise BadModel(f"{origin}: the decoder must be ByteLevel, as in Whisper and GPT-2 vocabularies")
        backend.encode_special_tokens = True  # "<|de|>" in somebody's text is text, not an order
        self._backend = backend
        vocabulary = backend.get_vocab(with_added_tokens=True)
        if max(vocabulary.values(), default=0) >= MOST_TOKENS:
            raise BadModel(f"{origin}: token {max(vocabulary.values())} is beyond all vocabularies")
        added = backend.get_added_tokens_decoder()
        self._special = frozenset(
            token for token, entry in added.items() if entry.special or _CONTROL.fullmatch(entry.content)
        )
        self._pieces: list[bytes] = [b""] * (max(vocabulary.values(), default=-1) + 1)
        for content, token in vocabulary.items():
            if token in added:
                self._pieces[token] = b"" if token in self._special else content.encode()
            else:
                self._pieces[token] = _piece_bytes(content, origin)
        self._specials_by_name = {
            entry.content: token for token, entry in sorted(added.items()) if token in self._special
        }
        self.eot = self._required(END_OF_TEXT, origin)
        self.sot = self._required(START_OF_TRANSCRIPT, origin)
        self._language_tokens = _languages_of(self._specials_by_name)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read ``tokenizer.json`` of a checkpoint folder, or where there is none ``vocab.json`` and ``merges.txt``.

        Raises:
            BadModel: the files are missing, unreadable or not in Whisper's manner.
        """
        path, vocabulary = Path(folder) / "tokenizer.json", Path(folder) / "vocab.json"
        slow = not path.exists() and vocabulary.exists()
        path = vocabulary if slow else path
        try:
            layout = _slow_layout(Path(folder)) if slow else json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadModel(f"{path}: not a readable Hugging Face tokenizer of byte-level BPE ({error})") from error
        return cls.of(layout, origin=str(path))

    @classmethod
    def of(cls, layout: object, *, origin: str) -> Tokenizer:
        """Build what a ``tokenizer.json`` describes; ``origin`` is what error messages call it.

        Raises:
            BadModel: it describes none, or one that isn't in Whisper's manner.
        """
        try:
            layout = _whole_layout(_check_layout(layout))
        except ValueError as error:
            raise BadModel(f"{origin}: not a readable Hugging Face tokenizer of byte-level BPE ({error})") from error
        try:
            backend = tokenizers.Tokenizer.from_str(json.dumps(layout))
        except Exception as error:
            if type(error) is not Exception:  # the library raises that and nothing narrower for what it can't build
                raise
            raise BadModel(f"{origin}: not a tokenizer that can be built ({error})") from error
        return cls(backend, origin=origin)

    def layout(self) -> str:
        """Return the text of a ``tokenizer.json`` that says all of it."""
        return str(self._backend.to_str())

    @property
    def languages(self) -> tuple[str, ...]:
        """Canonical codes that have a language token, in the order of the vocabulary."""
        return tuple(self._language_tokens)

    def language_token(self, code: str) -> int:
        """Return the special token that asks for a language.

        Raises:
            UnsupportedLanguage: the vocabulary has none for it.
        """
        language = canonical(code)
        if language not in self._language_tokens:
            raise UnsupportedLanguage(
                f"this model has no language {language!r} ({LANGUAGES[language]}); it has {', '.join(self.languages)}"
            )
        return self._language_tokens[language]

    def special(self, name: str) -> int | None:
        """Return the id of a special token by its full name (``"<|notimestamps|>"``), or ``None``."""
        return self._specials_by_name.get(name)

    def is_special(self, token: int) -> bool:
        """Say whether a token is a command rather than text; ids beyond the vocabulary are."""
        return token in self._special or not 0 <= token < len(self._pieces)

    def encode(self, text: str) -> Tokens:
        """Return the tokens of the text of one segment, without special tokens.

        A segment, and every line of it, begins like a word inside of one: with a space, unless its script needs none.
        """
        return tuple(self._backend.encode(segment_text(text), add_special_tokens=False).ids)

    def _required(self, name: str, origin: str) -> int:
        token = self._specials_by_name.get(name)
        if token is None:
            raise BadModel(f"{origin}: the special token {name} is missing")
        return token


def byte_alphabet() -> dict[int, str]:
    """Return the printable character that byte-level BPE writes for each of the 256 bytes.

    Printable Latin-1 stands for itself and the rest is moved to U+0100 and up (GPT-2, Radford 2019).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(moved)}


def _check_layout(layout: object) -> dict[str, Any]:
    """Return what the backend can read, or raise ``ValueError``."""
    if not isinstance(layout, dict):
        raise ValueError("the file holds no object")
    model = layout.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise ValueError("its model must be of type BPE")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise ValueError("its model must hold vocab and merges")
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ValueError(f"a merge is {str(merge)[:40]!r}; a merge is two pieces of text")
    added = layout.get("added_tokens", [])
    if not isinstance(added, list):
        raise ValueError("its added_tokens must be a list")
    numbers = [entry.get("id") if isinstance(entry, dict) else entry for entry in added]
    for number in (*vocab.values(), *numbers):
        if type(number) is not int or not 0 <= number < MOST_TOKENS:
            raise ValueError(f"a token is numbered {str(number)[:40]!r}; tokens are counted from 0 on")
    return layout


def _whole_layout(layout: dict[str, Any]) -> dict[str, Any]:
    """Return a layout with merges for tokens of two characters that nothing makes.

    Published copies of Whisper's vocabulary lost their first merge to a reader that took it for a heading: without it
    each word with ``t`` at its beginning is written as ``" "`` and the rest, which no Whisper has ever read. Where
    merges stand in the order of what they make, as they do in Whisper's, the place of a lost one is known.
    """
    vocab, merges = layout["model"]["vocab"], layout["model"]["merges"]
    made = ["".join(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    numbers = [vocab.get(name, -1) for name in made]
    added = {entry.get("content") for entry in layout.get("added_tokens", []) if isinstance(entry, dict)}
    lost = vocab.keys() - set(made) - added
    pairs = [name for name in lost if len(name) == 2 and set(name) <= vocab.keys()]
    if not pairs or numbers != sorted(set(numbers)):
        return layout
    whole = list(merges)
    for name in sorted(pairs, key=vocab.__getitem__, reverse=True):
        whole.insert(bisect(numbers, vocab[name]), " ".join(name) if merges and isinstance(merges[0], str) else [*name])
    return {**layout, "model": {**layout["model"], "merges": whole}}


def _slow_layout(folder: Path) -> dict[str, Any]:
    """Return as ``tokenizer.json`` has it what older folders say in files of their own.

    Special tokens stand in ``added_tokens.json``, or in a list of ``tokenizer_config.json``.

    Raises:
        OSError, ValueError: a file is missing, or isn't what it should be.
    """
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in merges):
        raise ValueError("a line of merges.txt holds no pair")
    added: dict[str, int] = {}
    for name, key in (("added_tokens.json", None), ("tokenizer_config.json", "added_tokens_decoder")):
        file = folder / name
        said = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        said = said.get(key, {}) if key and isinstance(said, dict) else said
        if not isinstance(said, dict):
            raise ValueError(f"{name} holds no object")
        for left, right in said.items():
            added |= {str(dict(right).get("content")): int(left)} if key else {left: right}
    if isinstance(vocab, dict) and END_OF_TEXT in vocab:
        added.setdefault(END_OF_TEXT, vocab[END_OF_TEXT])
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = sorted(added.items(), key=lambda item: str(item[1]).zfill(9))
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": name, **plain, "special": bool(_CONTROL.fullmatch(name))}
            for name, number in tokens
        ],
        "pre_tokenizer": split,
        "decoder": split,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


_BYTES = {character: byte for byte, character in byte_alphabet().items()}


def _piece_bytes(content: str, origin: str) -> bytes:
    try:
        return bytes(_BYTES[character] for character in content)
    except KeyError as error:
        raise BadModel(
            f"{origin}: token {content!r} holds {error.args[0]!r}, which is no byte-level character"
        ) from None


def _languages_of(specials: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, token in specials.items():
        match = _CONTROL.fullmatch(name)
        code = match.group(1) if match else ""
        code = ALIASES.get(code, code)
        if code in LANGUAGES:
            found[code] = token
    return found
