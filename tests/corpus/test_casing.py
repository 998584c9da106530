from pathlib import Path

import pytest

from streamtrans.corpus import Row
from streamtrans.corpus.casing import Casing
from streamtrans.corpus.parallel import read_parallel

ROWS = [
    Row("1", {"en": "Is Berlin far?", "de": "Ist Berlin weit von hier?", "es": "¿Está lejos?", "zh": "柏林远吗？"}),
    Row("2", {"en": "Is it the light? Light is good. Is Light?", "de": "Mach das Licht an.", "zh": "开灯。"}),
    Row(
        "3", {"en": 'He said: "The light of Berlin."', "de": "Das ist das Licht von Berlin.", "fr": "sans point Berlin"}
    ),
]


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "is the light on in berlin", "Is the light on in Berlin?"),
        ("en", "the light", "The light."),
        ("de", "mach das licht in berlin an", "Mach das Licht in Berlin an."),
        ("de", "ist licht da", "Ist Licht da?"),
        ("es", "está la luz", "¿Está la luz?"),
        ("fr", "berlin", "Berlin."),
        ("zh", "你好吗", "你好吗？"),
        ("zh", "打开灯", "打开灯。"),
    ],
)
def test_texts_get_the_capitals_and_marks_of_others(language: str, text: str, wanted: str) -> None:
    assert Casing(ROWS).restore(text, language) == wanted


def test_only_the_tables_that_are_named_are_changed(tmp_path: Path) -> None:
    (tmp_path / "asked.tsv").write_text("en\tde\nis berlin far\tist berlin weit\n")
    (tmp_path / "said.tsv").write_text(
        "en\tde\nis berlin far\tist berlin weit\nIs Rome in Berlin?\tIst Rom in Berlin?\n"
    )
    order = read_parallel(tmp_path, {"asked": 1.0, "said": 1.0}, 1, most_words=9, uncased=["asked"])
    assert {row.id: row.texts["de"] for row in map(order.row, range(3))} == {
        "asked:2": "Ist Berlin weit?",
        "said:2": "ist berlin weit",
        "said:3": "Ist Rom in Berlin?",
    }
