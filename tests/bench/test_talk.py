import numpy as np
import pytest

from streamtrans.bench.talk import talk
from streamtrans.core import BadConfig

pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")


def test_a_talk_is_long_enough_and_has_pauses():
    audio = talk(6, seed=3)
    assert 6 * 16_000 <= len(audio) < 14 * 16_000
    assert audio.dtype == np.float32
    loud = np.abs(audio[: len(audio) // 1_600 * 1_600]).reshape(-1, 1_600).max(1) > 1e-3
    assert 0.3 < loud.mean() < 0.95
    assert not loud[:4].any()


def test_another_seed_says_something_else():
    first, second = talk(3, seed=1, language="de"), talk(3, seed=2, language="de")
    assert len(first) != len(second)


def test_a_language_without_sentences_is_refused():
    with pytest.raises(BadConfig, match="there are sentences in en, de"):
        talk(3, language="fi")
