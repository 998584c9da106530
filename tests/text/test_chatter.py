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
        ("I'm sorry, but I can't assist with that request.", "en"),
        ("I am sorry, I cannot translate this text.", "en"),
        ("As an AI language model, I have no meetings.", "en"),
        ("En tant qu'intelligence artificielle, je n'ai pas de réunions.", "fr"),
        ("Lo siento, pero no puedo ayudarte con eso.", "es"),
        ("Mi dispiace, non posso tradurre questo testo.", "it"),
        ("作为一个人工智能，我不能开会。", "zh"),
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
        ("Ja.", "Yes."),
        ("Nein", "No, I don't think so."),
    ],
)
def test_a_translation_of_what_was_said_is_none_of_that(said, text):
    source = Source(said, "de")
    assert talk(text, "en", source) is None
    assert remark(text, source) == len(text)
    assert not copied(text, "en", source)


def test_no_translation_of_an_article_is_doubted_in_any_pair_of_languages():
    for source, target in permutations(articles(), 2):
        said, text = Source(articles()[source], source), articles()[target]
        assert talk(text, target, said) is None
        assert remark(text, said) == len(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Good morning. (Note: this is informal.)", "Good morning."),
        ("Good morning. Note: this is informal.", "Good morning."),
        ("Good morning.\n\nExplanation: it is informal.", "Good morning."),
        ("Good morning.\nWe are beginning.", "Good morning.\nWe are beginning."),
        ("One important note: we are beginning.", "One important note: we are beginning."),
        ("Good morning.\n**Anmerkung:** informell", "Good morning."),
        ("早上好。（注：非正式）", "早上好。"),
        ("Please note the time.", "Please note the time."),
        ("Translation:\nGood morning.", "Translation:\nGood morning."),
    ],
)
def test_what_a_text_says_of_itself_at_its_end_is_left_out(text, kept):
    assert text[: remark(text, MORNING)].rstrip() == kept


def test_what_the_source_says_of_itself_is_kept():
    source = Source("Guten Morgen. Hinweis: Das ist umgangssprachlich.", "de")
    text = "Good morning. Note: this is informal."
    assert remark(text, source) == len(text)
    assert remark(text, None) == len(text)  # somebody may have said it


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
    ],
)
def test_nor_of_any_other_language(said, source, text, target):
    assert talk(text, target, Source(said, source)) is None
    assert remark(text, Source(said, source)) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm an AI researcher at a company.",
        "Please translate the following sentence for me.",
        "We transcribe the audio and translate the speech.",
        "The translation is: good morning.",
        "Bitte nicht stören (Hinweis: es ist spät).",
        "User: hello",
        "I'm sorry, I can't help you with that.",
    ],
)
def test_what_somebody_may_have_said_is_believed_of_who_heard_it(text):
    assert talk(text, "en", None) is None
    assert remark(text, None) == len(text)
