"""What every entry of the table of policies must keep; a new entry is tested by being there."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Hypothesis
from streamtrans.stream import POLICIES, Span, load_policy

SPAN = Span(0, 16_000, 48_000)


def _hypothesis(rows):
    """Make a hypothesis of (token, log-probability, end) rows."""
    tokens, logprobs, ends = zip(*rows, strict=True) if rows else ((), (), ())
    return Hypothesis(tokens, logprobs, ends=ends)


TOKENS = st.tuples(st.integers(0, 3), st.floats(-5, 0), st.integers(16_000, 48_000))
READINGS = st.lists(st.lists(TOKENS, max_size=8).map(_hypothesis), min_size=1, max_size=6)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=50, deadline=None)
@given(readings=READINGS)
def test_a_promise_is_part_of_the_newest_reading(name, n, readings):
    policy = load_policy(name, n)
    assert policy.memory >= 1
    assert 0 <= policy.promise(readings[-policy.memory :], SPAN) <= len(readings[-1].tokens)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=50, deadline=None)
@given(readings=READINGS, other=READINGS)
def test_a_policy_remembers_nothing(name, n, readings, other):
    policy = load_policy(name, n)
    seen = readings[-policy.memory :]
    kept = copy.deepcopy(seen)
    first = policy.promise(seen, SPAN)
    policy.promise(other[-policy.memory :], SPAN)
    assert policy.promise(seen, SPAN) == first == load_policy(name, n).promise(seen, SPAN)
    assert seen == kept


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=50, deadline=None)
@given(readings=READINGS, n=st.integers(1, 5))
def test_a_larger_number_promises_no_more(name, readings, n):
    def promised(number):
        policy = load_policy(name, number)
        return policy.promise(readings[-policy.memory :], SPAN)

    assert promised(n + 1) <= promised(n)
