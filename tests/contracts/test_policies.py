"""What every entry of the table of policies must keep; a new entry is tested by being there."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.stream import POLICIES, load_policy

READINGS = st.lists(st.lists(st.integers(0, 3), max_size=8).map(tuple), min_size=1, max_size=6)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=50, deadline=None)
@given(readings=READINGS)
def test_a_promise_is_part_of_the_newest_reading(name, n, readings):
    policy = load_policy(name, n)
    assert policy.memory >= 1
    assert 0 <= policy.promise(readings[-policy.memory :]) <= len(readings[-1])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=50, deadline=None)
@given(readings=READINGS, other=READINGS)
def test_a_policy_remembers_nothing(name, n, readings, other):
    policy = load_policy(name, n)
    seen = readings[-policy.memory :]
    kept = copy.deepcopy(seen)
    first = policy.promise(seen)
    policy.promise(other[-policy.memory :])
    assert policy.promise(seen) == first == load_policy(name, n).promise(seen)
    assert seen == kept


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=50, deadline=None)
@given(readings=READINGS, n=st.integers(1, 5))
def test_a_larger_number_promises_no_more(name, readings, n):
    def promised(number):
        policy = load_policy(name, number)
        return policy.promise(readings[-policy.memory :])

    assert promised(n + 1) <= promised(n)
