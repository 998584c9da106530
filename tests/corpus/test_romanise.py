from __future__ import annotations

import pytest

from streamtrans.corpus import romanise

pytest.importorskip("pypinyin", reason="pypinyin comes with the extra 'train'")


def test_chinese_becomes_pinyin_with_tones() -> None:
    assert romanise("听音乐", "zh") == "ting1 yin1 yue4"
    assert romanise("好的", "zh") == "hao3 de5"


def test_polyphones_are_read_by_their_word() -> None:
    assert romanise("去银行", "zh") == "qu4 yin2 hang2"
    assert romanise("重庆", "zh") == "chong2 qing4"


def test_latin_between_characters_stays() -> None:
    assert romanise("Olly 开灯", "zh") == "olly kai1 deng1"


def test_other_languages_stay_in_lower_case() -> None:
    assert romanise("Grüß Gott", "de") == "grüß gott"
