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


_SCRIPTS = """
cyrl ru uk bg mk be kk mn tg ba tt|arab ar fa ur ps sd|hebr he yi|deva hi mr ne sa|beng bn as|hans zh|jpan ja|kore ko
grek el|thai th|taml ta|mlym ml|telu te|knda kn|guru pa|sinh si|khmr km|geor ka|ethi am|gujr gu|laoo lo|mymr my|tibt bo
armn hy"""
_SCRIPT_OF = {
    code: script for script, *codes in map(str.split, _SCRIPTS.strip().replace("\n", "|").split("|")) for code in codes
}
"""The script that a language is written in where nobody says; of those not listed it is ``latn``."""
OF_TWO_SCRIPTS = frozenset({"sr", "uz", "yue"})
"""Written in two scripts, and models write either."""
_REGIONAL = MappingProxyType(
    dict.fromkeys(("zh-tw", "zh-hk", "zh-mo"), "hant")
    | dict.fromkeys(("pa-pk", "uz-af", "az-ir", "kk-cn", "tg-pk", "ms-bn"), "arab")
    | {"sr-me": "latn", "sd-in": "deva", "mn-cn": "mong", "yue-cn": "hans"}
)
"""Regions where a language is written in another script than elsewhere."""
_WORDS = MappingProxyType({"latin": "latn", "cyrillic": "cyrl", "arabic": "arab", "devanagari": "deva"})
"""What POSIX calls scripts, as in ``sr_RS@latin``."""


_THREE = """
af afr|am amh|ar arb|as asm|az azj|ba bak|be bel|bg bul|bn ben|bo bod|bs bos|ca cat|cs ces|cy cym|da dan|de deu|el ell
en eng|es spa|et est|eu eus|fa pes|fi fin|fo fao|fr fra|gl glg|gu guj|ha hau|he heb|hi hin|hr hrv|ht hat|hu hun|hy hye
id ind|is isl|it ita|ja jpn|jv jav|ka kat|kk kaz|km khm|kn kan|ko kor|lb ltz|ln lin|lo lao|lt lit|lv lvs|mg plt|mi mri
mk mkd|ml mal|mn khk|mr mar|ms zsm|mt mlt|my mya|ne npi|nl nld|nn nno|no nob|oc oci|pa pan|pl pol|ps pbt|pt por|ro ron
ru rus|sa san|sd snd|si sin|sk slk|sl slv|sn sna|so som|sq als|sr srp|su sun|sv swe|sw swh|ta tam|te tel|tg tgk|th tha
tk tuk|tl tgl|tr tur|tt tat|uk ukr|ur urd|uz uzn|vi vie|yi ydd|yo yor|yue yue|zh zho
br bre|la lat|haw haw
"""
_THREE_OF = dict(entry.split() for entry in _THREE.strip().replace("\n", "|").split("|"))
"""Canonical code → ISO 639-3, of the language that is meant where that names a group, as FLORES-200 has it."""
_GROUPS = """ara ar|aze az|est et|fas fa|lav lv|mlg mg|mon mn|msa ms|nep ne|nor no|pus ps|sqi sq|swa sw|uzb uz|yid yi"""
_OF_THREE = {three: code for code, three in _THREE_OF.items()} | dict(entry.split() for entry in _GROUPS.split("|"))


def canonical(code: str) -> str:
    """Return the code used inside for a BCP-47 tag: ``"zh-CN"`` → ``"zh"``. Script and region make no difference.

    Raises:
        UnsupportedLanguage: the tag names no known language; the message says which one is nearest.
    """
    base, *rest = _subtags(code)
    if base == "zh" and rest and len(rest[0]) == 3:  # a Chinese language of its own: zh-yue is Cantonese
        base = rest[0]
    base = ALIASES.get(base, base)
    if base in LANGUAGES:
        return base
    raise UnsupportedLanguage(f"unknown language {code!r}: {_nearest(code)}")


def written(code: str) -> str:
    """Return the canonical code of a language to write in, whose script is the one that models write.

    Raises:
        UnsupportedLanguage: the tag names no known language, or a script that nobody can be asked for.
    """
    language = canonical(code)
    base, *rest = _subtags(code)
    wanted = next((tag for tag in rest if len(tag) == 4 and tag.isalpha()), None)
    wanted = wanted or next((_REGIONAL[key] for tag in rest if (key := f"{language}-{tag}") in _REGIONAL), None)
    wanted = wanted or ("latn" if base == "sh" else None)
    if wanted is None or (wanted == script(language) and language not in OF_TWO_SCRIPTS):
        return language
    how = "either script" if language in OF_TWO_SCRIPTS else f"the script {script(language).title()}"
    raise UnsupportedLanguage(
        f"{code!r} asks for the script {wanted.title()}, which can't be chosen: models write"
        f" {LANGUAGES[language]} in {how}; ask for {language!r}"
    )


def three_letters(code: str) -> str:
    """Return the ISO 639-3 code of a canonical language: ``"deu"``."""
    return _THREE_OF[code]


def of_three_letters(code: str) -> str | None:
    """Return the canonical code for one of ISO 639-3, if we know that language."""
    return _OF_THREE.get(code)


def script(code: str) -> str:
    """Return the script that a canonical language is written in where nobody says: ``"latn"``."""
    return _SCRIPT_OF.get(code, "latn")


def region(code: str) -> str | None:
    """Return the region of a tag in capitals: ``"pt-BR"`` → ``"BR"``."""
    found = (
        tag for tag in _subtags(code)[1:] if (len(tag) == 2 and tag.isalpha()) or (len(tag) == 3 and tag.isdigit())
    )
    return next((tag.upper() for tag in found), None)


def _subtags(code: str) -> list[str]:
    """Return the parts of a tag in small letters; POSIX's ``de_DE.UTF-8`` and ``sr_RS@latin`` are read, too."""
    plain, _, script = code.strip().lower().partition("@")
    tags = plain.partition(".")[0].replace("_", "-").split("-")
    return [*tags, *([_WORDS.get(script, script)] if script else [])]


def display_name(code: str) -> str:
    """Return the English name of a language."""
    return LANGUAGES[canonical(code)]


def joins_without_spaces(code: str) -> bool:
    """Say whether the language is written without spaces between words."""
    return canonical(code) in _UNSPACED


def _nearest(code: str) -> str:
    if code.strip().lower() in ("auto", "any", "und", "mul"):
        return "leave the spoken language out where it isn't known; one to write has to be named"
    by_name = {name.lower(): known for known, name in LANGUAGES.items()}
    by_name.update({known: known for known in LANGUAGES})
    close = difflib.get_close_matches(code.strip().lower(), by_name, n=1, cutoff=0.7)
    if close:
        known = by_name[close[0]]
        return f"did you mean {known!r} ({LANGUAGES[known]})?"
    return "use a BCP-47 code such as 'en', 'zh' or 'pt-BR'"
