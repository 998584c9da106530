"""What every entry of the table of policies must keep; a new entry is tested by being there."""

from functools import partial

import pytest

from streamtrans.stream import POLICIES, load_policy
from streamtrans.testing.contracts import check_policy


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_it_keeps_the_contract(name, seed):
    check_policy(partial(load_policy, name), seed=seed)


class Greedy:
    """Promises more than there is, more for a larger number, or remembers."""

    memory = 1

    def __init__(self, fault, n):
        self._fault, self._n, self._seen = fault, n, 0

    def promise(self, readings, _span):
        self._seen += 1
        most = len(readings[-1].tokens)
        return {"more": most + 1, "larger": min(most, self._n), "remembers": min(most, self._seen)}[self._fault]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("more", "were promised"), ("larger", "a larger number promises no more"), ("remembers", "remembers nothing")],
)
def test_the_contract_finds_faults(fault, said):
    with pytest.raises(AssertionError, match=said):
        check_policy(partial(Greedy, fault))
