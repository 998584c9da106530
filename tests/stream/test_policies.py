import math

import pytest

from streamtrans.core import BadConfig, Hypothesis
from streamtrans.stream import Span, load_policy
from streamtrans.testing.engine import hypothesis

SPAN = Span(0, 16_000, 48_000)  # two seconds


@pytest.mark.parametrize(("n", "promised"), [(0, 4), (1, 3), (4, 0), (9, 0)])
def test_hold_keeps_the_tail_back(n, promised):
    assert load_policy("hold", n).promise([hypothesis((1, 2, 3, 4))], SPAN) == promised


@pytest.mark.parametrize(
    ("n", "readings", "promised"),
    [
        (2, [(1, 2, 3)], 0),
        (2, [(1, 2, 3), (1, 2, 4)], 2),
        (2, [(1, 2), (1, 2, 4)], 2),
        (2, [(1, 2, 3), (9,)], 0),
        (2, [(1,), ()], 0),
        (3, [(1, 2, 3), (1, 2, 4)], 0),
        (3, [(1, 9), (1, 2, 3), (1, 2, 3)], 1),
        (1, [(1, 2, 3)], 3),
    ],
)
def test_agreement_promises_what_readings_share(n, readings, promised):
    assert load_policy("agreement", n).promise([hypothesis(tokens) for tokens in readings], SPAN) == promised


@pytest.mark.parametrize(("n", "promised"), [(0, 4), (50, 2), (90, 1), (95, 0), (100, 0)])
def test_threshold_promises_up_to_the_first_improbable_token(n, promised):
    reading = Hypothesis((1, 2, 3, 4), tuple(map(math.log, (0.92, 0.6, 0.3, 0.99))))
    assert load_policy("threshold", n).promise([reading], SPAN) == promised


def test_a_promised_prefix_is_probable_enough_for_any_threshold():
    assert load_policy("threshold", 100).promise([Hypothesis((1, 2), (0.0, -0.1))], SPAN) == 1


@pytest.mark.parametrize(("n", "promised"), [(0, 4), (100, 3), (1_000, 2), (3_000, 0)])
def test_alignatt_promises_until_a_token_listens_to_the_newest_audio(n, promised):
    reading = Hypothesis((1, 2, 3, 4), (0.0,) * 4, ends=(17_000, 32_000, 46_000, 48_000))
    assert load_policy("alignatt", n).promise([reading], SPAN) == promised


def test_alignatt_promises_nothing_without_alignment():
    assert load_policy("alignatt", 0).promise([hypothesis((1, 2, 3))], SPAN) == 0


@pytest.mark.parametrize(("n", "promised"), [(0, 7), (3, 4), (7, 0), (20, 0)])
def test_waitk_promises_a_step_per_280_ms_after_the_first(n, promised):
    assert load_policy("waitk", n).promise([hypothesis(range(9))], SPAN) == promised


def test_final_promises_nothing():
    assert load_policy("final", 3).promise([hypothesis((1, 2, 3))], SPAN) == 0


@pytest.mark.parametrize(("name", "n"), [("threshold", 101), ("threshold", -1), ("alignatt", -5), ("waitk", -1)])
def test_numbers_out_of_range_are_refused(name, n):
    with pytest.raises(BadConfig, match=name):
        load_policy(name, n)
