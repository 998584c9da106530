from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.corpus import CLEAN, Row, evaluation_voice, spoken, spoken_for_evaluation
from streamtrans.corpus.voices import EVALUATION_VARIANTS

pytest.importorskip("espeakng_loader", reason="espeakng-loader comes with the extra 'train'")

ROW = Row("17", {"en": "dim the lights", "de": "dimme das licht", "it": "abbassa le luci"})


def test_an_utterance_says_the_text_of_its_language() -> None:
    rng = np.random.default_rng(0)
    languages = Counter()
    for _ in range(60):
        said = spoken(rng, ROW, augmentation=CLEAN)
        languages[said.language] += 1
        assert said.text == ROW.texts[said.language]
        assert said.texts == ROW.texts
        assert said.voice.variant not in EVALUATION_VARIANTS
        assert 0.3 < said.audio.size / SAMPLE_RATE < 4
    assert min(languages[code] for code in ROW.texts) > 8


def test_the_spoken_language_can_be_weighted() -> None:
    rng = np.random.default_rng(0)
    assert {spoken(rng, ROW, source_weights={"de": 1.0}).language for _ in range(5)} == {"de"}
    with pytest.raises(BadConfig, match="row 17 has en, de, it: none of them"):
        spoken(rng, ROW, source_weights={"zh": 1.0})


def test_the_same_seed_draws_the_same_language_and_voice() -> None:
    first, again = (spoken(np.random.default_rng(9), ROW) for _ in range(2))
    assert (first.language, first.voice) == (again.language, again.voice)
    # The engine's breath differs by some samples, what is drawn around it doesn't.
    assert abs(first.audio.size - again.audio.size) < 800


def test_an_evaluation_has_one_clean_voice_per_row() -> None:
    said = spoken_for_evaluation(ROW, "it")
    assert said.voice == evaluation_voice("17", "it")
    assert said.text == "abbassa le luci"
    with pytest.raises(BadConfig, match="row 17 has no 'zh' side"):
        spoken_for_evaluation(ROW, "zh")
