"""What `bench lags` compares, and that its ways are served."""

import json

import pytest
import soundfile

from streamtrans.audio import read_audio
from streamtrans.bench.lags import Lags, Said, compare
from streamtrans.bench.realtime import DEMO
from streamtrans.core import BadConfig, Caption
from streamtrans.evaluate.manifest import Talk
from tests.bench.test_bench import invoke
from tests.translators import make_m2m

TALK = Talk("a", DEMO, "en", {})


def said(*commits, language="de"):
    """Return a recording of which one word each was promised so many seconds after it was heard."""
    recording = Said(TALK)
    words = [f"w{number}" for number in range(len(commits))]
    for number, late in enumerate(commits):
        text = " ".join(words[: number + 1])
        end = 16_000 * (number + 1)
        recording.told(Caption(0, number, language, text, "", False, 0, end, end), end, number + 1 + late)
    return recording


def test_words_are_compared_with_themselves_and_medians_with_each_other():
    off = [said(0.1, 0.2, 0.3), said(0.1)]
    on = [said(0.15, 0.26, 0.37), said(0.5, 0.5)]
    assert compare(off, on) == {"de": {"p50_ms": 270, "words": 3, "word_p50_ms": 60, "word_p95_ms": 70}}
    assert compare(off, off)["de"]["p50_ms"] == 0
    assert compare([said(0.1)], [Said(TALK)])["de"]["p50_ms"] is None


@pytest.mark.slow
def test_the_ways_are_served_and_their_texts_are_kept(tmp_path):
    soundfile.write(tmp_path / "a.wav", read_audio(DEMO)[: 3 * 16_000], 16_000)
    (tmp_path / "people.tsv").write_text("audio\tlanguage\ten\na.wav\ten\tturn off the lights\nb.wav\tde\tx\n")
    (tmp_path / "b.wav").touch()
    make_m2m(tmp_path / "m2m")

    arguments = ("--to", "en,de", "--translator", tmp_path / "m2m", "--results", tmp_path)
    shown = invoke("bench", "lags", tmp_path / "people.tsv", *arguments)

    assert "promised later with the guard" in shown
    figures = json.loads((tmp_path / "lags.json").read_text())["figures"]
    assert set(figures["ways"]) == {"guard off", "guard on", "ear alone"}
    assert set(figures["ways"]["ear alone"]) == {"en"}
    assert set(figures["ways"]["guard on"]) == {"en", "de"}
    assert figures["ways"]["guard off"]["en"]["commit"]["p50"] > 0
    assert figures["guard_on_minus_off"]["en"]["words"] > 0
    [texts] = figures["texts"]
    assert texts["recording"] == "a"
    assert texts["en"]


def test_nothing_to_play_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "people.tsv").write_text("audio\tlanguage\ten\na.wav\ten\tturn off the lights\n")
    with pytest.raises(BadConfig, match="no recording in fr"):
        Lags(manifest=tmp_path / "people.tsv", source=("fr",)).measure()
