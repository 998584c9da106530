"""Where sentences end in every script, where a full stop is none, and what is promised only with what follows it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.text import LANGUAGES, Tokenizer, articles, train_tokenizer
from streamtrans.text.sentences import sentence_ends

WHOLE = [
    ("de", "Wir sehen uns am 3. Mai in Berlin."),
    ("de", "Der 1. Weltkrieg und der 21. Juni."),
    ("de", "Ludwig XIV. war ein König."),
    ("de", "Das sagt Dr. Meier mit Prof. Schmidt."),
    ("de", "Das ist z. B. Obst."),
    ("de", "Das sind z.B. Äpfel und u. a. Birnen, d. h. Obst."),
    ("de", "Um 10.30 Uhr sind es 3.5 Grad."),
    ("de", "Sie wohnt in St. Gallen, Nr. 5."),
    ("de", "Johann S. Bach und J. W. von Goethe"),
    ("de", '"Kommst du?" fragte sie.'),
    ("en", "Mr. Smith met Dr. Jones and Mrs. Brown."),
    ("en", "J. R. R. Tolkien and George W. Bush"),
    ("en", "It costs 3.50 at 10.30 on Nov. 3 at No. 5."),
    ("en", "The U.S. Army is in St. Louis."),
    ("en", "Open it at 5 p.m. today."),
    ("en", "She is at home, e.g. in bed, i.e. asleep."),
    ("en", "“Go!” he said."),
    ("en", "well... maybe"),
    ("fr", "M. Dupont et Mme. Martin"),
    ("es", "El Sr. García y la Dra. López de EE. UU. van."),
    ("it", "Il sig. Rossi e il dott. Bianchi"),
    ("pt", "O Sr. Silva e a Sra. Costa"),
    ("nl", "Dhr. Jansen en mevr. De Vries"),
    ("pl", "Spotkamy się z dr. Nowakiem o godz. 10"),
    ("cs", "Sejdeme se 3. Května v Praze."),
    ("da", "Vi ses den 3. Maj."),
    ("fi", "Tapaamme 3. Toukokuuta."),
    ("hu", "Május 3. napján"),
    ("tr", "Prof. Dr. Ali 3. Gün geldi."),
    ("sr", "Видимо се 3. Маја."),
    ("ru", "А. С. Пушкин, т. е. поэт, ул. Ленина, д. 5"),
    ("uk", "Т. Г. Шевченко жив на вул. Садовій."),
    ("el", "Ο κ. Παπαδόπουλος ήρθε."),
    ("hi", "डॉ. शर्मा आए"),
    ("bn", "ডা. রহমান আসেন"),
    ("ta", "திரு. குமார் வந்தார்"),
    ("ar", "د. أحمد هنا"),
    ("vi", "TP. Hồ Chí Minh"),
    ("id", "Jl. Sudirman No. 5"),
    ("ja", "「はい。」と言った"),
]
ENDS = [
    ("en", "I went home. ", "Then I slept."),
    ("en", 'He said "Go." ', "Then he left."),
    ("en", "She said, “Go.” ", "Then she left."),
    ("en", "(That was all.) ", "He left."),
    ("en", "Who are you? ", "What!"),
    ("en", "Wait… ", "What?"),
    ("en", "That was in 1984. ", "Then came peace."),
    ("de", 'Er sagte: "Komm." ', "Dann ging er."),
    ("de", "Er sagte: „Komm.“ ", "Dann ging er."),
    ("de", "Das war 1914. ", "Danach kam nichts."),
    ("es", "Hola. ", "¿Qué tal?"),
    ("fr", "Il est là. ", "« Oui », dit-il."),
    ("hi", "मैं घर जा रहा हूँ। ", "तुम कहाँ हो?"),
    ("mr", "तो आला। ", "तू?"),
    ("ne", "म जान्छु। ", "तिमी?"),
    ("sa", "अहं गच्छामि॥ ", "त्वं?"),
    ("bn", "আমি ভাত খাই। ", "তুমি?"),
    ("as", "সি আহিছে। ", "তুমি?"),
    ("pa", "ਉਹ ਆਇਆ। ", "ਤੂੰ?"),
    ("ur", "میں گھر جا رہا ہوں۔ ", "تم کہاں ہو؟"),
    ("sd", "مان وڃان ٿو۔ ", "تون؟"),
    ("ar", "كيف حالك؟ ", "أنا بخير"),
    ("fa", "خوبی؟ ", "بله"),
    ("ps", "ته څنګه یې؟ ", "ښه"),
    ("am", "ሰላም ነው። ", "እንዴት ነህ?"),
    ("am", "እንዴት ነህ፧ ", "ደህና"),
    ("my", "သွားမယ်။ ", "ဘယ်မှာလဲ"),
    ("km", "ខ្ញុំទៅផ្ទះ។ ", "អ្នកនៅឯណា?"),
    ("bo", "འགྲོ་གི་ཡིན༎ ", "ཁྱེད་རང"),
    ("hy", "Ես գնում եմ տուն։ ", "Դու"),
    ("ka", "მე მივდივარ. ", "შენ?"),
    ("el", "Πού πας; ", "Πάω σπίτι."),
    ("he", "מה שלומך? ", "טוב."),
    ("yi", "איך גיי. ", "דו?"),
    ("ru", "Я дома. ", "А ты?"),
    ("zh", "你好。", "我是王先生。"),
    ("zh", "真的吗？", "是！"),
    ("yue", "你好。", "我係阿明。"),
    ("ja", "こんにちは。", "元気ですか？"),
    ("ko", "안녕하세요. ", "네."),
    ("th", "ไปไหน? ", "ไปบ้าน"),
    ("lo", "ໄປໃສ? ", "ໄປບ້ານ"),
    ("ta", "நான் போகிறேன். ", "நீ?"),
    ("te", "నేను వెళ్తున్నాను. ", "నువ్వు?"),
    ("kn", "ನಾನು ಹೋಗುತ್ತೇನೆ. ", "ನೀನು?"),
    ("ml", "ഞാൻ പോകുന്നു. ", "നീ?"),
    ("gu", "હું જાઉં છું. ", "તું?"),
    ("si", "මම යනවා. ", "ඔයා?"),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A vocabulary of the texts below; what it lacks it spells in bytes."""
    folder = tmp_path_factory.mktemp("words")
    texts = [text for _, text in WHOLE] * 3 + [first + second for _, first, second in ENDS] * 3
    train_tokenizer(texts, 1_200, ["en", "de"]).save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


@pytest.mark.parametrize(("language", "text"), WHOLE)
def test_a_full_stop_may_be_no_end(words, language, text):
    assert sentence_ends(text, language) == []
    spelling = words.speaking(language)
    tokens = words.encode(text)
    assert all(spelling.sentence_end(tokens[:n]) is None for n in range(len(tokens) + 1))


@pytest.mark.parametrize(("language", "first", "second"), ENDS)
def test_sentences_end_in_every_script(words, language, first, second):
    assert sentence_ends(first + second, language)[0] == len(first)
    assert sentence_ends(first, language) == []  # the next one hasn't begun
    spelling = words.speaking(language)
    tokens = words.encode(first + second)
    stop, resume = spelling.sentence_end(tokens)
    assert words.decode(tokens[:stop]).rstrip() == first.rstrip()
    assert words.decode(tokens[resume:]) == second


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code not in ("th", "so", "bo", "la", "sw")])
def test_where_an_article_of_law_has_two_sentences_both_are_found(language):
    text = articles()[language]
    following = f"{text} {text}" if language not in ("zh", "ja", "yue") else text + text
    ends = sentence_ends(following, language)
    assert any(following[end:] == text for end in ends)


def test_an_end_seen_stays_while_the_text_grows(words):
    for language, first, second in ENDS:
        text = first + second
        for n in range(len(text) + 1):
            assert set(sentence_ends(text[:n], language)) <= {len(first)} | set(sentence_ends(text, language))


def promised(words, language, text, n=None):
    tokens = words.encode(text)
    return words.decode(tokens[: words.speaking(language).boundary(tokens, len(tokens) if n is None else n)])


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("de", "Wir kommen am 3. Mai 2026 nach Berlin", "Wir kommen am 3. Mai 2026 nach"),
        ("de", "Wir kommen am 3. Mai", "Wir kommen am"),
        ("de", "das kostet 3 Euro", "das kostet"),
        ("de", "das kostet 3 Euro und mehr", "das kostet 3 Euro und"),
        ("de", "wir rufen Dr. Meier", "wir rufen"),
        ("de", "wir rufen Dr. Meier an und", "wir rufen Dr. Meier an"),
        ("en", "we met John Smith", "we met"),
        ("en", "we met John Smith today at", "we met John Smith today"),
        ("en", "we met J. R.", "we met"),
        ("en", "and I think that", "and I think"),
        ("en", "so I know", "so I"),
        ("en", "He is here. The man", "He is here. The"),
        ("en", "at 10 or at 11", "at 10 or at"),
        ("en", "in Paris, then", "in Paris,"),
        ("en", "it ended there. Then", "it ended there."),
        ("ru", "мы видели Ивана Петровича", "мы видели"),
        ("zh", "我有3个", "我有"),
    ],
)
def test_names_numbers_and_abbreviations_are_promised_with_what_follows(words, language, text, kept):
    assert promised(words, language, text).rstrip() == kept


def test_the_end_of_a_text_is_whole_whatever_it_is(words):
    tokens = words.encode("am 3. Mai 2026")
    assert words.speaking("de").boundary(tokens, len(tokens), final=True) == len(tokens)


def test_a_text_all_in_capitals_is_promised_nevertheless(words):
    text = "the Quick Brown Fox Jumps Over The Lazy Dog Again And Again"
    assert len(promised(words, "en", text)) > len(text) // 2


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_law_of_boundaries(words, data):
    language, text = data.draw(st.sampled_from(WHOLE))
    tokens = words.encode(text)
    n = data.draw(st.integers(0, len(tokens)))
    spelling = words.speaking(language)
    m = spelling.boundary(tokens, n)
    assert 0 <= m <= words.boundary(tokens, n)
    assert spelling.boundary(tokens, m) == m
    assert not words.decode(tokens[:m]).rstrip()[-1:].isdigit()
