"""Events of OpenAI's realtime interfaces: how they are read, numbered and refused."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from streamtrans.server.dropin.desk import Said
from streamtrans.server.dropin.openai.shapes import error
from streamtrans.server.refusal import Refusal
from streamtrans.wire import Frame


class BadEvent(Exception):
    """An event can't be followed; the session goes on."""

    def __init__(self, problem: str, param: str | None = None) -> None:
        super().__init__(problem)
        self.param = param


class Events:
    """What one session tells, numbered."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, kind: str, **fields: Any) -> str:
        """Return an event."""
        self._count += 1
        return json.dumps({"type": kind, "event_id": f"event_{self._count}", **fields}, ensure_ascii=False)

    def refused(self, refusal: Refusal) -> str:
        """Return the event that says why a session ends."""
        return self("error", error={**error(refusal), "event_id": None})

    def answered(self, frame: Frame, follow: Callable[[Mapping[str, Any]], Iterator[Said]]) -> Iterator[Said]:
        """Yield what ``follow`` makes of the event in a frame, or why it can't be followed."""
        event: Any = {}
        try:
            event = _read(frame)
            yield from follow(event)
        except BadEvent as problem:
            told = {"type": "invalid_request_error", "code": "invalid_value", "message": str(problem)}
            yield self("error", error={**told, "param": problem.param, "event_id": event.get("event_id")})


def decoded_audio(event: Mapping[str, Any]) -> bytes:
    """Return the audio of an event.

    Raises:
        BadEvent: there is none.
    """
    audio = event.get("audio")
    try:
        if not isinstance(audio, str):
            raise TypeError
        return base64.b64decode(audio, validate=True)
    except (TypeError, ValueError, binascii.Error) as problem:
        raise BadEvent("the audio is no Base64 text", "audio") from problem


def part(event: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the object that stands at ``path``, an empty one where nothing is.

    Raises:
        BadEvent: something else is there, or on the way.
    """
    found: Any = event
    for place, name in enumerate(path, 1):
        found = found.get(name)
        found = {} if found is None else found
        if not isinstance(found, dict):
            where = ".".join(path[:place])
            raise BadEvent(f"{where} is no object", where)
    return cast(Mapping[str, Any], found)


def _read(frame: Frame) -> dict[str, Any]:
    try:
        event = json.loads(frame)
        json.dumps(event, ensure_ascii=False, allow_nan=False).encode()  # no half of a character, no infinity
    except (ValueError, RecursionError) as problem:
        raise BadEvent("the text is no JSON") from problem
    if not isinstance(event, dict):
        raise BadEvent("the text is JSON, but no object")
    return event
