"""What a model that is asked in words writes besides a translation: talk about its task, refusals, its prompt, a copy.

```
 Here is the translation: Guten Morgen. (Note: informal)     "Guten Morgen."      Translate the following text …
 ------- opening --------               ---- remark ----     - dressing -         ---- the prompt ----
```
What the source holds too is a translation of it, and so is what a source may mean that speaks of such things itself:
of translating, of a model, or that somebody is sorry. Law: what people would write for a source is none of all this for
certain, and nothing of it is left out; a doubt may at most cause another reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamtrans.text.density import articles
from streamtrans.text.identify import tells_apart

COPIED_WORDS = 4
"""Different words without capitals that a copy has at least: names and cognates are right as they are."""
LONGER = 4
"""How many times longer than its source says a text that says more than it, with :data:`SLACK` letters besides."""
SLACK = 60

_I = re.IGNORECASE
_KNOWN = frozenset(re.findall("..", "endeesfritptnlplruuksvdanozhjakoarhivi"))
"""Languages whose words for all of this are below; of others nobody can tell what a source speaks of."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_COLON = re.compile("[:：]")
_TASK = re.compile(
    r"translat|transcri|transkri|übersetz|übertrag|dolmetsch|sprachmittl|tradu[cçiîtz]|trascri|vertal|tolk|tłumac|przekł"
    r"|przeło|oversæt|oversett|översätt|omset|interpr|version|versi[oó]n|fassung|dịch|phiên|перев[оеё]|перекл|тлумач|толмач|верси|версі"
    r"|ترجم|अनुवाद|तर्जुम|翻|译|譯|訳|번역|통역",
    _I,
)
"""Words for what was asked of the model, and for what people may mean by them."""
_TRANSLATION = re.compile(
    r"(?<!\bin )\btranslation\b|\btranslated (?:text|version)\b|\btranslates to\b|\btraduction\b|\btraducción\b"
    r"|\btraduzione\b|\btradução\b|\bübersetzung\b|\bvertaling\b|\böversättning|\boversettelse|\boversættelse"
    r"|\bbản dịch\b|译文|翻[译譯](?=如下|是|为|[:：])|翻訳(?![家者])|번역(?![가사자])",
    _I,
)
"""Words that mean nothing but a translation, which others for it don't: перевод is a transfer, too."""
_MODEL = re.compile(
    r"\b(?:ai|ki|ia|mi|ии|ші|bot|gpt)\b|artific|künstlich|kunstmatig|konstgjord|kunstig|sztuczn"
    r"|inteligen|искусств|штучн|ذكاء|एआई|कृत्रिम|trí tuệ|인공|人工|mod[eè]l|malli|модел|모델|模型|モデル|نموذج|मॉडल"
    r"|mô hình",
    _I,
)
_SORRY = re.compile(
    r"sorry|apolog|regret|afraid|unfortun|\bleid|entschuld|verzei|bedau|leider|schade|désol|excus|malheur|pardon|siento"
    r"|lament|perd[oó]n|disculp|sentimos|desafort|desgraci|spiac|scus|purtroppo|peccato|desculp|infeliz|spijt|helaas"
    r"|jammer|przepr|niestet|przykro|tyvärr|ledsen|desværre|dessverre|beklag"
    r"|извин|прост|жаль|сожал|вибач|шкода|آسف|أسف|दुर्भाग|माफ|क्षमा|tiếc|xin lỗi"
    r"|抱歉|对不起|不好意思|遗憾|可惜|残念|すみません|申し訳|ごめん|죄송|유감|미안",
    _I,
)
_NOT = re.compile(
    r"imposs|unmög|onmog|omöj|n['’]t\b"
    r"|\b(?:not?|never|cannot|unable|nicht|kein\w*|nein|nie|niemand|ne|pas|non|né|não|niet|geen|nikt|nic|nigdy"
    r"|не\w*|ні\w*|inte|ikke|ikkje|không)\b|[不没無未别]|ない|ません|없|못|안|아니|لا|ليس|لم|لن|नहीं|मत",
    _I,
)
"""Who can't, says no: a refusal of the speaker's own has one of these."""
_OPENING = re.compile(r"[^:：\n]{0,120}[:：]")
_LEAD = re.compile(
    r"\W*(?:(?:sure|certainly|of course)\b[^:\n]{0,30})?(?:here(?:['’]s| is)\b[^:\n]{0,40})?"
    r"\b(?:translat|transcri)\w*[^:\n]{0,20}:"
    r"|\W*the (?:original )?(?:content|transcript(?:ion)?|text) of (?:this|the) (?:audio|recording|clip)\b"
    r"[^:\n]{0,40}:"
    r"|\W*(?:translate|transcribe) the speech\b",
    _I,
)
"""How those begin who were asked about what they heard, or who repeat it."""
_REFUSAL = re.compile(
    r"\bas an? (?:(?:ai|artificial intelligence|large) )+language model\b|\bals (?:ki-|großes )?sprachmodell\b"
    r"|\ben tant que modèle de langage\b|\bcomo (?:un )?modelo de (?:lenguaje|linguagem)\b"
    r"|\bcome modello linguistico\b|作为(?:一个|一名)?(?:ai|人工智能|大)?语言模型",
    _I,
)
_UNTRANSLATED = re.compile(
    r"\b(?:can(?:no|['’])t|can not|unable to|not able to) (?:translate|transcribe)\b"
    r"|\bkann\b[^.!?]{0,60}\bnicht (?:übersetzen|transkribieren)|\bne peux\b[^.!?]{0,40}\btraduire"
    r"|\bno puedo\b[^.!?]{0,30}\btraducir|\bnon posso\b[^.!?]{0,30}\btradurre|(?:无法|不能)[^。！？]{0,12}翻译",
    _I,
)
_HELPLESS = re.compile(
    r"\b(?:can(?:no|['’])t|can not|unable to|not able to)\b[^.!?]{0,20}\b(?:assist|help)\b[^.!?]{0,12}\bwith"
    r"|\bne peux\b[^.!?]{0,40}\bvous aider|\bno puedo\b[^.!?]{0,30}\bayudar|\bnon posso\b[^.!?]{0,30}\baiutar"
    r"|(?:无法|不能)[^。！？]{0,12}协助",
    _I,
)
"""What people who are sorry say as well as models."""
_COMMAND = re.compile(r"<\|[a-z_]+\|>")
_PROMPT = re.compile(r"\btranslate the following text from \w+ (?:in)?to \w+", _I)
_REMARKS = (
    r"note|notes|explanation|translator['’]s note|anmerkung|hinweis|erklärung|remarque|explication|nota|notas"
    r"|explicación|spiegazione|注|说明|解释|注意"
)
_NOTE = rf"[*_]*\b(?:{_REMARKS})\b[*_]*\s*[:：]"
_REMARK = re.compile(
    rf"\s*[(\[（【]{_NOTE}[^)\]）】]*[)\]）】]?[\s.*_]*\Z|(?:\n|(?<=[.!?])\s|(?<=[。！？]))\s*{_NOTE}", _I
)
_REMARKING = re.compile(
    rf"{_REMARKS}|beacht|bemerk|erklär|expli|spieg|opmerk|uwag|pozn|huom|примеч|объясн|поясн|説明|解説|설명"
    r"|achtung|info|atten[tz]|atenci|aviso|merk",
    _I,
)
_DRESSING = re.compile(r"\*\*[^\W\d][^*]*\*\*|```|^\s*#{1,6}\s+[^\W\d]|^\s*\*\s+[^\W\d]", _I)
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』"}
_MARKS = re.compile("[\"“”„«»「」『』‘’':：-]|[–—]")
"""What shows that somebody is quoted, in one way or another."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is translated, and in which language it is."""

    text: str
    language: str


def copied(text: str, language: str, source: Source) -> bool:
    """Say whether a translation into ``language`` is its source, word by word, and shouldn't be.

    Names, numbers, cognates and answers of a word or two are the same in many languages, and languages that the
    identifier takes for each other have whole sentences in common.
    """
    words = _WORD.findall(text)
    plain = {word for word in words if word.islower()}
    same = [word.lower() for word in words] == [word.lower() for word in _WORD.findall(source.text)]
    return same and len(plain) >= COPIED_WORDS and tells_apart(language, source.language)


def talk(text: str, language: str, source: Source | None) -> bool | None:
    """Say whether a text talks instead of translating, and whether that is certain; ``None`` where it doesn't.

    Args:
        text: as a model wrote it.
        language: canonical code of what was asked for.
        source: what it was to translate; ``None`` where it heard that itself.
    """
    if source is None:
        return True if _COMMAND.search(text) else False if _PROMPT.search(text) or _LEAD.match(text) else None
    if _COMMAND.search(text) and not _COMMAND.search(source.text):
        return True
    refuses = _refuses(text, source)
    if refuses or (_silent(source) and (_PROMPT.search(text) or _opens(text, source.text))):
        return True
    doubtful = refuses is False or _remark(text, source) is not None or _dressed(text, source.text)
    return False if doubtful or len(text.strip()) > LONGER * _usual(language, source) + SLACK else None


def remark(text: str, language: str, source: Source | None) -> int:
    """Return how many characters of a text there are before it goes on to explain itself: all of them mostly.

    A remark is left out only behind a text as long as its source would make it: others may be what somebody said.
    """
    start = None if source is None else _remark(text, source)
    whole = source is not None and start is not None and len(text[:start].strip()) >= _usual(language, source)
    return start if start is not None and whole else len(text)


def _silent(source: Source) -> bool:
    """Say whether a source certainly doesn't speak of translating."""
    return source.language in _KNOWN and not _TASK.search(source.text)


def _remark(text: str, source: Source) -> int | None:
    """Return where a text may begin to explain itself."""
    if source.language not in _KNOWN or _COLON.search(source.text) or _REMARKING.search(source.text):
        return None
    found = _REMARK.search(text, 1)
    return found.start() if found is not None and text[: found.start()].strip() else None


def _opens(text: str, known: str) -> bool:
    """Say whether a text begins by announcing itself."""
    found = _OPENING.match(text)
    return found is not None and not _COLON.search(known) and _TRANSLATION.search(found[0]) is not None


def _refuses(text: str, source: Source) -> bool | None:
    """Say whether a text refuses its task, and for certain, where its source neither refuses nor speaks of models."""
    if not _silent(source) or any(spoken.search(source.text) for spoken in (_MODEL, _SORRY, _NOT)):
        return None
    if _REFUSAL.search(text):
        return True
    if _SORRY.search(text) is None:
        return None
    return True if _UNTRANSLATED.search(text) else False if _HELPLESS.search(text) else None


def _dressed(text: str, known: str) -> bool:
    """Say whether a text is in quotation marks, or marked up, and its source isn't."""
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] in _QUOTES and stripped[-1] in _QUOTES[stripped[0]]:
        return not _MARKS.search(known) and _MARKS.search(stripped[1:-1]) is None
    return _DRESSING.search(text) is not None and not re.search(r"[*`#]", known)


def _usual(language: str, source: Source) -> float:
    """Return how many characters a source usually has in another language."""
    return len(source.text.strip()) * len(articles()[language]) / len(articles()[source.language])
