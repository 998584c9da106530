import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.corpus import Row
from streamtrans.corpus.talks import TalkConfig, expected_seconds, plan_talk, speak_talk, write_talks
from streamtrans.corpus.voices import Voice, evaluation_voice

ROWS = [
    Row(
        str(number),
        {"en": f"turn {'very ' * (number % 7)}loud number {number}", "zh": "把灯打开" + "吧" * (number % 5)},
    )
    for number in range(40)
]


class Fake:
    """Speaks noise that is a little longer or shorter than expected, with silence around it."""

    def __init__(self, sway=0.2):
        self.sway = sway

    def speak(self, text, voice):
        luck = np.random.default_rng(zlib.crc32(text.encode()))
        count = round(expected_seconds(text, voice) * SAMPLE_RATE * luck.uniform(1 - self.sway, 1 + self.sway))
        return np.pad(luck.uniform(-0.5, 0.5, count).astype(np.float32), 700)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sampled_from(["en", "zh"]), st.floats(30, 400))
def test_equal_seeds_plan_equally_and_use_each_sentence_once_before_any_twice(seed, language, seconds):
    config, voice = TalkConfig(seconds=seconds, seed=seed), Voice(language)
    plan = plan_talk(ROWS, voice, config)
    assert plan == plan_talk(ROWS, voice, config)
    ids = [step.row.id for step in plan]
    for start in range(0, len(ids), len(ROWS)):
        assert len(set(ids[start : start + len(ROWS)])) == len(ids[start : start + len(ROWS)])
    assert plan[0].gap_ms == config.lead_ms
    assert all(step.gap_ms <= 120 or 600 <= step.gap_ms <= 2_500 for step in plan[1:])


def test_other_seeds_and_languages_plan_otherwise():
    plans = [
        [step.row.id for step in plan_talk(ROWS, Voice(language), TalkConfig(seed=seed))]
        for language, seed in (("en", 1), ("en", 2), ("zh", 1))
    ]
    assert plans[0] != plans[1] != plans[2] != plans[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.sampled_from(["en", "zh"]))
def test_half_of_a_talk_runs_without_a_pause_for_twelve_seconds(seed, language):
    talk = speak_talk(f"{language}-{seed}", ROWS, language, TalkConfig(seconds=300, seed=seed), Fake(0.02))
    assert 0.48 <= talk.flowing_share() <= 0.7
    assert 240 <= len(talk.audio) / SAMPLE_RATE <= 360
    assert talk.voice == evaluation_voice(f"{language}-{seed}", language)


def test_sentences_say_where_they_are():
    talk = speak_talk("en-1", ROWS, "en", TalkConfig(seconds=40), Fake())
    before = 0
    for sentence in talk.sentences:
        assert before <= sentence.start < sentence.end
        assert sentence.start % 16 == sentence.end % 16 == 0
        assert not talk.audio[before : sentence.start].any()
        assert np.abs(talk.audio[sentence.start : sentence.end]).max() > 0.4
        before = sentence.end
    assert not talk.audio[before:].any()
    assert len(talk.audio) - before == 16_000
    assert set(talk.sentences[0].texts) == {"en", "zh"}


def test_talks_are_written_with_their_manifest(tmp_path):
    told = []
    manifest = write_talks(
        tmp_path / "t", ROWS, ("en", "zh"), TalkConfig(seconds=20), Fake(), count=2, done=told.append
    )
    header, *lines = [line.split("\t") for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert header == ["audio", "language", "segments", "en", "zh"]
    assert [line[0] for line in lines] == ["en-1.flac", "en-2.flac", "zh-1.flac", "zh-2.flac"]
    assert len(told) == 4
    beside = json.loads((tmp_path / "t" / "zh-2.json").read_text(encoding="utf-8"))
    assert " ".join(each["texts"]["en"] for each in beside["sentences"]) == lines[3][3]
    assert "".join(each["texts"]["zh"] for each in beside["sentences"]) == lines[3][4]
    with pytest.raises(BadConfig, match="made once are kept"):
        write_talks(tmp_path / "t", ROWS, ("en",), TalkConfig(), Fake())


def test_what_cannot_be_said_is_refused():
    with pytest.raises(BadConfig, match="no rows"):
        plan_talk([], Voice("en"), TalkConfig())
    with pytest.raises(BadConfig, match="no 'fr' column"):
        plan_talk(ROWS, Voice("fr"), TalkConfig())
    with pytest.raises(BadConfig, match="0 s has no room"):
        TalkConfig(seconds=0)
    with pytest.raises(BadConfig, match="pause_ms"):
        TalkConfig(pause_ms=(900, 100))
    with pytest.raises(BadConfig, match="flowing is 2"):
        TalkConfig(flowing=2)
