"""A script says the same over gRPC, a WebSocket with protobuf and one with JSON: one committed text, no gap.

``streamtrans bench scripts`` says a thousand of them.
"""

import asyncio

import pytest

from streamtrans.bench.scripts import compare, play, reading, script
from streamtrans.core import StreamtransError
from streamtrans.wire import ServerMessage, payload_of, summary_message
from streamtrans.wire.values import Summary

SCRIPTS = 100


@pytest.mark.timeout(120)
async def test_a_script_says_the_same_over_three_carriers():
    found = await compare(range(SCRIPTS))
    assert (found["different"], found["broken"]) == ([], [])
    assert (found["scripts"], found["calls"]) == (SCRIPTS, 3 * SCRIPTS)
    assert found["finals"] > SCRIPTS


def test_scripts_have_all_that_a_client_may_say():
    kinds = {payload_of(message) for seed in range(50) for message in script(seed)}
    assert kinds == {"config", "audio", "silence", "update", "end_utterance", "ping", "end"}


@pytest.mark.parametrize(
    ("numbers", "summary", "problem"), [((1, 3), True, "gap"), ((1, 2), False, "no summary"), ((), True, "no summary")]
)
def test_what_is_broken_is_told(numbers, summary, problem):
    told = [ServerMessage(event_sequence=number) for number in numbers]
    if told and summary:
        told[-1].MergeFrom(summary_message(Summary()))
    with pytest.raises(StreamtransError, match=problem):
        reading(told)


async def test_a_call_that_ends_in_its_middle_is_read_to_its_end():
    class Ended:
        async def write(self, message, *, last=False):
            pass

        async def read(self):
            return None

        async def close(self):
            pass

    async with asyncio.timeout(5):
        assert await play(Ended(), script(0)) == []
