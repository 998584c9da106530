"""What every entry of the table of drafters must keep; a new entry is tested by being there."""

import pytest

from streamtrans.decode import DRAFTERS, DraftContext, parse_drafters
from streamtrans.testing.contracts import _ask, check_drafter


@pytest.mark.parametrize("name", [*DRAFTERS, ",".join(DRAFTERS)])
@pytest.mark.parametrize("seed", range(2))
def test_it_keeps_the_contract(name, seed):
    check_drafter(parse_drafters(name), list(DRAFTERS), seed=seed)


@pytest.mark.parametrize("name", list(DRAFTERS))
def test_it_forgets_one_conversation_before_the_next(name):
    factory = parse_drafters(name)
    first = factory.make(DraftContext(2, 0, (8, 9, 10, 11)))
    _ask(first.propose, [1, 2, 8, 9], 3, 9)
    second = factory.make(DraftContext(2, 0, ()))
    if name != "kvspn":
        assert _ask(second.propose, [1, 2, 8, 9], 3, 9)[0].tokens == ()
