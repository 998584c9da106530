"""Whatever a client sends, over whatever carrier, the answer is a status that fits, with what is wrong: never a fault.

``streamtrans bench malformed`` sends ten thousand to a server of its own, and looks at its memory.
"""

import logging
import random
from collections import Counter

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2

from streamtrans.bench.malformed import Wrong, judged, make, torment
from tests.server.conftest import configured, running

CODE = grpc.StatusCode
COUNT = 300


@pytest.mark.timeout(120)
async def test_wrong_messages_are_answered_by_what_is_wrong_with_them(caplog):
    caplog.set_level(logging.WARNING)
    async with running(config=configured(http_port=0)) as (server, _):
        addresses = (f"127.0.0.1:{server.port}", *[f"ws://127.0.0.1:{server.http_port}"] * 2)
        found = await torment(addresses, COUNT)
        assert server.active_sessions == 0
    assert found["wrong"] == []
    assert sum(sum(codes.values()) for codes in found["statuses"].values()) == COUNT
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("text", [False, True])
def test_all_kinds_come_and_seeds_decide_which(text):
    first, again = ([make(random.Random(seed), text=text) for seed in range(200)] for _ in range(2))
    assert first == again
    kinds = Counter(call.kind for call in first)
    assert kinds.keys() >= {"noise", "flipped", "truncated", "misordered", "out of range", "not offered", "oversized"}


def test_what_is_answered_wrongly_is_found():
    call = Wrong("noise", [b""], (CODE.INVALID_ARGUMENT, CODE.OK), field=True)
    named = Any()
    named.Pack(error_details_pb2.BadRequest(field_violations=[{"field": "message"}]))
    assert judged(call, (CODE.INVALID_ARGUMENT, "why", (named,)), "gRPC") is None
    assert judged(call, (CODE.OK, "", ()), "gRPC") is None
    assert "names no field" in judged(call, (CODE.INVALID_ARGUMENT, "why", ()), "gRPC")
    assert "without a word" in judged(call, (CODE.INVALID_ARGUMENT, "", (named,)), "gRPC")
    assert judged(call, (CODE.NOT_FOUND, "why", ()), "gRPC") == "NOT_FOUND, why"
    internal = Wrong("noise", [b""], (CODE.INTERNAL,))
    assert judged(internal, (CODE.INTERNAL, "why", ()), "gRPC") == "INTERNAL, why"
