"""Refill entity slots, so that sentences whose entities differ per country say the same again.

A template holds slots ``[slot : value]``, the same slots in every language. A slot is

- *exchanged* within a group, where its values are mostly entries of one group (weekday for weekday) or names
  (person, city, brand), and nothing around it agrees with the old value;
- *kept*, where the lexicon knows that its values already mean the same.

A template with a slot that allows neither is left out: fewer sentences rather than wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamtrans.corpus.agreement import COMMON_NOUNS, SLOT, UNBOUND, freed, is_bound, join, same_order
from streamtrans.corpus.lexicon import Entry, Lexicon, shipped_lexicon
from streamtrans.corpus.tables import Row, normalise

_NAME_GROUPS: Mapping[str, str] = {
    "place_name": "city",
    "person": "first_name",
    "business_name": "brand",
    "artist_name": "artist",
    "app_name": "app",
    "song_name": "song",
    "movie_name": "movie",
    "audiobook_name": "book",
    "audiobook_author": "author",
    "game_name": "game",
    "radio_name": "station",
}
"""Slots that hold names → the group that new names are taken from."""

_FIXED = "fixed"  # the group of entries that are recognised but never exchanged
_LONGEST_NAME = 3  # words; longer values are descriptions more often than names
_LONGEST_VALUE = 5  # words in any language; a longer value says more than its slot
_FEWEST_CITIES = 2  # so many of a place's values must be cities, or it may be a region
_MAJORITY = 2 / 3  # so many of a slot's values must be of one group to be exchanged within it


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence in several languages, cut at its slots.

    ``pieces[language]`` alternates fixed text and the number of a slot; ``choices[n]`` holds the entries that
    slot ``n`` may be drawn from, or nothing where ``kept[n]`` says how each language has it.
    """

    id: str
    pieces: Mapping[str, tuple[str | int, ...]]
    choices: tuple[Sequence[Entry], ...]
    kept: tuple[Mapping[str, str], ...]

    def fill(self, rng: np.random.Generator) -> dict[str, str]:
        """Draw a value for every slot and return the sentence in each language, in normal form."""
        drawn: list[Entry | None] = []
        for entries in self.choices:
            # "From London to London" is no sentence: what was drawn before isn't drawn again.
            free = [entry for entry in entries if entry not in drawn] or list(entries)
            drawn.append(free[int(rng.integers(len(free)))] if free else None)
        texts = {}
        for language, pieces in self.pieces.items():
            text = ""
            for piece in pieces:
                if isinstance(piece, str):
                    text += piece
                elif (entry := drawn[piece]) is None:
                    text = join(text, self.kept[piece][language], language)
                else:
                    text = join(text, entry.names[language][0], language)
            texts[language] = normalise(text, language)
        return texts


def refill(row: Row, rng: np.random.Generator, lexicon: Lexicon | None = None) -> dict[str, str] | None:
    """Replace the slots of a template consistently; return None where that can't be done with care."""
    template = parse_template(row, lexicon)
    return None if template is None else template.fill(rng)


def parse_template(row: Row, lexicon: Lexicon | None = None) -> Template | None:
    """Cut a template at its slots and decide what each may be; None where one slot can't be treated."""
    lexicon = lexicon or shipped_lexicon()
    texts = freed(row.texts)
    found = {language: list(SLOT.finditer(text)) for language, text in texts.items()}
    names = [match[1] for match in next(iter(found.values()), [])]
    if not names or any(sorted(match[1] for match in matches) != sorted(names) for matches in found.values()):
        return None
    # The n-th slot of a kind belongs to the n-th of that kind in the other languages.
    keys = [(name, names[:index].count(name)) for index, name in enumerate(names)]
    uses: list[dict[str, _Use]] = [{} for _ in keys]
    pieces = {}
    for language, matches in found.items():
        pieces[language] = _cut(texts[language], language, matches, keys, uses)
    choices = []
    for (name, _), use in zip(keys, uses, strict=True):
        treated = _treat(name, use, names.count(name) == 1 or same_order(texts, name), lexicon)
        if treated is None:
            return None
        choices.append(treated)
    kept = tuple({language: used.value for language, used in use.items()} for use in uses)
    return Template(row.id, pieces, tuple(choices), kept)


@dataclass(frozen=True, slots=True)
class _Use:
    """A slot where it stands: its old value and the text right before it."""

    value: str
    before: str


def _cut(
    text: str,
    language: str,
    matches: Sequence[re.Match[str]],
    keys: Sequence[tuple[str, int]],
    uses: Sequence[dict[str, _Use]],
) -> tuple[str | int, ...]:
    """Split ``text`` at its slots into fixed text and slot numbers; note in ``uses`` how each is used."""
    pieces: list[str | int] = []
    seen: dict[str, int] = {}
    end = 0
    for match in matches:
        rank = seen.get(match[1], 0)
        seen[match[1]] = rank + 1
        number = keys.index((match[1], rank))
        before = text[end : match.start()]
        uses[number][language] = _Use(match[2], before)
        pieces += [before, number]
        end = match.end()
    return (*pieces, text[end:])


def _treat(slot: str, uses: Mapping[str, _Use], ordered: bool, lexicon: Lexicon) -> Sequence[Entry] | None:
    """Return the entries that a slot may take, an empty sequence to keep it, None to give up.

    Args:
        slot: its name.
        uses: language → how it is used there.
        ordered: false where the sentence has several of this kind and their order is unsure.
        lexicon: what is known.
    """
    matches = {language: lexicon.find(slot, language, use.value) for language, use in uses.items()}
    group = _group(slot, uses, matches)
    if ordered and group is not None and not _bound(slot, group, uses):
        entries = lexicon.group(slot, group)
        if entries:
            return entries
    first, *others = matches.values()
    return () if any(all(entry in found for found in others) for entry in first) else None


def _bound(slot: str, group: str, uses: Mapping[str, _Use]) -> bool:
    """Say whether anything around a slot agrees with its old value."""
    unbound = UNBOUND.get(group, frozenset())
    if any(is_bound(use.value, use.before, language, unbound) for language, use in uses.items()):
        return True
    # Italian towns follow "a", regions "in".
    return slot == "place_name" and "it" in uses and uses["it"].before.endswith("in ")


def _group(slot: str, uses: Mapping[str, _Use], matches: Mapping[str, Sequence[Entry]]) -> str | None:
    """Return the group that new values of a slot may come from."""
    votes: dict[str, int] = {}
    for found in matches.values():
        for group in {entry.group for entry in found}:
            votes[group] = votes.get(group, 0) + 1
    fixed = votes.pop(_FIXED, 0)
    name_group = _NAME_GROUPS.get(slot)
    if fixed and (name_group is None or votes.get(name_group, 0) <= fixed):
        return None
    if any(len(use.value.split()) > _LONGEST_VALUE for use in uses.values()):
        return None
    best = max(sorted(votes), key=lambda group: votes[group], default=None)
    if best is not None and votes[best] >= _MAJORITY * len(uses):
        return best
    if name_group is None or not _is_name(uses):
        return None
    if slot == "place_name" and votes.get(name_group, 0) < min(_FEWEST_CITIES, len(uses)):
        return None
    return name_group


def _is_name(uses: Mapping[str, _Use]) -> bool:
    """Say whether a slot's values look like names, which another name may replace."""
    value = uses["en"].value if "en" in uses else next(iter(uses.values())).value
    words = value.split()
    return 0 < len(words) <= _LONGEST_NAME and not COMMON_NOUNS.intersection(words)
