"""Whatever stands in an event of a realtime session, it is followed or answered: it is never a fault of the server."""

import contextlib
import copy
import itertools
import json

import pytest

from streamtrans.server.dropin.openai.realtime import Realtime
from streamtrans.server.dropin.openai.translations import Translations
from streamtrans.server.refusal import Refusal
from streamtrans.wire import ClientMessage

VALUES = (
    None, True, 0, -1, 1.5, 10**400, float("inf"), float("nan"), "", "x", "en", "\ud800", "x" * 10_000, [], [[]],
    [None], ["en"], ["\ud800"], ["en"] * 300, [f"l{number}" for number in range(300)], {}, {"x": {}}, {"language": []},
)  # fmt: skip

SESSION = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "noise_reduction": {"type": "near_field"},
            "transcription": {"language": "en", "languages": ["en"], "to": "de", "model": "x"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
        },
        "output": {"language": "de"},
    },
}

EVENTS = (
    {"type": "session.update", "event_id": "a", "session": SESSION},
    {"type": "input_audio_buffer.append", "event_id": "a", "audio": "AAAA"},
    {"type": "session.input_audio_buffer.append", "event_id": "a", "audio": "AAAA"},
)


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))


def with_one(event, path, value):
    event = copy.deepcopy(event)
    if not path:
        return value
    inner = event
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return event


CASES = [(each, path, value) for each in EVENTS for path, value in itertools.product(places(each), VALUES)]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("session", [Realtime, Translations])
def test_any_value_anywhere_is_followed_or_answered(session, begun):
    for event, path, value in CASES:
        speaking = session("0" * 32, "transcription", 60_000)
        list(speaking.opening())
        if begun:
            list(speaking.heard(json.dumps(EVENTS[0])))
        frame = json.dumps(with_one(event, path, value))
        with contextlib.suppress(Refusal):
            for said in speaking.heard(frame):
                if isinstance(said, ClientMessage):
                    assert said.SerializeToString()
                else:
                    assert json.loads(said.encode()) is not None
            list(speaking.heard(json.dumps(EVENTS[1])))
