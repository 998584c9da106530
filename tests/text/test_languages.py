import pytest

from streamtrans.core import UnsupportedLanguage
from streamtrans.text import LANGUAGES, canonical, display_name, joins_without_spaces, region, written


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
    [
        ("german", "'de' (German)"),
        ("eng", "'en' (English)"),
        ("", "BCP-47"),
        ("klingon", "BCP-47"),
        ("zh-min-nan", "BCP-47"),
        ("auto", "leave the spoken language out"),
        ("und", "leave the spoken language out"),
    ],
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


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("zh", "zh"),
        ("zh-Hans", "zh"),
        ("ZH-hans-cn", "zh"),
        ("zh-SG", "zh"),
        ("pt-BR", "pt"),
        ("en-GB", "en"),
        ("es-419", "es"),
        ("ru-Cyrl", "ru"),
        ("de_DE.UTF-8", "de"),
        ("sr", "sr"),
        ("sr-RS", "sr"),
        ("yue", "yue"),
        ("zh-yue", "yue"),
        ("iw", "he"),
        ("jw", "jv"),
        ("nb-NO", "no"),
        ("nn", "nn"),
        ("hi-Deva-IN", "hi"),
    ],
)
def test_a_language_may_be_written_in_its_own_script(tag, code):
    assert written(tag) == canonical(tag) == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_plain_code_never_asks_for_a_script(code):
    assert written(code) == code


@pytest.mark.parametrize(
    ("tag", "script"),
    [
        ("zh-Hant", "Hant"),
        ("ZH_HANT_TW", "Hant"),
        ("zh-TW", "Hant"),
        ("zh-hk", "Hant"),
        ("zh-MO", "Hant"),
        ("cmn-Hant", "Hant"),
        ("zh-Latn-pinyin", "Latn"),
        ("sr-Latn", "Latn"),
        ("sr-Cyrl", "Cyrl"),
        ("sr_RS@latin", "Latn"),
        ("sr-ME", "Latn"),
        ("sh", "Latn"),
        ("uz-Cyrl", "Cyrl"),
        ("yue-Hans", "Hans"),
        ("ru-Latn", "Latn"),
        ("de-Arab", "Arab"),
        ("pa-PK", "Arab"),
        ("az-Cyrl-AZ", "Cyrl"),
    ],
)
def test_a_script_that_models_dont_write_is_refused_by_name(tag, script):
    assert canonical(tag) in LANGUAGES  # spoken, it is one language
    with pytest.raises(UnsupportedLanguage, match=f"{tag!r} asks for the script {script}, .*; ask for"):
        written(tag)


def test_regions():
    tags = ("pt-BR", "es-419", "zh_Hant_TW", "en", "zh-yue", "de-1996")
    assert [region(tag) for tag in tags] == ["BR", "419", "TW", None, None, None]
