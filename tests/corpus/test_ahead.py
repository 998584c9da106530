from pathlib import Path

import numpy as np
import pytest

from streamtrans.audio import read_audio
from streamtrans.core import BadConfig
from streamtrans.corpus import Row, read_manifest
from streamtrans.corpus.ahead import MANIFEST, AheadConfig, speak_ahead
from streamtrans.corpus.parallel import Parallel


class Beep:
    """A voice whose pitch is its style, and which counts what it says."""

    def __init__(self, patience: int = 10**6) -> None:
        self.styles, self.patience = {"en": ("low", "high"), "zh": ("low",)}, patience

    def speak(self, text: str, style: str, *, speed: float = 1.0) -> np.ndarray:
        self.patience -= 1
        if self.patience < 0:
            raise KeyboardInterrupt
        time = np.arange(int(16_000 * min(2.0, len(text) / 10) / speed)) / 16_000
        return np.sin(2 * np.pi * (300 if style == "low" else 900) * time).astype(np.float32) * 0.5


ROWS = Parallel(
    [
        [
            Row(str(number), {"en": f"this is sentence {'x' * number}", "zh": "这是一个很好的句子吗"})
            for number in range(9)
        ],
        [Row("digits", {"en": "it is 9 o'clock", "zh": "现在9点钟"})],
    ],
    [1.0, 1.0],
    3,
)


def test_an_interrupted_speaker_says_what_the_unbroken_one_says(tmp_path: Path) -> None:
    config = AheadConfig(10, {"en": 1.0, "zh": 1.0})
    assert speak_ahead(ROWS, Beep(), tmp_path / "one", config) == 9  # nobody knows how digits are read
    with pytest.raises(KeyboardInterrupt):
        speak_ahead(ROWS, Beep(4), tmp_path / "two", config)
    assert speak_ahead(ROWS, Beep(), tmp_path / "two", config) == 5
    one, two = ((tmp_path / name / MANIFEST).read_text() for name in ("one", "two"))
    assert one == two
    recordings, problems = read_manifest(tmp_path / "one" / MANIFEST)
    assert (len(recordings), problems) == (9, ())
    for recording in recordings:
        other = tmp_path / "two" / recording.audio.relative_to(tmp_path / "one")
        assert np.array_equal(read_audio(recording.audio), read_audio(other))
        assert recording.text == recording.texts[recording.language]
        assert set(recording.texts) == {"en", "zh"}


def test_shards_share_the_rows(tmp_path: Path) -> None:
    for shard in (0, 1):
        speak_ahead(ROWS, Beep(), tmp_path / "both", AheadConfig(10, {"en": 1.0}, shard=shard, shards=2))
    speak_ahead(ROWS, Beep(), tmp_path / "one", AheadConfig(10, {"en": 1.0}))
    both, one = ((tmp_path / name / MANIFEST).read_text() for name in ("both", "one"))
    assert sorted(both.splitlines()) == sorted(one.splitlines())


def test_rare_languages_are_spoken_rarely_even_where_they_stand_alone(tmp_path: Path) -> None:
    rows = Parallel([[Row(str(number), {"en": "a sentence", "de": "ein Satz"}) for number in range(300)]], [1.0], 1)
    made = speak_ahead(rows, Beep(), tmp_path, AheadConfig(300, {"en": 0.2, "zh": 1.0}))
    assert 35 < made < 90


def test_languages_without_a_style_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no style speaks de"):
        speak_ahead(ROWS, Beep(), tmp_path, AheadConfig(1, {"de": 1.0}))
    with pytest.raises(BadConfig, match="shard from 0 to below shards"):
        AheadConfig(1, {"en": 1.0}, shard=2, shards=2)
