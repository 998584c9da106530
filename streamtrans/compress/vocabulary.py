"""Cut a byte-level BPE vocabulary down to what some languages need.

Law: any text survives the round trip, for the 256 bytes stay; texts made of kept tokens alone keep their spelling.

A token is made by merging two others, so a kept token keeps what it is made of. Of the special tokens those stay
that a whisperM2M is asked with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamtrans.core import BadConfig
from streamtrans.text import Tokenizer, canonical
from streamtrans.text.tokenizer import END_OF_TEXT, START_OF_TRANSCRIPT

TASKS = ("<|translate|>", "<|transcribe|>", "<|notimestamps|>")
"""Whisper's orders that stay: the stock model, which teaches, is asked with them."""
SINGLE_BYTES = 256


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """Count how often each token is used by texts."""
    uses = Counter[int]()
    for text in texts:
        uses.update(tokenizer.encode(text))
    return uses


def cut_vocabulary(
    tokenizer: Tokenizer, uses: Mapping[int, int], size: int, languages: Sequence[str]
) -> tuple[dict[str, Any], list[int]]:
    """Return the ``tokenizer.json`` of a vocabulary of ``size`` tokens, and the old number of each.

    Args:
        tokenizer: of a Whisper folder.
        uses: how often each of its tokens is used; the most used ones stay.
        size: special tokens included.
        languages: those whose tokens stay, in the order that they get.

    Raises:
        BadConfig: ``size`` has no room for the bytes and the special tokens.
        UnsupportedLanguage: it lacks one of the languages.
    """
    layout = json.loads(tokenizer.layout())
    vocabulary: dict[str, int] = layout["model"]["vocab"]
    special = {entry["content"]: entry for entry in layout["added_tokens"]}
    kept_special = [END_OF_TEXT, START_OF_TRANSCRIPT]
    numbers = {token: name for name, token in ((entry["content"], entry["id"]) for entry in special.values())}
    kept_special += [numbers[tokenizer.language_token(canonical(code))] for code in languages]
    kept_special += [name for name in TASKS if name in special]
    plain = {name: number for name, number in vocabulary.items() if name not in special}
    room = size - len(kept_special)
    if room < SINGLE_BYTES:
        raise BadConfig(
            f"a vocabulary of {size} is too small: bytes and special tokens alone take "
            f"{SINGLE_BYTES + len(kept_special)}"
        )
    merges = [
        tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in layout["model"]["merges"]
    ]
    names = _choose(plain, merges, uses, room)
    numbered = {name: number for number, name in enumerate(names)}
    layout["model"]["vocab"] = numbered
    layout["model"]["merges"] = [list(merge) for merge in merges if {*merge, "".join(merge)} <= numbered.keys()]
    layout["added_tokens"] = [{**special[name], "id": len(numbered) + at} for at, name in enumerate(kept_special)]
    layout["post_processor"] = None  # it names tokens by number, and nobody asks for it
    return layout, [plain[name] for name in names] + [special[name]["id"] for name in kept_special]


def _choose(
    plain: Mapping[str, int], merges: Sequence[tuple[str, ...]], uses: Mapping[int, int], room: int
) -> list[str]:
    """Return the names of up to ``room`` tokens, in the order of their old numbers, with all that they are made of."""
    made_of = {"".join(merge): merge for merge in merges}
    kept = {name for name in plain if len(name) == 1}
    for name in sorted(plain, key=lambda name: (-uses.get(plain[name], 0), plain[name])):
        if not uses.get(plain[name], 0):
            break
        needed = _parts(name, made_of) - kept
        if len(kept) + len(needed) <= room:
            kept |= needed
    return sorted(kept, key=lambda name: plain[name])


def _parts(name: str, made_of: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Return a token and all tokens on the way to it."""
    found, open_names = set[str](), [name]
    while open_names:
        part = open_names.pop()
        if part not in found:
            found.add(part)
            open_names += made_of.get(part, ())
    return found
