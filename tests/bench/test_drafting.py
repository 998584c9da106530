import math

import pytest

from streamtrans.bench.drafting import Way, compare_drafters, compare_rereading
from streamtrans.core import BadConfig
from streamtrans.testing.toy import ToyConfig, ToyModel


class Spelled:
    def decode(self, tokens):
        return " ".join(f"w{token}" for token in tokens)


def test_ways_are_compared_on_the_same_texts(model, rows, speak):
    utterances = [speak(row, "en") for row in rows[:2]]
    ways = (Way("none"), Way("ngram"), Way("kvspn"), Way("kvspn", math.inf), Way("kvspn", count=None), Way(beams=3))
    figures = compare_drafters({"": model}, model.tokenizer, utterances, ("de", "zh"), ways)
    assert list(figures) == ["none", "ngram", "kvspn", "kvspn k=inf", "kvspn adaptive", "none beam 3"]
    assert figures["none"]["passes_per_token"] == 1
    assert figures["none"]["speed"] == 1
    for exact in ("none", "ngram", "kvspn", "kvspn adaptive"):
        assert figures[exact]["equal"] == 1
        assert figures[exact]["tokens"] == figures["none"]["tokens"]
        assert figures[exact]["bleu"] == figures["none"]["bleu"]
        assert figures[exact]["passes_per_token"] <= 1
    assert figures["kvspn k=inf"]["acceptance"] == {"kvspn": 1.0}
    assert all(each["ms_per_token"] > 0 for each in figures.values())


def test_models_take_their_turns_on_the_same_audio(model, rows, speak):
    other = ToyModel(ToyConfig(speculator=False))
    ways = (Way(), Way("kvspn"), Way(model="other"))
    figures = compare_drafters({"": model, "other": other}, Spelled(), [speak(rows[0], "en")], ("de",), ways)
    assert list(figures) == ["none", "kvspn", "other"]
    assert figures["other"]["passes_per_token"] == 1


def test_an_echo_saves_passes_on_growing_audio(rows, speak):
    toy = ToyModel(ToyConfig(order=1))
    utterances = [speak(rows[0], "en")]
    ways = (Way("none"), Way("echo"), Way("echo,kvspn", count=None))
    figures = compare_rereading(toy, utterances, ("de", "fr"), ways, step_ms=200)
    readings = 2 * math.ceil(len(utterances[0].audio) / 3_200)
    assert {each["readings"] for each in figures.values()} == {readings}
    assert len({each["tokens"] for each in figures.values()}) == 1
    assert (
        figures["none"]["passes_per_reading"]
        > figures["echo"]["passes_per_reading"]
        >= figures["echo,kvspn adaptive"]["passes_per_reading"]
    )


def test_what_cannot_be_compared_is_refused(rows, speak):
    utterances = [speak(rows[0], "en")]
    with pytest.raises(BadConfig, match="utterances"):
        compare_drafters({"": ToyModel()}, Spelled(), [], ("de",), (Way(),))
    with pytest.raises(BadConfig, match="needs a speculative network"):
        compare_drafters(
            {"": ToyModel(ToyConfig(speculator=False))}, Spelled(), utterances, ("de",), (Way(), Way("kvspn"))
        )
    with pytest.raises(BadConfig, match="names the model 'big'"):
        compare_drafters({"": ToyModel()}, Spelled(), utterances, ("de",), (Way(model="big"),))
