from __future__ import annotations

import importlib.util
import os
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import SAMPLE_RATE, BadConfig, UnsupportedLanguage
from streamtrans.corpus import (
    EVALUATION_VOICES,
    TRAINING_VARIANTS,
    Speaker,
    Voice,
    evaluation_voice,
    random_voice,
)
from streamtrans.corpus.voices import ACCENTS, EVALUATION_VARIANTS

SENTENCES = {
    "en": "turn the lights off in the bedroom",
    "de": "schalte die lichter im schlafzimmer aus",
    "es": "apaga las luces del dormitorio",
    "fr": "éteins les lumières dans la chambre",
    "it": "spegni le luci della camera da letto",
    "zh": "关掉卧室的灯",
}
speaks = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader comes with the extra 'train'"
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(ACCENTS)))
def test_training_never_draws_a_voice_of_the_evaluation(seed: int, language: str) -> None:
    voice = random_voice(language, np.random.default_rng(seed))
    assert voice.variant not in EVALUATION_VARIANTS
    assert voice.variant in TRAINING_VARIANTS
    assert voice.accent in ACCENTS[language]
    assert 120 <= voice.rate <= 220
    assert 20 <= voice.pitch <= 85
    assert voice == random_voice(language, np.random.default_rng(seed))


def test_harsh_variants_are_rare() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_voice("de", rng).variant for _ in range(2000)]
    harsh = [name for name in drawn if name.startswith(("whisper", "robosoft", "klatt", "croak", "Demonic"))]
    assert 5 < len(harsh) < 120
    assert len(set(drawn)) > 60


def test_sixteen_evaluation_settings_go_by_the_checksum_of_the_id() -> None:
    assert len(set(EVALUATION_VOICES)) == 16
    for row_id in ("17", "24", "p:3"):
        voice = evaluation_voice(row_id, "fr")
        chosen = EVALUATION_VOICES[zlib.crc32(row_id.encode()) % 16]
        assert (voice.variant, voice.rate, voice.pitch) == chosen
        assert voice.accent == ""


def test_a_language_without_a_voice_is_named() -> None:
    with pytest.raises(UnsupportedLanguage, match="no synthetic voice speaks 'tlh'"):
        random_voice("tlh", np.random.default_rng(0))
    with pytest.raises(UnsupportedLanguage, match="'tlh'"):
        _ = Voice("tlh").engine_name


@speaks
@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_every_language_is_spoken(language: str) -> None:
    audio = Speaker().speak(SENTENCES[language], Voice(language, "f2"))
    assert audio.dtype == np.float32
    assert 0.8 < audio.size / SAMPLE_RATE < 5
    assert float(np.sqrt(np.mean(audio**2))) > 0.01
    assert float(np.abs(audio).max()) <= 1


@speaks
def test_every_voice_exists() -> None:
    speaker = Speaker()
    for language, accents in ACCENTS.items():
        for accent in accents:
            assert speaker.speak("a" if language != "zh" else "啊", Voice(language, accent=accent)).size > 1000
    for variant in (*TRAINING_VARIANTS, *EVALUATION_VARIANTS):
        assert speaker.speak("a", Voice("en", variant)).size > 1000


@speaks
def test_rate_and_pitch_are_heard() -> None:
    speaker = Speaker()
    slow = speaker.speak(SENTENCES["en"], Voice("en", rate=120))
    fast = speaker.speak(SENTENCES["en"], Voice("en", rate=220))
    assert slow.size > 1.3 * fast.size
    low = speaker.speak("no no no", Voice("en", pitch=50, pitch_range=0))
    high = speaker.speak("no no no", Voice("en", pitch=99, pitch_range=0))
    assert pitch_hz(high) > 1.2 * pitch_hz(low)


def pitch_hz(audio: np.ndarray) -> float:
    """Return the first strong period between 60 and 400 Hz where the audio is loudest."""
    loudest = int(np.convolve(audio**2, np.ones(1600), "valid").argmax())
    part = audio[loudest : loudest + 1600]
    likeness = np.correlate(part, part, "full")[part.size - 1 :]
    shortest, longest = SAMPLE_RATE // 400, SAMPLE_RATE // 60
    window = likeness[shortest:longest]
    peaks = (window[1:-1] > window[:-2]) & (window[1:-1] >= window[2:]) & (window[1:-1] > 0.7 * window.max())
    return SAMPLE_RATE / (shortest + 1 + int(peaks.argmax()))


@speaks
def test_pinyin_and_characters_last_equally_long() -> None:
    pytest.importorskip("pypinyin", reason="pypinyin comes with the extra 'train'")
    speaker = Speaker()
    pinyin = speaker.speak("星期五早上九点叫醒我", Voice("zh", accent="cmn-latn-pinyin")).size
    characters = speaker.speak("星期五早上九点叫醒我", Voice("zh", accent="cmn")).size
    assert 0.8 < pinyin / characters < 1.25
    assert speaker.speak("olly 把灯调暗", Voice("zh")).size > SAMPLE_RATE


@speaks
def test_an_unknown_variant_is_refused_and_the_engine_goes_on() -> None:
    speaker = Speaker()
    with pytest.raises(BadConfig, match="no variant 'nobody'"):
        speaker.speak("hello", Voice("en", "nobody"))
    with pytest.raises(BadConfig, match="no voice 'en-moon'"):
        speaker.speak("hello", Voice("en", accent="en-moon"))
    assert speaker.speak("hello", Voice("en")).size > 4000


@speaks
@pytest.mark.skipif(os.name != "posix", reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_speaks_with_an_engine_of_its_own() -> None:
    speaker = Speaker()
    before = speaker.speak("hello there", Voice("en", "f2")).size
    child = os.fork()
    if child == 0:
        spoken = speaker.speak("hello there", Voice("en", "f2")).size
        os._exit(0 if abs(spoken - before) < 400 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert abs(speaker.speak("hello there", Voice("en", "f2")).size - before) < 400
