"""Where sentences end, and which words may not yet stand alone: what a promise to a reader should know of a text.

``sentencex`` knows the ends of some hundred languages. Ours is what it can't do: signs and abbreviations that it lacks,
doubt (a full stop that may belong to an abbreviation, an initial or an ordinal is none), and texts that still grow.
"""

from __future__ import annotations

import re
from itertools import accumulate

import sentencex

_CLOSING = "\"'“”‘’»›)]}」』】）》"
_QUOTES = re.compile(r"(?<!\w)['’]|['’](?!\w)|[\"‘“”„«»‹›()\[\]{}「」『』【】（）《》]")
_BEHIND = re.compile(rf"[{re.escape(_CLOSING)}]*\s*")
_SIGNS = re.compile(r"[।॥؟۔።፧។៕༎՞։。？！…]")
"""Signs that end a sentence in whatever language they stand; of Tibetan, whose ``།`` also parts clauses, the double."""

_APOSTROPHE = re.compile("['’]")
_WITH_ORDINALS = "az bs cs da de et eu fi fo hr hu is lb lv nn no pl sk sl sr tk tr"
_ORDINALS = frozenset(_WITH_ORDINALS.split())
"""Languages that write ordinal numbers with a full stop: ``am 3. Mai``, ``Ludwig XIV. war``."""
_ORDINAL = re.compile(r"\d{1,3}|[IVXLC]+")

_TITLES = """
adm av avv bc bd bl bzw ca capt col dhr dipl doc dott dr dra drs ds eds engr fig fr frk gen gov hon hr
ing jl judr lic lt maj mevr mgr mlle mme mons mr mrs ms mudr mvr nr núm ph phdr pp pr pres prof rep
rev rndr sen sgt sig sra srta ss st ste str tel tlf tp ust vgl vol vs
акад вул г гл гр д др инж кв корп обл пл пр проф см стр тов тыс ул млн млрд
αγ δρ κ καθ κος στρ
डॉ डा प्रो श्री सुश्री कु पं क्र ডা ড মো মোঃ ডঃ திரு திருமதி டாக்டர் பேரா డా శ్రీ డాక్టర్ ಡಾ ಶ್ರೀ ഡോ ശ്രീ ડૉ શ્રી ਡਾ ਸ
د أ م ص ج ق أد ד״ר גב פרופ רח
"""
_SHORT = frozenset(_TITLES.split())
"""Abbreviations, in small letters and without their stop, after which the sentence goes on: mostly titles of people."""
_CLOCK = frozenset(("a.m", "p.m"))
"""Abbreviations that may end a sentence like any word."""


def sentence_ends(text: str, language: str) -> list[int]:
    """Return where in a line of text the sentences after the first begin; the text may go on.

    A sentence has ended once the next one has begun with a letter or a digit. Where it is doubtful, it goes on.
    """
    # Without quotes and brackets, which it would keep whole, and which a text that goes on has yet to close.
    plain = _QUOTES.sub(" ", text)
    pieces = sentencex.segment(language, plain)
    found = {*accumulate(map(len, pieces))} if "".join(pieces) == plain else set()
    found |= {match.end() for match in _SIGNS.finditer(text)}
    signs = {len(plain[:at].rstrip()) for at in found}
    ends = {behind.end() for at in signs if (behind := _BEHIND.match(text, at))}
    return [at for at in sorted(ends) if _ends(text[:at], text[at:], language)]


def is_open(before: str, after: str, language: str) -> bool:
    """Say whether the last word of ``before`` needs what follows it to be understood, where ``after`` follows.

    Numbers do (``3`` may become ``3.5``, ``3. Mai``, ``3 Uhr``), and abbreviations and initials.
    """
    words = before.split()
    word = words[-1].rstrip(_CLOSING) if words else ""
    if word.endswith((".", "…")):
        whole = before + after
        ends = sentence_ends(whole, language)  # between two sentences there may be a space
        return not any(len(whole[:end].rstrip()) <= len(before) <= end for end in ends)
    return bool(words) and words[-1][-1].isdigit()


def is_name(before: str, language: str) -> bool:
    """Say whether the last word of ``before`` may go on as a name: it has a capital, and begins no sentence.

    In scripts without capitals nobody can see a name, and in German every noun may be one.
    """
    line = before.rpartition("\n")[2].rstrip()
    word = (line.split() or [""])[-1]
    start = len(line) - len(word)
    if not start or not word[-1].isalpha() or _APOSTROPHE.split(word)[0] == "I":
        return False
    first = next(character for character in word if character.isalpha())
    begins = line[:start].rstrip().endswith((":", "–", "—")) or start in sentence_ends(line, language)
    return first.isupper() and not begins


def _ends(before: str, after: str, language: str) -> bool:
    """Say whether a sentence ends between ``before`` and ``after``."""
    following = next((character for character in after if character.isalnum()), "")
    if not following:
        return False
    closed = before.rstrip()
    bare = closed.rstrip(_CLOSING)
    quoted = bare != closed
    if quoted and (_small(following) or following == "と"):  # "Who?" she asked
        return False
    if not bare.endswith((".", "…")):
        return True
    if _small(following):
        return False
    word = (bare.rstrip(".…").split() or [""])[-1].lstrip("\"'“”„«»‹›([")
    if bare.endswith(("..", "…")) or not word:
        return True
    return not _goes_on(word, following, language)


def _goes_on(word: str, following: str, language: str) -> bool:
    """Say whether the full stop behind ``word`` may be its own, and no end of a sentence."""
    small = word.lower()
    initial = len(word) == 1 and (word.isupper() or _small(word))
    letters = "." in word and not word[0].isdigit() and small not in _CLOCK  # z.B., U.S.
    ordinal = language in _ORDINALS and _ORDINAL.fullmatch(word) is not None
    numbered = following.isdigit() and word.isalpha() and len(word) <= 5  # No. 5, Nov. 3
    return initial or letters or ordinal or numbered or small in _SHORT


def _small(character: str) -> bool:
    """Say whether a sentence would begin with another form of this letter; Georgian has two cases, but no capitals."""
    return character.islower() and character.title() != character
