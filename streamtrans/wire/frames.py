"""Messages as WebSocket frames: as protobuf, or as its canonical JSON, whichever subprotocol was agreed on.

```
                 streamtrans.v1+proto    streamtrans.v1+json
a message        binary                  text
audio alone      in a message            binary, or in a message (Base64)
what is said     text: {"authorization": "Bearer KEY"} first, {"status": {"code": …}} last
of the call
```
Law: the message that was framed is the one that is read, in either form.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Box
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships none

from streamtrans.v1 import streamtrans_pb2 as pb
from streamtrans.wire.options import BadFields

Frame = str | bytes
M = TypeVar("M", bound=Message)

KNOWN_DETAILS = (error_details_pb2.BadRequest, error_details_pb2.RetryInfo, error_details_pb2.QuotaFailure)
"""What a status may carry; imported, so that JSON can name them."""

_DEPTH = 20
"""Messages within messages; ours are 3 deep."""


class Form(Protocol):
    """How the messages of one connection are framed."""

    @property
    def subprotocol(self) -> str:
        """Under which name it is agreed on."""
        ...

    def frame(self, message: Message) -> Frame:
        """Return ``message`` as one frame."""
        ...

    def message(self, frame: Frame, kind: type[M]) -> M:
        """Read one frame.

        Raises:
            BadFields: it is no such message.
        """
        ...


class ProtoForm:
    """Protobuf in binary frames."""

    subprotocol = "streamtrans.v1+proto"

    def frame(self, message: Message) -> Frame:
        """Return ``message`` as one frame."""
        return message.SerializeToString()

    def message(self, frame: Frame, kind: type[M]) -> M:
        """Read one frame; raises what :meth:`Form.message` does."""
        if isinstance(frame, str):
            raise BadFields([("message", f"{self.subprotocol} has messages in binary frames, and this one is text")])
        try:
            return kind.FromString(frame)
        except DecodeError as error:
            raise BadFields([("message", f"the bytes are no {kind.DESCRIPTOR.name}")]) from error


class JsonForm:
    """Canonical JSON of protobuf in text frames, and audio in binary ones, which it numbers: one object a connection.

    Names that a message doesn't have, and those that come twice, are refused; a server may tell newer ones.
    """

    subprotocol = "streamtrans.v1+json"

    def __init__(self) -> None:
        self._sequence = 0
        """Of the newest numbered audio or silence."""

    def frame(self, message: Message) -> Frame:
        """Return ``message`` as one frame."""
        if isinstance(message, pb.StreamTranslateResponse) and message.HasField("started"):
            self._sequence = message.started.acknowledged_sequence
        return json_format.MessageToJson(message, indent=None, ensure_ascii=False)

    def message(self, frame: Frame, kind: type[M]) -> M:
        """Read one frame; raises what :meth:`Form.message` does."""
        message = kind()
        if isinstance(frame, str):
            _fill_in(message, _read(frame))
        elif isinstance(message, pb.StreamTranslateRequest):
            message.audio.data, message.audio.sequence = frame, self._sequence + 1
        else:
            raise BadFields([("message", f"a {kind.DESCRIPTOR.name} is text, and this frame is binary")])
        if isinstance(message, pb.StreamTranslateRequest):
            self._sequence = max(message.audio.sequence, message.silence.sequence) or self._sequence
        return message


FORMS: Mapping[str, type[ProtoForm | JsonForm]] = {form.subprotocol: form for form in (ProtoForm, JsonForm)}
"""Subprotocol → form, the preferred one first."""


def authorization_frame(value: str) -> str:
    """Say who calls, such as ``Bearer KEY``, where no header can."""
    return json.dumps({"authorization": value})


def authorization_in(frame: Frame) -> str | None:
    """Return what :func:`authorization_frame` said; ``None`` for any other frame."""
    if not isinstance(frame, str) or '"authorization"' not in frame:
        return None
    given = _read(frame)
    value = given.get("authorization")
    return value if isinstance(value, str) and len(given) == 1 else None


def status_frame(code: int, name: str, message: str = "", details: Iterable[Message] = ()) -> str:
    """Say how a call ended: a ``google.rpc.Status``, with the name of its code."""
    told: dict[str, Any] = {"code": code, "name": name}
    if message:
        told["message"] = message
    boxes = []
    for detail in details:
        box = Box()
        box.Pack(detail)
        boxes.append(json_format.MessageToDict(box))
    if boxes:
        told["details"] = boxes
    return json.dumps({"status": told}, ensure_ascii=False)


def status_in(frame: Frame) -> tuple[int, str, tuple[Box, ...]] | None:
    """Return code, message and details of a status; ``None`` for any other frame."""
    if not isinstance(frame, str) or '"status"' not in frame:
        return None
    try:
        told = _read(frame)["status"]
        told.pop("name", None)
        status = json_format.ParseDict(told, status_pb2.Status(), ignore_unknown_fields=True)
    except (AttributeError, BadFields, KeyError, json_format.ParseError):
        return None
    return status.code, status.message, tuple(status.details)


def _read(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise BadFields([("message", "the text is JSON of too many levels")]) from error
    except ValueError as error:
        raise BadFields([("message", f"the text is no JSON: {error}")]) from error
    if not isinstance(given, dict):
        raise BadFields([("message", f"the text is JSON, but no object; send one such as {_EXAMPLE}")])
    return given


_EXAMPLE = '{"ping": {"clientTimeMs": 1}}'


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return given


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _fill_in(message: Message, given: dict[str, Any]) -> None:
    """Fill ``message`` with ``given``; audio aside, which ``json_format`` would read from anything like Base64."""
    audio = given.get("audio")
    data = audio.pop("data", None) if isinstance(audio, dict) else None
    try:
        newer = not isinstance(message, pb.StreamTranslateRequest | pb.WatchCaptionsRequest)
        json_format.ParseDict(given, message, ignore_unknown_fields=newer, max_recursion_depth=_DEPTH)
    except json_format.ParseError as error:
        raise BadFields([("message", _told(str(error)))]) from error
    if data is not None:
        message.audio.data = _base64(data)  # type: ignore[attr-defined]  # `audio` was known


def _told(problem: str) -> str:
    """Return what may be logged of ``problem``: no values, which it quotes behind a colon, and no half characters."""
    return problem.partition(': "')[0].encode(errors="replace").decode()


def _base64(data: object) -> bytes:
    try:
        if not isinstance(data, str):
            raise TypeError
        standard = data.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise BadFields([("audio.data", "is no Base64 text")]) from error
