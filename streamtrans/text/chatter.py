"""What a model that is asked in words writes besides a translation: talk about its task, refusals, its prompt, a copy.

```
 Here is the translation: Guten Morgen. (Note: informal)     "Guten Morgen."      Translate the following text …
 ------- opening --------               ---- remark ----     - dressing -         ---- the prompt ----
```
What the source holds too is a translation of it, and so is what a source may mean that speaks of such things itself:
of translating, of a model, or that somebody is sorry. Law: what people would write for a source is none of all this.
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
    r"translat|transcri|übersetz|tradu[cçzit]|trascri|vertal|tłumac|przekład|oversæt|oversett|översätt"
    r"|dịch|перев[оеё]|перекл|ترجم|अनुवाद|翻译|翻譯|翻訳|译文|訳|번역",
    _I,
)
"""Words for what was asked of the model."""
_MODEL = re.compile(
    r"\b(?:ai|ki|ia|mi|ии|ші)\b|artific|künstlich|kunstmatig|konstgjord|kunstig|sztuczn"
    r"|inteligen|искусств|штучн|ذكاء|एआई|कृत्रिम|trí tuệ|인공|人工|model|модел|malli|모델|模型|モデル|نموذج|मॉडल|mô hình",
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
    r"n['’]t\b|\b(?:not?|never|cannot|unable|nicht|kein\w*|nein|nie|niemand|ne|pas|non|né|não|niet|geen|nikt|nic|nigdy"
    r"|не\w*|ні\w*|inte|ikke|ikkje|không)\b|[不没無未别]|ない|ません|없|못|안|아니|لا|ليس|لم|لن|नहीं|मत",
    _I,
)
"""Who can't, says no: a refusal of the speaker's own has one of these."""
_OPENING = re.compile(r"[^:：\n]{0,120}[:：]")
_LEAD = re.compile(
    r"\W*(?:(?:sure|certainly|of course)\b[^:\n]{0,30})?(?:here(?:['’]s| is)\b[^:\n]{0,40})?"
    r"\b(?:translat|transcri)\w*[^:\n]{0,20}:"
    r"|\W*the (?:original )?(?:content|transcript(?:ion)?|text) of (?:this|the) (?:audio|speech|recording|clip)\b"
    r"[^:\n]{0,40}:",
    _I,
)
"""How those begin who were asked about what they heard."""
_REFUSAL = re.compile(
    r"\bas an? (?:(?:ai|artificial intelligence)\b(?: (?:language )?(?:model|assistant))?\s*,|(?:large )?language"
    r" model\b)"
    r"|\bi(?:['’]m| am) (?:just |only )?an? (?:ai )?(?:(?:large )?language model|ai assistant)\b"
    r"|\bals (?:eine? )?(?:ki|künstliche intelligenz|sprachmodell)\b[^.!?]{0,20}\bkann\b"
    r"|\ben tant qu(?:e |['’])(?:ia\b|intelligence artificielle|modèle)"
    r"|\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\s*,"
    r"|\b(?:come|in quanto) (?:una? )?(?:ia|intelligenza artificiale|modello linguistico)\s*,"
    r"|作为(?:一个|一名)?(?:ai|人工智能|语言模型|大?模型)",
    _I,
)
_UNABLE = re.compile(
    r"\b(?:can(?:no|['’])t|can not|unable to|not able to)\b[^.!?]{0,20}"
    r"\b(?:assist|help)\b[^.!?]{0,12}\bwith (?:that|this|your)\b|\bnot (?:able to )?(?:translate|transcribe)\b"
    r"|\b(?:can(?:no|['’])t|unable to) (?:translate|transcribe)\b"
    r"|\bkann\b[^.!?]{0,60}\bnicht (?:übersetzen|transkribieren)"
    r"|\bne (?:peux|suis)\b[^.!?]{0,40}\b(?:traduire|vous aider)|\bno puedo\b[^.!?]{0,30}\b(?:traducir|ayudar)"
    r"|\bnon posso\b[^.!?]{0,30}\b(?:tradurre|aiutar)|(?:无法|不能)[^。！？]{0,12}(?:翻译|协助)",
    _I,
)
_COMMAND = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]")
_PROMPT = re.compile(
    r"\btranslate the following text from \w+ (?:in)?to \w+|^\W*(?:translate|transcribe) the speech\b", _I
)
_REMARKS = (
    r"note|notes|explanation|translator['’]s note|anmerkung|hinweis|erklärung|remarque|explication|nota|notas"
    r"|explicación|spiegazione|注|说明|解释|注意"
)
_REMARK = re.compile(rf"(?:\s*[(\[（【]|\n\s*|(?<=[.!?。！？])\s+)[*_]*\b(?:{_REMARKS})\b[*_]*\s*[:：]", _I)
_REMARKING = re.compile(
    rf"{_REMARKS}|beacht|bemerk|erklär|expli|spieg|opmerk|uwag|pozn|huom|примеч|объясн|поясн|説明|解説|설명", _I
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
    known = source.language in _KNOWN and not _TASK.search(source.text)
    if known and (_PROMPT.search(text) or _opens(text, source.text) or _refuses(text, source.text)):
        return True
    return False if _dressed(text, source.text) or _longer(text, language, source) else None


def remark(text: str, source: Source | None) -> int:
    """Return how many characters of a text there are before it goes on to explain itself: all of them mostly."""
    if source is None or source.language not in _KNOWN or _COLON.search(source.text):
        return len(text)
    found = None if _REMARKING.search(source.text) else _REMARK.search(text, 1)
    return found.start() if found is not None and text[: found.start()].strip() else len(text)


def _opens(text: str, known: str) -> bool:
    """Say whether a text begins by announcing itself."""
    found = _OPENING.match(text)
    return found is not None and not _COLON.search(known) and _TASK.search(found[0]) is not None


def _refuses(text: str, known: str) -> bool:
    """Say whether a text refuses, and its source neither does nor speaks of models."""
    if any(spoken.search(known) for spoken in (_MODEL, _SORRY, _NOT)):
        return False
    return _REFUSAL.search(text) is not None or (_UNABLE.search(text) is not None and _SORRY.search(text) is not None)


def _dressed(text: str, known: str) -> bool:
    """Say whether a text is in quotation marks, or marked up, and its source isn't."""
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] in _QUOTES and stripped[-1] in _QUOTES[stripped[0]]:
        return not _MARKS.search(known) and _MARKS.search(stripped[1:-1]) is None
    return _DRESSING.search(text) is not None and not re.search(r"[*`#]", known)


def _longer(text: str, language: str, source: Source) -> bool:
    """Say whether a text says far more than its source can."""
    usual = len(articles()[language]) / len(articles()[source.language])
    return len(text.strip()) > LONGER * usual * len(source.text.strip()) + SLACK
