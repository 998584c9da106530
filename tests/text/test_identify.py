"""Whether a text is in another language than the one wanted; what nobody can tell is right."""

import math

import pytest

from streamtrans.text import LANGUAGES
from streamtrans.text.density import articles
from streamtrans.text.identify import other_language

SIX = ("en", "zh", "de", "es", "fr", "it")
DOUBT, SURE, SURE_WORDS = 10.0, 100.0, 6

SAID = {
    "en": "Please enter your password, followed by the pound key.",
    "zh": "请输入您的密码，然后按井号键。",
    "de": "Bitte geben Sie Ihr Passwort ein, gefolgt von der Rautetaste.",
    "es": "Por favor, introduzca su contraseña seguida de la tecla numeral.",
    "fr": "Veuillez saisir votre mot de passe suivi de la touche dièse.",
    "it": "Inserisci la tua password seguita dal tasto cancelletto.",
}
BELONG_TO_MANY = [
    ("de", "OK."),
    ("de", "Berlin!"),
    ("de", "Angela Merkel."),
    ("de", "iPhone 15 Pro Max"),
    ("de", "Taxi, Hotel, Bar"),
    ("fr", "Restaurant."),
    ("fr", "Marie Curie et Pierre Curie"),
    ("it", "No, no, no."),
    ("es", "Sí."),
    ("es", "Madrid, Barcelona, Bilbao."),
    ("en", "1, 2, 3, 4, 5, 6"),
    ("en", "C'est la vie!"),
    ("zh", "播放 Imagine Dragons 的 Radioactive"),
    ("zh", "OK"),
    ("zh", "去 Starbucks"),
    ("de", ""),
    ("de", "… – 3,5 %!"),
]


@pytest.mark.parametrize("language", SIX)
@pytest.mark.parametrize("wanted", SIX)
def test_a_sentence_is_known_for_what_it_is(language, wanted):
    found = other_language(SAID[language], wanted, SIX)

    assert found is not None
    if wanted == language:
        assert found.odds < 1
    else:
        assert (found.language, found.odds > DOUBT) == (language, True)


@pytest.mark.parametrize(("language", "text"), BELONG_TO_MANY)
def test_names_numbers_and_short_answers_are_held_against_nobody(language, text):
    found = other_language(text, language, SIX)

    assert found is None or found.odds <= SURE or len(text.split()) < SURE_WORDS


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_no_language_of_whispers_is_taken_for_another_it_is_told_apart_from(language):
    text = articles()[language]
    others = [code for code in LANGUAGES if code != "zh"] if language == "yue" else LANGUAGES  # both are written so

    found = other_language(text, language, others)

    assert found is None or found.odds < 1


@pytest.mark.parametrize("language", ["ru", "ar", "hi", "ja", "ko", "el", "th", "he", "ka", "ta"])
def test_a_script_of_its_own_tells_at_once_and_for_sure(language):
    text = articles()[language]

    assert other_language(text, "en", [language]).odds == math.inf
    assert other_language(SAID["en"], language, ["en"]).odds == math.inf


def test_languages_that_nobody_can_tell_apart_are_never_doubted():
    assert other_language(articles()["gl"], "es", ["gl"]) is None
    assert other_language(articles()["haw"], "en", ["haw"]) is None


def test_signs_case_and_digits_make_no_difference():
    shouted = f"¡¡{SAID['en'].upper()}!! 1 2 3"

    assert other_language(shouted, "es", ["en"]).odds == pytest.approx(other_language(SAID["en"], "es", ["en"]).odds)
