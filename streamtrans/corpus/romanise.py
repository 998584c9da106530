"""Spell speech with few symbols: what a CTC loss asks the encoder for."""

from __future__ import annotations

from streamtrans.core import BadConfig, needs


def romanise(text: str, language: str) -> str:
    """Return ``text`` as letters: Chinese as pinyin, other languages in lower case.

    Pinyin syllables are separated by spaces and end in their tone, 5 for the neutral one (``yin1 yue4``);
    Latin words between them stay as they are.

    Raises:
        BadConfig: pypinyin is not installed.
    """
    if language != "zh":
        return text.lower()
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError:
        raise BadConfig(needs("pinyin", "pypinyin", "train")) from None
    pieces = lazy_pinyin(text.lower(), style=Style.TONE3, neutral_tone_with_five=True)
    return " ".join(" ".join(pieces).split())
