"""Language codes: lower-case base tags inside, whatever BCP-47 people write outside.

The table holds the hundred languages that Whisper's language tokens name.
"""

from __future__ import annotations

import difflib
from types import MappingProxyType

from streamtrans.core import UnsupportedLanguage

_TABLE = """
en English|zh Chinese|de German|es Spanish|ru Russian|ko Korean|fr French|ja Japanese|pt Portuguese|tr Turkish
pl Polish|ca Catalan|nl Dutch|ar Arabic|sv Swedish|it Italian|id Indonesian|hi Hindi|fi Finnish|vi Vietnamese
he Hebrew|uk Ukrainian|el Greek|ms Malay|cs Czech|ro Romanian|da Danish|hu Hungarian|ta Tamil|no Norwegian
th Thai|ur Urdu|hr Croatian|bg Bulgarian|lt Lithuanian|la Latin|mi Maori|ml Malayalam|cy Welsh|sk Slovak
te Telugu|fa Persian|lv Latvian|bn Bengali|sr Serbian|az Azerbaijani|sl Slovenian|kn Kannada|et Estonian
mk Macedonian|br Breton|eu Basque|is Icelandic|hy Armenian|ne Nepali|mn Mongolian|bs Bosnian|kk Kazakh
sq Albanian|sw Swahili|gl Galician|mr Marathi|pa Punjabi|si Sinhala|km Khmer|sn Shona|yo Yoruba|so Somali
af Afrikaans|oc Occitan|ka Georgian|be Belarusian|tg Tajik|sd Sindhi|gu Gujarati|am Amharic|yi Yiddish|lo Lao
uz Uzbek|fo Faroese|ht Haitian Creole|ps Pashto|tk Turkmen|nn Norwegian Nynorsk|mt Maltese|sa Sanskrit
lb Luxembourgish|my Burmese|bo Tibetan|tl Tagalog|mg Malagasy|as Assamese|tt Tatar|haw Hawaiian|ln Lingala
ha Hausa|ba Bashkir|jv Javanese|su Sundanese|yue Cantonese
"""

LANGUAGES: MappingProxyType[str, str] = MappingProxyType(
    {code: name for code, _, name in (entry.partition(" ") for entry in _TABLE.strip().replace("\n", "|").split("|"))}
)
"""Canonical code → English name."""

ALIASES: MappingProxyType[str, str] = MappingProxyType(
    {
        "jw": "jv",
        "iw": "he",
        "in": "id",
        "ji": "yi",
        "nb": "no",
        "cmn": "zh",
        "fil": "tl",
        "mo": "ro",
        "sh": "sr",
    }
)
"""Other codes for the same language; Whisper's own token for Javanese is ``jw``."""

_UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})


def canonical(code: str) -> str:
    """Return the code used inside for a BCP-47 tag: ``"zh-CN"`` → ``"zh"``.

    Raises:
        UnsupportedLanguage: the tag names no known language; the message says which one is nearest.
    """
    base = code.strip().replace("_", "-").lower().partition("-")[0]
    base = ALIASES.get(base, base)
    if base in LANGUAGES:
        return base
    raise UnsupportedLanguage(f"unknown language {code!r}: {_nearest(code)}")


def display_name(code: str) -> str:
    """Return the English name of a language."""
    return LANGUAGES[canonical(code)]


def joins_without_spaces(code: str) -> bool:
    """Say whether the language is written without spaces between words."""
    return canonical(code) in _UNSPACED


def _nearest(code: str) -> str:
    by_name = {name.lower(): known for known, name in LANGUAGES.items()}
    by_name.update({known: known for known in LANGUAGES})
    close = difflib.get_close_matches(code.strip().lower(), by_name, n=1, cutoff=0.6)
    if close:
        known = by_name[close[0]]
        return f"did you mean {known!r} ({LANGUAGES[known]})?"
    return "use a BCP-47 code such as 'en', 'zh' or 'pt-BR'"
