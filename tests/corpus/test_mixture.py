from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from streamtrans.core import BadConfig
from streamtrans.corpus import Mixture, MixtureConfig, Row, fitting, normalise

PLAIN = [Row(str(number), {"en": f"Turn {word} on.", "de": f"Mach {word} an!"}) for number, word in enumerate("abc")]
PAIRS = [Row("p", {"en": "Hi!", "zh": "你好。"})]
TEMPLATES = [Row("t", {"en": "[person : john] is here", "de": "[person : hans] ist da"})]


def test_weights_decide_how_often_a_table_is_drawn() -> None:
    mixture = Mixture([PLAIN, PAIRS, TEMPLATES], [6, 3, 1])
    rng = np.random.default_rng(0)
    drawn = Counter("zh" in row.texts or row.kind for row in (mixture.sample(rng) for _ in range(2000)))
    assert 1100 < drawn["none"] < 1300
    assert 520 < drawn[True] < 680
    assert 140 < drawn["refill"] < 260


def test_everything_drawn_is_parallel_and_in_normal_form() -> None:
    mixture = Mixture([PLAIN, PAIRS, TEMPLATES])
    rng = np.random.default_rng(1)
    for _ in range(100):
        row = mixture.sample(rng)
        assert len(row.texts) >= 2
        assert all(text and normalise(text, code) == text for code, text in row.texts.items())


def test_the_same_generator_draws_the_same_sentences() -> None:
    mixture = Mixture([PLAIN, PAIRS, TEMPLATES])
    first = [mixture.sample(rng) for rng in [np.random.default_rng(3)] for _ in range(50)]
    again = [mixture.sample(rng) for rng in [np.random.default_rng(3)] for _ in range(50)]
    assert first == again


def test_rows_no_model_should_learn_from_are_left_out() -> None:
    rows = [
        Row("1", {"en": "play nena", "de": "spiele nena"}, "localised"),
        Row("2", {"en": "at 5 pm", "de": "um fünf"}),
        Row("3", {"en": "...", "de": "na ja"}),
        Row("4", {"en": "hello", "de": "hallo"}),
    ]
    assert Mixture([rows]).sizes == (1,)


def test_long_sentences_can_be_left_out() -> None:
    rows = [Row("1", {"en": "one two three", "zh": "一二三四"}), Row("2", {"en": "one", "zh": "一二三四五"})]
    assert [row.id for row in fitting(rows, max_words=3, max_han=4)] == ["1"]
    assert fitting(rows, max_words=2, max_han=4) == []


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0]])
def test_weights_must_fit(weights: list[float]) -> None:
    with pytest.raises(BadConfig, match="2 tables need as many weights"):
        Mixture([PLAIN, PAIRS], weights)


def test_an_empty_table_must_have_no_weight() -> None:
    with pytest.raises(BadConfig, match="table 1 of the mixture has no usable row"):
        Mixture([PLAIN, []], [1, 1])
    assert Mixture([PLAIN, []], [1, 0]).sample(np.random.default_rng(0)).kind == "none"


def test_a_folder_of_tables_is_mixed(tmp_path: Path) -> None:
    (tmp_path / "massive_train.tsv").write_text(
        "id\tscenario\tentities\ten\tde\n1\tiot\tnone\tlights on\tlicht an\n2\tplay\tlocalised\ta\tb\n"
    )
    (tmp_path / "massive_templates.tsv").write_text("id\ten\tde\n3\t[person : joe] sings\t[person : max] singt\n")
    (tmp_path / "tatoeba_en-fr.tsv").write_text("en\tfr\nHi.\tSalut !\nI am a very long one.\tJe suis longue.\n")
    mixture = Mixture.from_folder(tmp_path, MixtureConfig(max_words=3))
    assert mixture.sizes == (1, 1, 1)
    without = Mixture.from_folder(tmp_path, MixtureConfig(templates=0, tatoeba=0))
    assert without.sizes == (1,)
    (tmp_path / "tatoeba_en-fr.tsv").unlink()
    with pytest.raises(BadConfig, match="no tatoeba_"):
        Mixture.from_folder(tmp_path)
