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
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_COLON = re.compile("[:：]")
_TASK = re.compile(
    r"translat|transcri|übersetz|tradu[cçzit]|trascri|vertal|tłumac|oversæt|oversett|översätt|přelož|překlad"
    r"|käänn|käänt|fordít|terjemah|prev[oe]d|prijevod|dịch|перев[оеё]|перекл|μετ[αά]φρ|תרגו|ترجم|अनुवाद|แปล"
    r"|翻译|翻譯|翻訳|译文|訳|번역|çevir",
    _I,
)
"""Words for what was asked of the model, in the languages that most is translated from and into."""
_MODEL = re.compile(
    r"\b(?:ai|ki|ia|ии)\b|artificial|künstlich|artific|искусств|model|人工智能|模型|人工知能|モデル", _I
)
_SORRY = re.compile(
    r"sorry|apolog|regret|afraid|unfortunat|\bleid|entschuld|verzei|bedaue|leider|désol|excus|regrett|pardon|siento"
    r"|lament|perdon|perdón|disculp|sentimos|spiac|scus|purtroppo|desculp|spijt|przepr|извин|прост|жаль"
    r"|抱歉|对不起|不好意思|遗憾|すみません|申し訳|ごめん|죄송",
    _I,
)
_OPENING = re.compile(r"[^:：\n]{0,120}[:：]")
_SPOKEN = re.compile(
    r"\b(?:audio|speech|recording|speaker|clip|transcript)\b[^:：\n]{0,60}\b(?:says?|said|saying|is|content)\b", _I
)
_REFUSAL = re.compile(
    r"\b(?:as|i['’]m|i am) an? (?:ai|artificial|(?:large )?language model)\b"
    r"|\b(?:als|bin) (?:eine? )?(?:ki\b|künstliche intelligenz|sprachmodell)"
    r"|\ben tant qu(?:e |['’])(?:ia\b|intelligence|modèle)|\bcomo (?:una? )?(?:ia\b|inteligencia|modelo de)"
    r"|\b(?:come|in quanto) (?:una? )?(?:ia\b|intelligenza|modello)"
    r"|作为(?:一个|一名)?(?:ai|人工智能|语言模型|大?模型)",
    _I,
)
_UNABLE = re.compile(
    r"\b(?:can(?:no|['’])t|can not|unable to|not able to)\b[^.!?]{0,40}"
    r"\b(?:assist|translat|transcri|provid|fulfil|comply|process)"
    r"|\bkann\b[^.!?]{0,60}\bnicht (?:übersetzen|bearbeiten|beantworten|transkribieren)"
    r"|\bne (?:peux|suis)\b[^.!?]{0,40}\b(?:traduire|aider|transcrire)"
    r"|\bno puedo\b[^.!?]{0,30}\b(?:traducir|ayudar|transcribir)"
    r"|\bnon posso\b[^.!?]{0,30}\b(?:tradurre|aiutar|trascrivere)|(?:无法|不能)[^。！？]{0,12}(?:翻译|协助|提供)",
    _I,
)
_PROMPT = re.compile(
    r"<\|?[a-z_]+\|?>|\[/?inst\]|\b(?:translate|transcribe) the (?:following|speech|text|audio)\b"
    r"|^\W*(?:system|user|assistant)\s*[:\n]",
    _I,
)
_REMARK = re.compile(
    r"\s*[(\[（【*_]*\b(?:note|notes|explanation|translator['’]s note|anmerkung|hinweis|erklärung|remarque|explication"
    r"|nota|notas|explicación|spiegazione|注|说明|解释|注意)\**\s*[:：]",
    _I,
)
_ASIDE = re.compile(r"(?:\s*[(\[（【]|\n)" + _REMARK.pattern, _I)
"""The same where nobody knows what was said: in brackets, or on a line of its own."""
_DRESSING = re.compile(r"\*\*|```|^\s*#+\s|^\s*[-*•]\s", _I)
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』", "‘": "’", "'": "'"}
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
    known = source.text if source is not None else ""
    if _PROMPT.search(text) and not _PROMPT.search(known) and not _TASK.search(known):
        return True
    if _refuses(text, known) or _opens(text, known):
        return source is not None  # somebody may have said it
    if source is not None and (_dressed(text, known) or _longer(text, language, source)):
        return False
    return None


def remark(text: str, source: Source | None) -> int:
    """Return how many characters of a text there are before it goes on to explain itself: all of them mostly."""
    known = source.text if source is not None else ""
    stripped = text.strip()
    found = re.search("\n", stripped) if source is not None and "\n" not in known else None
    said = None if _COLON.search(known) else (_REMARK if source else _ASIDE).search(text, 1)
    ends = [at for at in (found and found.start() + text.index(stripped), said and said.start()) if at is not None]
    end = min(ends, default=len(text))
    return end if text[:end].strip() and not _opens(text[:end] + ":", known) else len(text)


def _opens(text: str, known: str) -> bool:
    """Say whether a text begins by announcing itself."""
    found = _OPENING.match(text)
    if found is None or _COLON.search(known) or _TASK.search(known):
        return False
    return bool(_TASK.search(found[0]) or _SPOKEN.search(found[0]))


def _refuses(text: str, known: str) -> bool:
    if _TASK.search(known) or _MODEL.search(known):
        return False
    unable = _UNABLE.search(text) is not None and _SORRY.search(text) is not None
    return _REFUSAL.search(text) is not None or (unable and not _SORRY.search(known))


def _dressed(text: str, known: str) -> bool:
    """Say whether a text is in quotation marks, or marked up, and its source isn't."""
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] in _QUOTES and stripped[-1] in _QUOTES[stripped[0]]:
        return not _MARKS.search(known) and _MARKS.search(stripped[1:-1]) is None
    return _DRESSING.search(text) is not None and not re.search(r"[*`#•-]", known)


def _longer(text: str, language: str, source: Source) -> bool:
    """Say whether a text says far more than its source can."""
    usual = len(articles()[language]) / len(articles()[source.language])
    return len(text.strip()) > LONGER * usual * len(source.text.strip()) + SLACK
