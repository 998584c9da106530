"""What surrounds an entity and must fit it: articles, elision, possessives and prepositions.

Small tables and rules for six languages; whatever they don't cover, :mod:`.refill` leaves alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SLOT = re.compile(r"\[\s*(\w+)\s*:\s*([^\]]*?)\s*\]")
"""A slot of a template, ``[slot : value]``."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AGREEING: Mapping[str, frozenset[str]] = {
    "en": _words("a an the my your his her our their this that these some any every"),
    "de": _words(
        """der die das dem den des ein eine einen einem einer eines im am ans ins vom beim zum zur mein meine
        meinen meinem meiner dein deine unser unsere unserem sein seine ihr ihre dieser diese dieses diesem"""
    ),
    "es": _words("""el la los las un una unos unas al del mi mis tu tus su sus nuestro nuestra este esta ese esa lo"""),
    "fr": _words("""le la les l' un une des au aux du mon ma mes ton ta tes son sa ses notre nos ce cet cette en"""),
    "it": _words(
        """il lo la l' gli i le un uno una un' al allo alla ai agli alle all' del dello della dei degli delle
        dell' nel nello nella nei nelle nell' dal dallo dalla dall' sul sullo sulla sull' coi col mio mia miei
        mie tuo tua suo sua nostro nostra questo questa"""
    ),
}
"""Words that agree in gender, number or case with what follows: behind one of these nothing is exchanged."""

UNBOUND: Mapping[str, frozenset[str]] = {
    # Clock times are feminine plurals in Spanish and Italian, whatever the hour (one o'clock is left out).
    "clock": _words("las le alle dalle les the"),
    "clock_plain": _words("las le alle dalle les the"),
    # Companies are masculine by default there; :func:`join` chooses between il, lo and l'.
    "brand": _words("el al del il lo l' allo all' dello dell' dal dallo dall'"),
    # Games are masculine in the Romance languages and neuter in German.
    "game": _words("das el al del le au du il lo l' all' dell'"),
}
"""Group → words that don't bind its entries."""

COMMON_NOUNS = _words(
    """mom mum dad mother father wife husband boss brother sister friend friends family everyone everybody
    all contacts contact team me him her them us someone uncle aunt grandma grandpa son daughter
    neighbor roommate colleague coworker coworkers manager secretary doctor dentist mechanic
    landlord parents kids children people somebody president anyone world home house office work
    airport station city town here area mall downtown store bar pub song songs music album track
    playlist news next last previous new latest this my radio episode podcast game games one two
    three four five six seven eight nine ten hundred street road avenue park school church theater
    theatre university bank hotel hospital center centre county state country near nearest miles
    location mr. mrs. ms. dr. service"""
)
"""English words that no name contains: a value with one of them describes something."""

# What the tables put into a slot although it belongs to the sentence around it.
_PREFIX: Mapping[str, re.Pattern[str]] = {
    "en": re.compile(r"(at|to|from|for|by) "),
    "de": re.compile(r"(an|von|bei) "),
    "es": re.compile(r"(a|de|para) "),
    "fr": re.compile(r"(à|de|chez) |d'"),
    "it": re.compile(r"(a|ad|di|da) |d'"),
    "zh": re.compile(r"([给向在]) ?"),
}
_POSSESSIVE: Mapping[str, tuple[tuple[str, str], ...]] = {
    # What a name ends in → what is written behind the new one.
    "en": (("'s", "'s"), ("s", "'s")),
    "de": (("'s", "s"), ("s", "s")),
    "zh": (("的", " 的"),),
}
_NAMING = _words("person artist_name business_name audiobook_author")

# Between two slots of a kind these show that both come in the same order in every language.
_BETWEEN: Mapping[str, re.Pattern[str]] = {
    "en": re.compile(r"to( the)?|and( the)?|into|in|for|or|per|versus|vs"),
    "de": re.compile(r"nach|und|zu|zum|in|oder|gegen|gegenüber|auf|pro|bis|bis nach|und dem|und der"),
    "es": re.compile(r"a|y|en|o|por|hasta|hacia|y el|al|contra|frente a"),
    "fr": re.compile(r"à|et|en|ou|pour|vers|jusqu'à|par|contre|et le|et l'"),
    "it": re.compile(r"a|ad|e|ed|in|o|per|verso|fino a|al|e il|e l'"),
    "zh": re.compile(r"到|和|与|或|还是|兑|对|兑换|兑换成|换成|换|去|至|转换成|开往|飞往|转换为|换算成"),
}

_ELISION_FR = re.compile(r"(?<![\w'])(?:(d|qu|jusqu)'\s*|(de|que|jusque)\s+)$")
_ELISION_IT = re.compile(r"(?<![\w'])d'\s*$")
_EUPHONIC_IT = re.compile(r"(?<![\w'])ad?\s+$")
_ARTICLE_IT = re.compile(r"(?<![\w'])(?:il\s+|lo\s+|l'\s*|(a|de|da|ne|su)l(?:lo\s+|l'\s*|\s+))$")
_SOUNDED_VOWEL = re.compile(r"[aeiouyàâäéèêëîïôöûüœh]")
_LO_IT = re.compile(r"s[^aeiou]|z|gn|ps|x|y")


def is_bound(value: str, before: str, language: str, unbound: frozenset[str]) -> bool:
    """Say whether ``value`` brings an article itself, or the word ``before`` it must agree with it."""
    agreeing = AGREEING.get(language, frozenset()) - unbound
    last = (before.replace("'", "' ").split() or [""])[-1]
    first = (value.replace("'", "' ").split() or [""])[0]
    return last in agreeing or first in agreeing


def freed(texts: Mapping[str, str]) -> dict[str, str]:
    """Move possessive endings and prepositions out of slots that hold a name: ``[person : john's]``."""
    owners = {
        match[1]
        for language, ending in (("en", "'s"), ("zh", "的"))
        for match in SLOT.finditer(texts.get(language, ""))
        if match[2].endswith(ending)
    }
    return {language: _freed(text, language, owners) for language, text in texts.items()}


def _freed(text: str, language: str, owners: set[str]) -> str:
    def free(match: re.Match[str]) -> str:
        slot, value, before, after = match[1], match[2], "", ""
        if slot not in _NAMING or language not in _PREFIX:
            return match[0]
        if (prefix := _PREFIX[language].match(value)) and len(value) > prefix.end() + 1:
            before, value = prefix[0], value[prefix.end() :]
        for ending, written in _POSSESSIVE.get(language, ()):
            if slot in owners and not after and value.endswith(ending):
                value, after = value.removesuffix(ending), written
        return f"{before}[{slot} : {value}]{after}"

    return SLOT.sub(free, text)


def same_order(texts: Mapping[str, str], slot: str) -> bool:
    """Say whether two slots of a kind are joined, in every language, by a word that keeps their order."""
    two = re.compile(rf"\[\s*{slot}\s*:[^\]]*\]([^\[]*)\[\s*{slot}\s*:")
    for language, text in texts.items():
        joined = two.findall(text)
        if len(joined) != 1 or language not in _BETWEEN:
            return False
        if _BETWEEN[language].fullmatch(joined[0].strip()) is None:
            return False
    return True


def join(text: str, value: str, language: str) -> str:
    """Append ``value`` to ``text``, in French and Italian with the form of the little word before it."""
    if language == "fr":
        return _join_french(text, value)
    if language == "it":
        return _join_italian(text, value)
    return text + value


def _join_french(text: str, value: str) -> str:
    """Write ``d'`` and ``qu'`` before vowels, ``de`` and ``que`` before consonants."""
    match = _ELISION_FR.search(text)
    if match is None:
        return text + value
    short = match[1] or match[2].removesuffix("e")
    ending = "'" if _SOUNDED_VOWEL.match(value) else "e "
    return f"{text[: match.start()]}{short}{ending}{value}"


def _join_italian(text: str, value: str) -> str:
    """Write ``il``, ``lo`` or ``l'`` (also in ``al``, ``del``…), ``a`` or ``ad``, ``d'`` or ``di``."""
    vowel = value[:1] in "aeiouàèéìòù"
    if match := _ARTICLE_IT.search(text):
        stem = text[: match.start()]
        if match[1]:
            ending = "ll'" if vowel else "llo " if _LO_IT.match(value) else "l "
        else:
            ending = "l'" if vowel else "lo " if _LO_IT.match(value) else "il "
        return f"{stem}{match[1] or ''}{ending}{value}"
    if match := _EUPHONIC_IT.search(text):
        return f"{text[: match.start()]}{'ad' if value.startswith('a') else 'a'} {value}"
    if not vowel and (match := _ELISION_IT.search(text)):
        return f"{text[: match.start()]}di {value}"
    return text + value
