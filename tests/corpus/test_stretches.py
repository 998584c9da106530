import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig
from streamtrans.corpus import CLEAN, Mixture, Row
from streamtrans.corpus.stretches import SEPARATOR, StretchConfig, draw_stretch, trimmed

ROWS = [
    Row(f"{n}", {"en": f"wake me up at {name} o clock", "de": f"weck mich um {name} uhr", "zh": "星期五早上叫醒我"})
    for n, name in enumerate(["one", "two", "three", "four", "five"])
]
WORD = 3_200


class Beeper:
    """Says a word as a fifth of a second of tone, with silence around the sentence."""

    def __init__(self):
        self.voices = []

    def speak(self, text, voice):
        self.voices.append(voice)
        units = len(text.split()) if " " in text else len(text)
        tone = 0.5 * np.sin(np.arange(units * WORD) * 0.1)
        return np.pad(tone, 4_000).astype(np.float32)


def draw(seed, **shares):
    config = StretchConfig(**shares)
    return draw_stretch(np.random.default_rng(seed), Mixture([ROWS]), config, speaker=Beeper(), augmentation=CLEAN)


WHOLE = {text for row in ROWS for text in row.texts.values()}
KINDS = ("joined", "cut", "carried", "empty")
SHARES = st.fixed_dictionaries({name: st.sampled_from([0.0, 0.5, 1.0]) for name in KINDS})


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), shares=SHARES)
def test_a_stretch_fits_and_its_texts_go_together(seed, shares):
    stretch = draw(seed, **shares)
    assert 0 < len(stretch.audio) <= round(9.8 * 16_000)
    assert 0 <= stretch.begin < len(stretch.audio)
    assert set(stretch.texts) == {"en", "de", "zh"}
    for text in stretch.texts.values():
        assert text == text.strip()
        assert SEPARATOR * 2 not in text
    if shares == dict.fromkeys(shares, 0.0):
        assert set(stretch.texts.values()) <= WHOLE


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shares=SHARES)
def test_equal_seeds_draw_equally(seed, shares):
    one, other = draw(seed, **shares), draw(seed, **shares)
    assert one.texts == other.texts
    assert (one.begin, one.spoken) == (other.begin, other.spoken)
    assert np.array_equal(one.audio, other.audio)


@pytest.mark.parametrize("seed", range(12))
def test_of_an_unfinished_sentence_no_more_is_said_than_was_heard(seed):
    stretch = draw(seed, cut=1.0)
    [whole] = [row.texts for row in ROWS if row.texts["de"].startswith(stretch.texts["de"])][:1] or [None]
    assert whole is not None
    said = len(stretch.texts["en"].split()) / len(whole["en"].split())
    spoken = whole[stretch.language]
    units = len(spoken.split()) if " " in spoken else len(spoken)
    assert said <= len(stretch.audio) / (units * WORD) + 0.01
    assert stretch.spoken is None


@pytest.mark.parametrize("seed", range(12))
def test_what_came_before_is_heard_and_not_said(seed):
    stretch = draw(seed, joined=1.0, carried=1.0)
    assert stretch.begin > 0
    assert stretch.spoken is not None
    heard = stretch.spoken.count("o clock") + stretch.spoken.count("uhr") + stretch.spoken.count("醒")
    assert len(stretch.texts["zh"].split(SEPARATOR)) < heard


def test_sound_without_speech_says_nothing():
    stretch = draw(3, empty=1.0)
    assert set(stretch.texts.values()) == {""}
    assert stretch.spoken == ""


def test_silence_around_speech_is_cut_off():
    speech = np.pad(np.ones(1_000, np.float32), 5_000)
    assert 1_000 < len(trimmed(speech)) <= 2_000
    assert len(trimmed(np.zeros(50, np.float32))) == 0


def test_a_share_lies_between_nothing_and_all():
    with pytest.raises(BadConfig, match=r"joined is 1\.5"):
        StretchConfig(joined=1.5)
