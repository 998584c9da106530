"""What `bench guard` counts, on the embedded model and on texts."""

import json
from pathlib import Path

import pytest
import soundfile

from streamtrans.audio import read_audio
from streamtrans.bench.guard import _later, _Read
from streamtrans.bench.realtime import DEMO
from streamtrans.core import Caption
from streamtrans.corpus import Recording
from tests.bench.test_bench import invoke


@pytest.mark.slow
def test_wrong_languages_are_counted_of_captions_and_of_texts(tmp_path):
    soundfile.write(tmp_path / "a.wav", read_audio(DEMO)[: 6 * 16_000], 16_000)
    (tmp_path / "people.tsv").write_text("audio\tlanguage\ten\na.wav\ten\tturn off the lights in the kitchen\n")
    texts = tmp_path / "right.tsv"
    wrong = "this sentence is of course in plain English and of nobody else"
    texts.write_text(f"id\ten\tde\n1\tgood morning my friend\tguten Morgen mein Freund\n2\t{wrong}\t{wrong}\n")

    invoke("bench", "guard", tmp_path / "people.tsv", "--to", "de,en", "--texts", texts, "--results", tmp_path)

    figures = json.loads((tmp_path / "guard.json").read_text())["figures"]
    whole = {row["guard"]: row for row in figures["directions"] if row["direction"] == "all"}
    assert whole["on"]["captions"] == whole["off"]["captions"] > 0
    assert figures["right_and_changed"]["taken_away"] == 0
    later = figures["right_promised_later"]
    assert later["commit_p50_on_ms"] == later["commit_p50_off_ms"] > 0
    assert (later["words"] > 0, later["later_words"]) == (True, 0)
    assert [(line["language"], line["texts"], line["doubted"], line["held_back"]) for line in figures["texts"]] == [
        ("en", 2, 0, 0),
        ("de", 2, 1, 1),
    ]
    names = ("translations", "strayed", "strayed_and_held", "cut_short")
    assert [[line[name] for name in names] for line in figures["texts"]] == [[2, 0, 0, 0], [2, 1, 1, 0]]


def read(place, text, *commits, language="en"):
    recording = Recording(Path("a.wav"), language, text, {})
    return _Read(recording, Caption(place, 1, language, text, "", True, 0, 1, 1), 0.0, commits)


def test_words_of_right_captions_are_compared_with_themselves():
    tell = {"good morning to you": "en", "guten Morgen an euch": "de", "he": "en"}.get
    off = [read(0, "good morning to you", 0.5, 0.5, 1.0, 1.0), read(1, "guten Morgen an euch", 9.0), read(2, "he", 0.4)]
    on = [read(0, "good morning to you", 0.5, 0.5, 1.0, 1.9), read(1, "he", 0.1), read(2, "he", 0.4)]
    assert _later(off, on, tell) == {
        "commit_p50_off_ms": 500,
        "commit_p50_on_ms": 500,
        "words": 5,
        "later_p50_ms": 0,
        "later_words": 1,
    }
    assert _later([], [], tell)["commit_p50_on_ms"] is None
