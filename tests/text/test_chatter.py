"""What a model writes besides a translation is told from translations, and no translation is taken for it."""

from itertools import permutations

import pytest

from streamtrans.text import Source, articles, copied, remark, talk

MORNING = Source("Guten Morgen, wir fangen jetzt mit der Sitzung an.", "de")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Here is the translation: Good morning, we are beginning the meeting now.", "en"),
        ("Sure! Here's the translated text:\nGood morning.", "en"),
        ("Translation: Good morning.", "en"),
        (" **English translation:** Good morning.", "en"),
        ("Certainly, the German sentence translates to: good morning.", "en"),
        ("La traduction en français : Bonjour à tous.", "fr"),
        ("Aquí está la traducción: Buenos días a todos.", "es"),
        ("Ecco la traduzione: Buongiorno a tutti.", "it"),
        ("以下是翻译：早上好，我们现在开始开会。", "zh"),
        ("I am sorry, I cannot translate this text.", "en"),
        ("As an AI language model, I have no meetings.", "en"),
        ("En tant que modèle de langage, je n'ai pas de réunions.", "fr"),
        ("Lo siento, pero no puedo traducir eso.", "es"),
        ("Mi dispiace, non posso tradurre questo testo.", "it"),
        ("作为人工智能语言模型，我不能开会。", "zh"),
        ("Translate the following text from German into English.", "en"),
        ("Good morning.<|im_end|> <|im_start|>user", "en"),
    ],
)
def test_talk_instead_of_a_translation_is_certainly_wrong(text, language):
    assert talk(text, language, MORNING) is True


@pytest.mark.parametrize(
    "text",
    [
        '"Good morning, we are beginning the meeting now."',
        "„Good morning, we are beginning.“",
        "**Good morning**, we are beginning the meeting now.",
        "# Good morning",
        "Good morning. " * 20,
        "I'm sorry, but I can't assist with that request.",
        "Good morning. (Note: this is informal.)",
        "Good morning.\n\nExplanation: it is informal.",
    ],
)
def test_what_is_dressed_up_or_says_far_more_is_doubted(text):
    assert talk(text, "en", MORNING) is False


def test_who_hears_for_himself_is_certainly_wrong_only_where_he_repeats_his_prompt():
    assert talk("<|im_start|>user", "en", None) is True
    assert talk("Translate the speech into English.", "en", None) is False
    assert talk("Here is the translation: Good morning.", "en", None) is False
    assert talk("The original content of this audio is: good morning.", "en", None) is False
    assert talk('"Good morning," she said.', "en", None) is None


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Hier ist die Übersetzung: Guten Morgen.", "Here is the translation: Good morning."),
        ("die übersetzung lautet guten morgen", "The translation is: good morning."),
        ("Es tut mir leid, dabei kann ich Ihnen nicht helfen.", "I'm sorry, I can't assist you with that."),
        ("Ich bin ein Sprachmodell der KI.", "I am an AI language model."),
        ("Er sagte: „Guten Morgen.“", '"Good morning," he said.'),
        ("„Guten Morgen.“", '"Good morning."'),
        ("- Guten Morgen - Guten Tag", "- Good morning - Hello"),
        ("Erstens: wir fangen an.", "First: we begin."),
        ("Wir treffen uns um 10:30 Uhr.", "We meet at 10:30."),
        ("Der Sprecher übersetzt das Gespräch.", "The speaker translates the conversation."),
        ("Das Modell kostet 3000 Euro.", "The model costs 3000 euros."),
        ("Benutzer", "User"),
        ("System, Fehler", "System: error"),
        ("Der Sprecher sagte, ja.", "The speaker said: yes."),
        ("In der Aufnahme sagt er, komm nach Hause.", "In the recording he says: come home."),
        ("Schade, das bieten wir nicht an.", "Sorry, we can't help you with that."),
        ("Ich forsche an künstlicher Intelligenz.", "I am an artificial intelligence researcher."),
        ("zwei hoch drei", "2**3"),
        ("minus fünf", "- 5"),
        ("kleiner als b", "<b>"),
        ("Eine kurze Erklärung, wir sind zu spät.", "A short explanation: we are late."),
        ("Bitte beachten Sie, es ist geschlossen.", "Please note: it is closed."),
        ("Sehr wichtiger Hinweis, das Büro ist geschlossen.", "Very important note: the office is closed."),
        ("Guten Morgen. Wir fangen jetzt an.", "Good morning.\nWe are starting now."),
        ("Erstens Brot, zweitens Milch, drittens Eier.", "1. Bread\n2. Milk\n3. Eggs"),
        ("Der Sprecher sagte, keine Wahl.", "The government's speaker said yesterday: there is no choice."),
        ("Unsere Sprecherin sagt, das ist falsch.", "Our speaker says: this is wrong."),
        ("Die Rede lautet, ich habe einen Traum.", "The speech is: I have a dream."),
        ("Auf der Aufnahme heißt es, komm.", "The recording says: come home."),
        ("Sie können dolmetschen, sagte er.", "Translation is something that you can do, he said: go."),
        ("Ja.", "Yes."),
        ("Nein", "No, I don't think so."),
    ],
)
def test_a_translation_of_what_was_said_is_none_of_that(said, text):
    source = Source(said, "de")
    assert talk(text, "en", source) is None
    assert remark(text, "en", source) == len(text)
    assert not copied(text, "en", source)


def test_no_translation_of_an_article_is_doubted_in_any_pair_of_languages():
    for source, target in permutations(articles(), 2):
        said, text = Source(articles()[source], source), articles()[target]
        assert talk(text, target, said) is None
        assert remark(text, target, said) == len(text)


WHOLE = "Good morning to all of you, we are beginning the meeting now."


@pytest.mark.parametrize(
    "rest",
    [
        " (Note: this is informal.)",
        " Note: this is informal.",
        "\n\nExplanation: it is informal.",
        "\n**Anmerkung:** informell",
        "（注：非正式）",
    ],
)
def test_what_a_text_says_of_itself_behind_all_that_was_said_is_left_out(rest):
    assert remark(WHOLE + rest, "en", MORNING) == len(WHOLE)
    for short in ("Good morning, we are.", "Good morning."):  # what follows may be the rest of what was said
        assert remark(short + rest, "en", MORNING) == len(short + rest)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        f"{WHOLE}\nNow.",
        f"{WHOLE} Please note the time.",
        f"{WHOLE} One important note: we are beginning.",
        f"{WHOLE} (Note: in red) is on the sign.",
        "1. Good morning, everybody who is here.\n2. We begin\n3. The meeting",
        "Translation:\nGood morning, we are beginning the meeting now.",
    ],
)
def test_what_is_no_remark_is_kept(text):
    assert remark(text, "en", MORNING) == len(text)


def test_what_the_source_says_of_itself_is_kept():
    source = Source("Guten Morgen. Ein Hinweis, das ist umgangssprachlich.", "de")
    text = "Good morning, all of you who are here with us today. Note: this is informal."
    assert remark(text, "en", source) == len(text)
    assert remark(text, "en", None) == len(text)  # somebody may have said it


@pytest.mark.parametrize(
    ("text", "target", "source"),
    [
        ("we are beginning the meeting now, with the first point.", "de", "en"),
        ("wir fangen jetzt mit der sitzung an", "en", "de"),
        ("Empezamos ahora la reunión con el primer punto", "it", "es"),
    ],
)
def test_a_copy_of_its_source_is_no_translation(text, target, source):
    assert copied(text, target, Source(text.upper(), source))
    assert copied(f"“{text}”", target, Source(text, source))


@pytest.mark.parametrize(
    "text",
    [
        "Angela Merkel, Emmanuel Macron, Giorgia Meloni",
        "1948, 1949, 1950",
        "okay",
        "Hotel, Restaurant, Taxi, Bar",
        "no, no, no, no, no",
        "taxi radio",
        "",
    ],
)
def test_names_numbers_cognates_and_short_answers_are_the_same_everywhere(text):
    for target, source in permutations(("en", "de", "es", "fr", "it"), 2):
        assert not copied(text, target, Source(text, source))
        assert talk(text, target, Source(text, source)) is None


def test_languages_that_are_taken_for_each_other_have_whole_sentences_in_common():
    text = "saya akan pergi ke sekolah besok pagi"
    assert not copied(text, "ms", Source(text, "id"))


@pytest.mark.parametrize(
    ("said", "source", "text", "target"),
    [
        ("Take note, we start at nine.", "en", "Tome nota: empezamos a las nueve.", "es"),
        ("Olen tekoäly, ja työskentelen täällä", "fi", "As an AI, I work here", "en"),
        ("Niestety nie możemy tego dostarczyć.", "pl", "Unfortunately, we can't help you with that.", "en"),
        ("很可惜，这个我们帮不了您", "zh", "Sorry, we can't help you with that.", "en"),
        ("Tämä on käännös hyvää huomenta", "fi", "This is a translation: good morning", "en"),
        ("저는 인공지능이에요", "ko", "I'm an AI.", "en"),
        ("Je suis un modèle de langage, moi.", "fr", "Speaking as a language model, I am one.", "en"),
        ("Bonjour, voici la version française.", "fr", "Here is the French translation: hello.", "en"),
        ("He explained, I have to go.", "en", "Tłumaczył: muszę iść.", "pl"),
        ("A bank transfer, one hundred roubles.", "en", "Банковский перевод: сто рублей.", "ru"),
        ("A note on service, it is included.", "en", "Về dịch vụ: đã bao gồm.", "vi"),
        ("很多人喜欢迷失东京，一部电影。", "zh", "Lost in Translation: a film many people like.", "en"),
        ("Verschriftlichen Sie die Rede.", "de", "Transcribe the speech.", "en"),
        ("Sie dient Kindern als sprachliches Beispiel.", "de", "She serves children as a language model.", "en"),
        ("Der Sprachmittler sagte, ja.", "de", "翻译说：好。", "zh"),
        ("Impossible de le mettre en pratique.", "fr", "Sorry, I can't translate that into practice.", "en"),
    ],
)
def test_nor_of_any_other_language(said, source, text, target):
    assert talk(text, target, Source(said, source)) is None
    assert remark(text, target, Source(said, source)) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm an AI researcher at a company.",
        "Please translate the following sentence for me.",
        "We transcribe the audio and translate the speech.",
        "The translation is: good morning.",
        "Bitte nicht stören (Hinweis: es ist spät).",
        "User: hello",
        "System: all good.",
        "We have <b> tags and the word [INST] here.",
        "In the recording he says: come home.",
        "I'm sorry, I can't help you with that.",
    ],
)
def test_what_somebody_may_have_said_is_believed_of_who_heard_it(text):
    assert talk(text, "en", None) is None
    assert remark(text, "en", None) == len(text)


SORRY = """
en Unfortunately we can't do that.|zh 很可惜，我们做不到。|de Leider können wir das nicht.|es Por desgracia no podemos.
ru К сожалению, мы этого не можем.|ko 아쉽지만 할 수 없습니다.|fr Hélas, nous ne pouvons pas.|ja あいにく、できません。
pt Infelizmente não podemos.|tr Maalesef yapamıyoruz.|pl Niestety nie możemy.|ca Malauradament no podem.
nl Helaas kunnen we dat niet.|ar للأسف لا نستطيع ذلك.|sv Tyvärr kan vi inte det.|it Purtroppo non possiamo.
id Sayangnya kami tidak bisa.|hi अफ़सोस, हम यह नहीं कर सकते।|fi Valitettavasti emme voi.|vi Rất tiếc, chúng tôi không thể.
he לצערנו איננו יכולים.|uk На жаль, ми не можемо.|el Δυστυχώς δεν μπορούμε.|ms Malangnya kami tidak boleh.
cs Bohužel nemůžeme.|ro Din păcate nu putem.|da Desværre kan vi ikke.|hu Sajnos nem tudjuk.
ta துரதிர்ஷ்டவசமாக எங்களால் முடியாது.|no Dessverre kan vi ikke.|th น่าเสียดายที่เราทำไม่ได้|ur افسوس ہم یہ نہیں کر سکتے۔
hr Nažalost ne možemo.|bg За съжаление не можем.|lt Deja, mes negalime.|la Doleo, non possumus.
mi Aroha mai, kāore e taea e mātou.|ml നിർഭാഗ്യവശാൽ ഞങ്ങൾക്ക് കഴിയില്ല.|cy Yn anffodus ni allwn.|sk Žiaľ, nemôžeme.
te దురదృష్టవశాత్తు మేము చేయలేము.|fa متأسفانه نمی‌توانیم.|lv Diemžēl mēs nevaram.|bn দুর্ভাগ্যবশত আমরা পারি না।
sr Нажалост не можемо.|az Təəssüf ki, bacarmırıq.|sl Žal ne moremo.|kn ದುರದೃಷ್ಟವಶಾತ್ ನಮಗೆ ಸಾಧ್ಯವಿಲ್ಲ.
et Kahjuks me ei saa.|mk За жал не можеме.|br Siwazh, ne c'hallomp ket.|eu Zoritxarrez ezin dugu.
is Því miður getum við það ekki.|hy Ցավոք, մենք չենք կարող։|ne दुर्भाग्यवश हामी सक्दैनौं।|mn Харамсалтай нь бид чадахгүй.
bs Nažalost ne možemo.|kk Өкінішке орай, біз алмаймыз.|sq Fatkeqësisht nuk mundemi.|sw Kwa bahati mbaya hatuwezi.
gl Por desgraza non podemos.|mr दुर्दैवाने आम्ही करू शकत नाही.|pa ਅਫ਼ਸੋਸ, ਅਸੀਂ ਨਹੀਂ ਕਰ ਸਕਦੇ।|si කණගාටුයි, අපට බැහැ.
km សោកស្តាយ យើងមិនអាចទេ។|sn Zvinosuwisa, hatigoni.|yo Ó ṣeni láàánú, a kò lè ṣe é.|so Nasiib darro, ma awoodno.
af Ongelukkig kan ons nie.|oc Malaürosament podèm pas.|ka სამწუხაროდ, არ შეგვიძლია.|be На жаль, мы не можам.
tg Мутаассифона, мо наметавонем.|sd افسوس، اسان نٿا ڪري سگهون.|gu દુર્ભાગ્યે અમે કરી શકતા નથી.|am እንደ አለመታደል አንችልም።
yi צום באַדויערן קענען מיר נישט.|lo ຫນ້າເສຍດາຍ ພວກເຮົາເຮັດບໍ່ໄດ້.|uz Afsuski, qila olmaymiz.|fo Tíverri kunnu vit ikki.
ht Malerezman nou pa kapab.|ps له بده مرغه موږ نشو کولی.|tk Gynansak-da, başarmaýarys.|nn Diverre kan vi ikkje.
mt Sfortunatament ma nistgħux.|sa दुर्भाग्येन वयं न शक्नुमः।|lb Leider kënne mir dat net.|my ဝမ်းနည်းပါတယ်၊ မလုပ်နိုင်ပါ။
bo དགོངས་དག ང་ཚོས་བྱེད་མི་ཐུབ།|tl Sa kasamaang palad, hindi namin kaya.|mg Indrisy fa tsy afaka izahay.
as দুৰ্ভাগ্যবশতঃ আমি নোৱাৰোঁ।
tt Кызганычка, без булдыра алмыйбыз.|haw Minamina, ʻaʻole hiki iā mākou.|ln Mawa, tokoki te.
ha Abin takaici, ba za mu iya ba.
ba Үкенескә, беҙ булдыра алмайбыҙ.|jv Nuwun sewu, aku ora bisa.|su Hapunten, abdi teu tiasa.|yue 唔好意思，我哋做唔到。
"""


@pytest.mark.parametrize("said", SORRY.strip().replace("\n", "|").split("|"))
def test_who_is_sorry_in_any_language_is_never_certainly_a_model_that_refuses(said):
    source, _, sorry = said.partition(" ")
    assert source in articles()
    for language, text in (
        ("en", "Unfortunately, we can't provide that."),
        ("en", "I'm sorry, I can't help you with that."),
        ("es", "Lo siento, no puedo ayudarte con eso."),
        ("zh", "很遗憾，我们无法提供协助。"),
        ("fr", "Désolé, je ne peux pas vous aider."),
    ):
        assert talk(text, language, Source(sorry, source)) is not True


def test_an_apology_of_every_language_is_among_those():
    assert {said.split(" ")[0] for said in SORRY.strip().replace("\n", "|").split("|")} == set(articles())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("de", "Das kann ich nicht übersetzen."),
        ("fr", "Désolé, je ne sais pas le traduire."),
        ("es", "Lo siento, no sé traducir eso."),
        ("it", "Scusa, non so tradurlo."),
        ("pt", "Desculpe, não sei traduzir isso."),
        ("nl", "Sorry, dat kan ik niet vertalen."),
        ("pl", "Przykro mi, nie umiem tego przetłumaczyć."),
        ("ru", "Извините, я не могу это перевести."),
        ("uk", "Вибачте, я не можу це перекласти."),
        ("sv", "Tyvärr kan jag inte översätta det."),
        ("da", "Jeg kan desværre ikke oversætte det."),
        ("no", "Jeg kan dessverre ikke oversette det."),
        ("zh", "抱歉，这个我译不出来。"),
        ("ja", "すみません、訳せません。"),
        ("ko", "죄송하지만 번역할 수 없습니다."),
        ("ar", "آسف، لا أستطيع ترجمة هذا."),
        ("hi", "माफ कीजिए, मैं इसका अनुवाद नहीं कर सकता।"),
        ("vi", "Xin lỗi, tôi không thể dịch câu này."),
        ("tr", "Üzgünüm, bunu çeviremem."),
    ],
)
def test_who_cannot_translate_may_say_so(source, said):
    assert talk("I'm sorry, I can't translate this.", "en", Source(said, source)) is None


SAID = "The meeting begins at nine o'clock tomorrow morning."
WRITTEN = "Die Besprechung beginnt morgen früh um neun Uhr."


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        (f"Übersetze den folgenden Text: {SAID}", True),
        (f"Benutzer: {SAID}\nAssistent: {WRITTEN}", True),
        (f"[INST] {WRITTEN}", True),
        (f"### Response:\n{WRITTEN}", True),
        (f'"{WRITTEN}"', False),  # the apostrophe of what was said is no quotation mark
        (f"{WRITTEN}\n\nAlternativ: {WRITTEN}", False),
        (f"{WRITTEN} (wörtlich: in der Früh)", False),
        (f"Der Text auf Deutsch lautet wie folgt: {WRITTEN}", False),
        (f"{WRITTEN} Lass mich wissen, wenn du noch etwas brauchst!", False),
        ("Bitte gib den Text an, den ich übersetzen soll.", False),
        ("Könnten Sie bitte mehr Kontext angeben?", False),
        ("Hallo! Wie kann ich Ihnen heute helfen?", False),
        ("Dabei kann ich leider nicht helfen.", False),
        ("Ich bin ein KI-Assistent.", False),
        ("Ich kann für diesen Text keine Übersetzung liefern.", False),
    ],
)
def test_what_is_added_to_a_translation_or_stands_in_its_place_is_noticed(text, certain):
    assert talk(text, "de", Source(SAID, "en")) is certain


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("How can I help you today?", "Wie kann ich Ihnen heute helfen?"),
        ("Give me more context, please.", "Könnten Sie bitte mehr Kontext angeben?"),
        ("I can't do that.", "Dabei kann ich leider nicht helfen."),
        ("Our assistant is an AI.", "Unser KI-Assistent."),
        (
            "Either we wait (five minutes) or we walk.",
            "Entweder warten wir noch eine ganze Weile\noder wir gehen (zu Fuß).",
        ),
        ("Tell me if you need anything.", "Lass mich wissen, wenn du etwas brauchst."),
        ("What did she translate?", "Was hat sie übersetzt?"),
    ],
)
def test_what_its_source_speaks_of_a_translation_may_speak_of(said, text):
    assert talk(text, "de", Source(said, "en")) is None
