"""Give texts that were written without capitals and marks (spoken requests) those that others have.

Everything is counted in texts that have both: how a word is spelt inside of sentences, and how often a text that begins
with a word, or in Chinese ends with a character, is a question.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache

from streamtrans.corpus.tables import Row
from streamtrans.text import joins_without_spaces

_unspaced = lru_cache(joins_without_spaces)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_LAST = re.compile(r"[.!?…。！？][\"”»’]?$")
_QUESTION = re.compile(r"[?？]")


class Casing:
    """Counts of one corpus; see :meth:`restore`."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Count the texts of rows that end with a mark."""
        forms: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        questions: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for row in rows:
            for language, text in row.texts.items():
                if not _LAST.search(text):
                    continue
                asked, cue = _QUESTION.search(text[-2:]) is not None, _cue(text, language)
                questions[language, cue][0] += asked
                questions[language, cue][1] += 1
                for word in _WORD.finditer(text):
                    before = text[: word.start()].rstrip(" \"“«¿¡'-–")
                    if before and before[-1] not in ".!?:…":
                        forms[language, word[0].lower()][word[0]] += 1
        self._forms = {key: counts.most_common(1)[0][0] for key, counts in forms.items()}
        self._questions = {key for key, (asked, all_of_them) in questions.items() if asked > all_of_them / 2}

    def restore(self, text: str, language: str) -> str:
        """Return a lower-case text without marks as a sentence."""
        asks = (language, _cue(text, language)) in self._questions
        if _unspaced(language):
            return text + ("？" if asks else "。")
        text = _WORD.sub(lambda word: self._forms.get((language, word[0].lower()), word[0]), text)
        text = text[:1].upper() + text[1:] + ("?" if asks else ".")
        return f"¿{text}" if asks and language == "es" else text


def _cue(text: str, language: str) -> str:
    """Return what tells a question: the first word; in Chinese the last character before the mark."""
    if _unspaced(language):
        letters = [character for character in text if character.isalnum()]
        return letters[-1] if letters else ""
    found = _WORD.search(text)
    return found[0].lower() if found else ""
