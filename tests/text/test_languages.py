import pytest

from streamtrans.core import UnsupportedLanguage
from streamtrans.text import LANGUAGES, canonical, display_name, joins_without_spaces


def test_the_table_holds_whispers_hundred_languages():
    assert len(LANGUAGES) == 100
    assert list(LANGUAGES)[:4] == ["en", "zh", "de", "es"]
    assert LANGUAGES["ht"] == "Haitian Creole"


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_canonical_code_is_its_own_canonical_form(code):
    assert canonical(code) == code
    assert canonical(f"{code.upper()}-XX") == code
    assert display_name(code) == LANGUAGES[code]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("zh-CN", "zh"),
        ("zh_Hant_TW", "zh"),
        ("cmn-Hans", "zh"),
        ("pt-BR", "pt"),
        (" EN ", "en"),
        ("jw", "jv"),
        ("iw", "he"),
        ("nb-NO", "no"),
        ("fil", "tl"),
    ],
)
def test_other_ways_to_write_a_language(written, code):
    assert canonical(written) == code


@pytest.mark.parametrize(
    ("written", "hint"),
    [("german", "'de' (German)"), ("eng", "'en' (English)"), ("", "BCP-47"), ("klingon", "BCP-47")],
)
def test_an_unknown_language_names_the_nearest(written, hint):
    with pytest.raises(UnsupportedLanguage) as caught:
        canonical(written)
    assert repr(written) in str(caught.value)
    assert hint in str(caught.value)


def test_who_writes_without_spaces():
    assert [code for code in ("zh-CN", "ja", "th", "yue", "de", "ko") if joins_without_spaces(code)] == [
        "zh-CN",
        "ja",
        "th",
        "yue",
    ]
