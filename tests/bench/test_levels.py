import numpy as np
import pytest

from streamtrans.bench.levels import CLICKS, Clip, Levels, clicked, compare, quieter, spoiled, spoken
from streamtrans.core import BadConfig, CaptionChoice
from streamtrans.runtime import ModelChoice, load

SPEECH = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def test_quieter_audio_is_that_of_a_microphone_of_16_bits():
    heard = quieter(SPEECH, -20)
    assert np.abs(heard - SPEECH / 10).max() <= 1 / 32_768
    assert np.array_equal(heard * 32_768, np.rint(heard * 32_768))


@pytest.mark.parametrize("kind", CLICKS)
def test_a_click_is_loud_short_and_at_the_beginning(kind):
    sound = clicked(np.zeros(16_000, np.float32), kind)
    assert np.abs(sound[:800]).max() > 0.3
    assert not sound[2_400:].any()
    assert np.abs(clicked(np.ones(16_000, np.float32), kind)).max() == 1


def test_each_way_has_every_clip():
    ways = spoiled([Clip(SPEECH, {})] * 2, (-6.0, -15.0))
    assert list(ways) == ["0 dB", "-6 dB", "-15 dB", "a step", "a burst", "a thump"]
    assert {len(audios) for audios in ways.values()} == {2}


def test_levels_that_are_none_and_languages_without_sentences_are_refused():
    with pytest.raises(BadConfig, match="below 0 dB"):
        Levels(levels=(0.0,))
    with pytest.raises(BadConfig, match="no sentences in fi"):
        Levels(source=("fi",))


def test_quiet_speech_and_speech_behind_a_click_is_heard_as_it_is_at_0_db():
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    pytest.importorskip("sacrebleu", reason="scores need the eval extra")
    clips = spoken(("en",), 0)[:4]
    loaded = load(ModelChoice(threads=1))
    with loaded.engine:
        served = loaded.session_config(("en", "de"), captions=CaptionChoice("final"))
        whole, quiet, behind = compare(loaded, served, clips, spoiled(clips, (-15.0,), ("burst",)))
    assert whole["same"] == 1
    assert whole["chrf"] > 20
    assert quiet["same"] >= 7 / 8
    assert quiet["starts_ms"] == whole["starts_ms"]
    assert behind["starts_ms"] == 0
    assert [line["late"] for line in (whole, quiet, behind)] == [0, 0, 0]
