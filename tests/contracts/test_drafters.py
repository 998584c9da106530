"""What every entry of the table of drafters must keep; a new entry is tested by being there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.decode import DRAFTERS, DraftContext, parse_drafters
from streamtrans.model.api import Guess, Propose

PROMPT = (1, 2)
EOT = 0
WORDS = st.lists(st.integers(8, 14), max_size=30).map(tuple)


class CacheOf:
    floor = 0

    def __init__(self, length):
        self.length = length

    def truncate(self, length):
        raise AssertionError("a drafter has no business with the cache")


def ask(drafter, tokens, read, room):
    """Play the loop: answer each proposal with eights, and return the draft and what was asked."""
    drafting, asked = drafter.propose(tokens, CacheOf(read), room), []
    try:
        request = next(drafting)
        while True:
            asked.append(request)
            request = drafting.send(Guess((8,) * request.count, (-1.0,) * request.count))
    except StopIteration as stop:
        return stop.value, asked


@pytest.mark.parametrize("name", [*DRAFTERS, ",".join(DRAFTERS)])
@settings(max_examples=60, deadline=None)
@given(
    text=WORDS,
    previous=WORDS,
    room=st.integers(0, 12),
    unread=st.integers(1, 5),
    count=st.sampled_from([None, 0, 1, 8]),
    outcomes=st.lists(st.floats(0, 1), max_size=8),
)
def test_it_keeps_to_the_room_and_to_its_inputs(name, text, previous, room, unread, *, count, outcomes):
    factory = parse_drafters(name)
    tokens = [*PROMPT, *text]
    drafter = factory.make(DraftContext(len(PROMPT), EOT, previous, count=count))
    for outcome in outcomes:
        draft, _ = ask(drafter, tokens, len(tokens) - 1, 12)
        drafter.verified(draft, round(outcome * len(draft.tokens)))
    draft, asked = ask(drafter, tokens, max(0, len(tokens) - unread), room)
    assert len(draft.tokens) <= room
    assert draft.name in DRAFTERS
    assert draft.top_k == 1
    assert tokens == [*PROMPT, *text]
    assert all(isinstance(request, Propose) and request.tokens == (tokens[-1],) for request in asked)
    assert all(1 <= request.count <= min(8, room) for request in asked)
    assert factory.needs_speculator or not asked
    assert not set(draft.tokens) - {EOT, 8, *text, *previous}


@pytest.mark.parametrize("name", list(DRAFTERS))
def test_it_forgets_one_conversation_before_the_next(name):
    factory = parse_drafters(name)
    first = factory.make(DraftContext(2, EOT, (8, 9, 10, 11)))
    ask(first, [*PROMPT, 8, 9], 3, 9)
    second = factory.make(DraftContext(2, EOT, ()))
    if name != "kvspn":
        assert ask(second, [*PROMPT, 8, 9], 3, 9)[0].tokens == ()
