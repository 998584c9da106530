import builtins
import importlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.metrics import bleu, bleu_signature, chrf, word_error_rate

WORDS = st.sampled_from(["wake", "me", "up", "at", "nine", "tomorrow", "morning", "please"])
LINES = st.lists(st.lists(WORDS, min_size=4, max_size=9).map(" ".join), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(refs=LINES)
def test_a_perfect_text_scores_perfectly(refs):
    assert bleu(refs, refs, "en") == pytest.approx(100)
    assert chrf(refs, refs) == pytest.approx(100)
    assert word_error_rate(refs, refs, "en") == 0


PAIRS = st.lists(st.tuples(st.lists(WORDS, max_size=9).map(" ".join), LINES.map(max)), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(pairs=PAIRS, data=st.data())
def test_scores_stay_in_their_range_and_order_does_not_matter(pairs, data):
    moved = data.draw(st.permutations(pairs))
    for score, most in (
        (lambda hyps, refs: bleu(hyps, refs, "en"), 100),
        (chrf, 100),
        (lambda hyps, refs: word_error_rate(hyps, refs, "de"), 9),
    ):
        value = score(*zip(*pairs, strict=True))
        assert 0 <= value <= most + 1e-9
        assert value == pytest.approx(score(*zip(*moved, strict=True)))


def test_chinese_is_counted_in_characters():
    refs = ["请打开厨房的灯", "明天早上九点叫醒我"]
    hyps = ["请打开卧室的灯", "明天早上 九点 叫醒我"]
    assert bleu(hyps, refs, "zh-CN") > 50 > bleu(hyps, refs, "en")
    assert word_error_rate(hyps, refs, "zh") == pytest.approx(2 / 16)
    assert word_error_rate(["turn it off"], ["turn it on"], "en") == pytest.approx(1 / 3)
    assert "tok:zh" in bleu_signature("zh")
    assert "tok:13a" in bleu_signature("fr")
    assert "tok:char" in bleu_signature("th")


def test_empty_texts_count_as_errors():
    assert word_error_rate(["", "play jazz"], ["stop", "play jazz"], "en") == pytest.approx(1 / 3)
    assert bleu(["", ""], ["stop", "play jazz"], "en") == 0
    assert chrf([""], ["stop"]) == 0


@pytest.mark.parametrize(
    ("hyps", "refs", "problem"),
    [
        ([], [], "not a word"),
        (["a"], [" "], "not a word"),
        (["a"], [], "1 texts for 0 references"),
        ("ab", "ab", "lists of texts"),
    ],
)
def test_nothing_to_compare_is_refused(hyps, refs, problem):
    for score in (
        lambda: bleu(hyps, refs, "en"),
        lambda: chrf(hyps, refs),
        lambda: word_error_rate(hyps, refs, "en"),
    ):
        with pytest.raises(BadConfig, match=problem):
            score()


def test_an_empty_reference_among_others_is_named():
    with pytest.raises(BadConfig, match="reference 1 has no words"):
        word_error_rate(["a", "b"], ["a", ""], "en")


def test_an_unknown_language_is_refused():
    with pytest.raises(UnsupportedLanguage, match="xx"):
        bleu(["a"], ["a"], "xx")


@pytest.mark.parametrize(
    ("package", "score"),
    [
        ("sacrebleu", lambda: bleu(["a"], ["a"], "en")),
        ("sacrebleu", lambda: chrf(["a"], ["a"])),
        ("sacrebleu", lambda: bleu_signature("en")),
        ("jiwer", lambda: word_error_rate(["a"], ["a"], "en")),
    ],
)
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, package, score):
    real = importlib.import_module

    def without(name, *rest):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(BadConfig, match=rf"{package}: pip install {package}"):
        score()


def test_importing_the_room_needs_neither_package(monkeypatch):
    real = builtins.__import__

    def guarded(name, *rest, **more):
        assert name.partition(".")[0] not in ("sacrebleu", "jiwer", "torch")
        return real(name, *rest, **more)

    module = importlib.import_module("streamtrans.metrics.texts")
    monkeypatch.setattr(builtins, "__import__", guarded)
    importlib.reload(module)
