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
FULLER = 1.25
"""How many times longer a text at least is that has something added to it."""
WHOLE = 0.85
"""How much of its usual length a text has behind what announces it."""
QUOTED_SIGNS = 8
"""Letters that a source at least has, in a script without spaces, of which a text is said to have all."""

_I = re.IGNORECASE
_KNOWN = frozenset(re.findall("..", "endeesfritptnlplruuksvdanozhjakoarhivi"))
"""Languages whose words for all of this are below; of others nobody can tell what a source speaks of."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_COLON = re.compile("[:：]")
_TASK = re.compile(
    r"translat|transcri|transkri|übersetz|übertrag|dolmetsch|sprachmittl|tradu[cçiîjrtz]|trascri|vertal|tolk|tłumac|przekł"
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
_SPOKEN_OF = re.compile(
    r"(?<!\bin )translat|übersetz|traduc|tradui|tradur|tradutt|traduz|翻译|译文|译者|翻訳|번역",
    _I,
)
"""Words that a text has only of a source that speaks of translating."""
_ASSISTANT = re.compile(
    r"\bai (?:assistant|language model)|\bki-(?:assistent|sprachmodell)|\basistente de (?:ia|inteligencia)\b"
    r"|\bassistant ia\b|\bassistente (?:ia|di intelligenza)\b|人工智能(?:助手|语言模型)",
    _I,
)
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
_HELPING = re.compile(
    r"\bhelp|assist|hilf|helf|behilf|ayud|\baid|aiut|ajud|\bhulp|hjälp|hj[eæ]lp|pom[oó]|помо|допомо|مساعد|मदद|giúp"
    r"|帮|幫|助|도와|도움",
    _I,
)
"""Words for helping, in whatever form."""
_HELPLESS = re.compile(
    r"\b(?:can(?:no|['’])t|can not|unable to|not able to)\b[^.!?]{0,20}\b(?:assist|help)\b[^.!?]{0,12}\bwith"
    r"|\b(?:dabei|damit|anfrage) kann ich\b[^.!?]{0,20}nicht helfen|\bne peux\b[^.!?]{0,40}\bvous aider"
    r"|\bno puedo\b[^.!?]{0,30}\bayudar|\bnon posso\b[^.!?]{0,30}\baiutar"
    r"|(?:无法|不能)[^。！？]{0,12}协助|帮不了你",
    _I,
)
"""What people who are sorry say as well as models."""
_HELPFUL = re.compile(
    r"\b(?:how|else)\b[^.!?]{0,12}\bI\b[^.!?]{0,12}\b(?:assist|help)|\bhappy to (?:assist|help)"
    r"|\bhope (?:this|that) helps|\bkann ich (?![^.!?]*nicht)[^.!?]{0,40}(?:helfen|behilflich)"
    r"|\bhelfe (?:ihnen |dir )?gern|\bhoffe,? das hilft|\b(?:puis-je|ravi de)\b[^.!?]{0,40}\baider"
    r"|\bcela (?:vous|t['’])\s?aide"
    r"|\bpueda?\b[^.!?]{0,30}\bayudar|\bpuedo ayudar|\bgusto te ayudo|\besto te ayude"
    r"|\bposso aiutar|\bfelice di aiutar|我可以帮您|对您有帮助|很乐意帮忙",
    _I,
)
"""What helpful models say besides or instead, and people who speak of helping."""
_CONTENT = re.compile(
    r"\b(?:provide|share|give) (?:me )?(?:the|more) (?:text|context|content)|\btext mit(?:teilen)?\b|\bmehr kontext"
    r"|\bproporcion[ae] el texto|\bcomparte el texto|\bmás contexto|\b(?:fournir|partager) le texte|\bplus de contexte"
    r"|\b(?:fornisci|condividi) il testo|\bpiù contesto|(?:提供|分享)[^。！？]{0,8}(?:文本|上下文)"
    r"|\bmessage is incomplete|\bnachricht scheint unvollständig|\bmensaje está incompleto|\bmessage semble incomplet"
    r"|\bmessaggio sembra incompleto|消息似乎不完整",
    _I,
)
"""What they ask for who were given too little."""
_MATTER = re.compile(
    r"te[kx]s?t|testo|contest|zusammenh|hintergr|messag|nachricht|mensa[jg]|bericht|melding|besked|wiadom"
    r"|текст|сообщ|повідом|نص|سياق|رسال|पाठ|संदर्भ|संदेश|văn bản|ngữ cảnh|tin nhắn"
    r"|[文内內背消訊讯本脈]|テキスト|텍스트|문맥|메시지",
    _I,
)
"""Words for texts and for what stands around them."""
_ABOUT = re.compile(
    r"\b(?:sentence|text|means?|english|german|spanish|french|italian|chinese|satz|bedeutet|deutsch|frase|texto|significa"
    r"|español|phrase|texte|veut dire|français|testo|italiano)\b|意思|中文|文本",
    _I,
)
"""Words for what somebody wrote, and for its language, as one announces it."""
_DIVIDED = re.compile(r"\n|[(\[（【][^)\]）】]*[)\]）】]\W*\Z")
"""What nobody says: lines, and brackets at the end."""
_BRACKETS = re.compile(r"[\n()\[\]（）【】:：]")
_CLOSING = re.compile(
    r"\blet me know if|\blass (?:es )?mich wissen|\blassen sie (?:es )?mich wissen|\bavísame si|\bh[aá]zmelo saber"
    r"|\bn['’]hésitez pas|\bfammi sapere|\bfatemi sapere|请(?:随时)?告诉我\W*\Z",
    _I,
)
"""How they take their leave, behind a text that is whole without it."""
_COMMAND = re.compile(r"<\|[a-z_]+\|>")
_FRAME = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]|^#+ (?:Response|Instruction)\b", re.MULTILINE)
"""What a model's prompt is made of: who hears for himself may hear the latter named."""
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
_MARKS = re.compile(r"[\"“”„«»「」『』:：-]|[–—]|(?<!\w)['‘’]|['‘’](?!\w)")
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
    if (_FRAME.search(text) and not _FRAME.search(source.text)) or _quoted(text, language, source):
        return True
    if _refuses(text, source) or ((_PROMPT.search(text) or _opens(text, source.text)) and _silent(source)):
        return True
    doubtful = _assists(text, source) or _remark(text, source) is not None or _dressed(text, source.text)
    return False if doubtful or _says_more(text, language, source) else None


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


def _quoted(text: str, language: str, source: Source) -> bool:
    """Say whether a text has all of its source in it, as it was asked for, and something else besides."""
    said, written = (_letters(each).lower() for each in (source.text, text))
    plain = sum(word.islower() for word in _WORD.findall(source.text)) >= COPIED_WORDS or len(said) >= QUOTED_SIGNS
    return plain and said != written and f" {said} " in f" {written} " and tells_apart(language, source.language)


def _letters(text: str) -> str:
    return " ".join(_WORD.findall(text))


def _finds(text: str, *patterns: re.Pattern[str]) -> bool:
    return any(pattern.search(text) for pattern in patterns)


def _refuses(text: str, source: Source) -> bool:
    """Say whether a text certainly refuses its task: its source neither refuses nor speaks of models."""
    refused = _finds(text, _REFUSAL) or (_finds(text, _UNTRANSLATED) and _finds(text, _SORRY))
    return refused and not _finds(source.text, _MODEL, _SORRY, _NOT) and _silent(source)


def _assists(text: str, source: Source) -> bool:
    """Say whether a text speaks of translating, of a model or of helping, as its source doesn't."""
    said = source.text
    assists = (
        (_finds(text, _SPOKEN_OF, _HELPLESS) and not _finds(said, _SORRY, _NOT))
        or (_finds(text, _HELPFUL) and not _finds(said, _HELPING))
        or (_finds(text, _ASSISTANT) and not _finds(said, _MODEL))
        or (_finds(text, _CONTENT) and not _finds(said, _MATTER))
    )
    return assists and _silent(source)


def _says_more(text: str, language: str, source: Source) -> bool:
    """Say whether a text is longer than what was said would be, and divided, announced or closed as nobody speaks."""
    stripped, usual = text.strip(), _usual(language, source)
    if len(stripped) > LONGER * usual + SLACK:
        return True
    if len(stripped) < FULLER * usual or _BRACKETS.search(source.text):
        return False
    opening = _OPENING.match(stripped)
    whole = opening is not None and len(stripped) - len(opening[0]) >= WHOLE * usual
    announced = opening is not None and whole and _ABOUT.search(opening[0]) is not None
    closing = _CLOSING.search(stripped)
    closed = closing is not None and closing.start() >= WHOLE * usual
    return announced or closed or _DIVIDED.search(stripped) is not None


def _dressed(text: str, known: str) -> bool:
    """Say whether a text is in quotation marks, or marked up, and its source isn't."""
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] in _QUOTES and stripped[-1] in _QUOTES[stripped[0]]:
        return not _MARKS.search(known) and _MARKS.search(stripped[1:-1]) is None
    return _DRESSING.search(text) is not None and not re.search(r"[*`#]", known)


def _usual(language: str, source: Source) -> float:
    """Return how many characters a source usually has in another language."""
    return len(source.text.strip()) * len(articles()[language]) / len(articles()[source.language])
