"""OpenAI's ``/v1/audio/transcriptions``, ``/v1/audio/translations`` and the sessions of ``/v1/realtime``.

A transcription needs ``language``, what is spoken; the field ``to`` asks for another one to be written. A translation
is English, or what ``to`` says.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import grpc
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from streamtrans.core import Caption
from streamtrans.server.dropin.desk import Desk, Dialect, bearing, converse, refused_at_the_door
from streamtrans.server.dropin.openai.realtime import Realtime
from streamtrans.server.dropin.openai.shapes import error, seconds, verbose, words
from streamtrans.server.dropin.openai.translations import Translations
from streamtrans.server.dropin.uploads import Upload, decoded, fill, hear, patient
from streamtrans.server.ending import ending
from streamtrans.server.http import Answer, http_status, metadata_of, retry_after
from streamtrans.server.kept import new_token, session_of
from streamtrans.server.link import LinkLost, Metadata
from streamtrans.server.refusal import Refusal, invalid, unsupported
from streamtrans.text.subtitles import FORMATS, cue
from streamtrans.wire import StreamOptions

_MOST_FIELD_BYTES = 65_536
"""Of all fields of a form together, with their names, but the file."""

_MOST_PARTS = 128
"""Of a form; its fields are some twenty, a few of which may come several times."""

_TOLD = 64
"""Characters of a field's name, where it is told what is wrong with it."""

_RESPONSES = ("json", "text", "srt", "verbose_json", "vtt")

_SUBPROTOCOLS = ("realtime", "openai-insecure-api-key.")
"""Where no header can be sent: the first is agreed on, and what another one has behind the second is the key."""


def routes(desk: Desk) -> Iterable[web.RouteDef]:
    """Return what is called."""
    yield web.post("/v1/audio/transcriptions", partial(_recording, desk, "transcribe"))
    yield web.post("/v1/audio/translations", partial(_recording, desk, "translate"))
    yield web.get("/v1/realtime", partial(_realtime, desk))
    yield web.get("/v1/realtime/translations", partial(_translations, desk))
    yield web.get("/v1/models", partial(_models, desk))


@dataclass(frozen=True, slots=True)
class Wish:
    """What the fields of a form ask for; those of them that only polish a transcript are left out."""

    options: StreamOptions
    response: str
    stream: bool
    words: bool
    segments: bool

    @classmethod
    def read(cls, fields: dict[str, list[str]], task: str) -> Wish:
        """Read the fields.

        Raises:
            Refusal: one is wrong, or asks for what isn't to be had here.
        """
        said = {name: values[-1] for name, values in fields.items()}
        source = said.get("language") or None
        target = said.get("to") or ("en" if task == "translate" else source)
        if target is None:
            raise invalid([("language", "is missing; this server doesn't find out what is spoken: say it, such as en")])
        response = said.get("response_format") or "json"
        if response not in _RESPONSES:
            raise unsupported(f"response_format: {response!r} isn't offered here; use one of {', '.join(_RESPONSES)}")
        granularities = fields.get("timestamp_granularities[]", [])
        return cls(
            StreamOptions(
                (target,),
                encoding="pcm_f32le",
                source_languages=() if source is None else (source,),
                mode="final",
                word_times=True,
            ),
            response,
            said.get("stream", "false").lower() == "true",
            "word" in granularities,
            "segment" in granularities or not granularities,
        )


async def _recording(desk: Desk, task: str, request: web.Request) -> web.StreamResponse:
    token, events, wishes = new_token(), _Events(request), list[Wish]()

    async def receive(file: BinaryIO) -> Upload:
        wish = Wish.read(await _form(request, file, desk), task)
        wishes.append(wish)
        upload = Upload(wish.options, decoded(file, desk.config.max_upload_ms))
        return upload.telling(partial(events.delta, upload)) if wish.stream else upload

    answer = Answer()
    async with ending(f"session {session_of(token)}", answer):
        upload = await hear(desk, request, token, metadata_of(request) or (), receive)
        [wish] = wishes
        if wish.stream:
            return await events.end({"type": "transcript.text.done", "text": upload.text(*upload.targets)})
        return _answer(wish, task, upload)
    return await events.end({"error": error(answer.refusal)}) if events.begun else _refused(answer.refusal)


async def _models(desk: Desk, request: web.Request) -> web.StreamResponse:
    """List the one model that answers, whatever it is called by."""
    answer = Answer()
    async with ending("models", answer):
        name = desk.service.capabilities(metadata_of(request) or ()).model
        model = {"id": name, "object": "model", "created": 0, "owned_by": "streamtrans"}
        return web.json_response({"object": "list", "data": [model]})
    return _refused(answer.refusal)


async def _realtime(desk: Desk, request: web.Request) -> web.StreamResponse:
    token, most_ms = new_token(), desk.config.limits.max_connection_ms
    session = Realtime(session_of(token), request.query.get("intent", ""), most_ms)
    return await _session(desk, request, token, session)


async def _translations(desk: Desk, request: web.Request) -> web.StreamResponse:
    token, most_ms = new_token(), desk.config.limits.max_connection_ms
    session = Translations(session_of(token), request.query.get("model", ""), most_ms)
    return await _session(desk, request, token, session)


async def _session(desk: Desk, request: web.Request, token: str, dialect: Dialect) -> web.StreamResponse:
    metadata = _metadata(request)
    if (refusal := refused_at_the_door(desk, metadata)) is not None:
        return _refused(refusal)
    return await converse(desk, request, token, dialect, metadata=metadata, protocols=_SUBPROTOCOLS[:1])


async def _form(request: web.Request, file: BinaryIO, desk: Desk) -> dict[str, list[str]]:
    """Write the file of a form to ``file``, and return its other fields.

    Raises:
        Refusal: it is no form, has no file or several, is too large, or comes too slowly.
    """
    if request.content_type != "multipart/form-data":
        raise invalid([("file", "is missing; send a form (multipart/form-data) with it")])
    fields: dict[str, list[str]] = {}
    found, parts, left, idle_ms = False, 0, _MOST_FIELD_BYTES, desk.config.limits.idle_ms
    try:
        async for part in patient(aiter(await request.multipart()), idle_ms):
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ValueError("its parts have no names")
            if (parts := parts + 1) > _MOST_PARTS:
                raise invalid([(part.name[:_TOLD], f"is one part too many; at most {_MOST_PARTS} are read")])
            if part.name == "file":
                if found:
                    raise invalid([("file", "comes twice; send one recording in each form")])
                found = True
                await fill(file, _chunks(part), desk.config)
                continue
            value = b"".join([chunk async for chunk in patient(_chunks(part, left), idle_ms)])
            left -= len(part.name.encode()) + len(value)
            fields.setdefault(part.name, []).append(value.decode())
    except (ValueError, RuntimeError, HttpProcessingError) as problem:  # RuntimeError: of a character set's name
        raise invalid([("file", "the form is damaged or breaks off")]) from problem
    if not found:
        raise invalid([("file", "is missing; send the recording under this name")])
    return fields


async def _chunks(part: BodyPartReader, most: int | None = None) -> AsyncIterator[bytes]:
    size = 0 if most is None else len(str(part.name).encode())
    while True:
        if most is not None and size > most:
            raise invalid([(str(part.name)[:_TOLD], f"is too long; at most {_MOST_FIELD_BYTES} bytes of all are read")])
        if not (chunk := await part.read_chunk()):
            return
        size += len(chunk)
        yield chunk


def _answer(wish: Wish, task: str, upload: Upload) -> web.Response:
    [language] = upload.targets
    captions, text = upload.of(language), upload.text(language)
    if wish.response in FORMATS:
        written = FORMATS[wish.response](cue(caption, upload.samples) for caption in captions)
        return web.Response(text=written, content_type="text/vtt" if wish.response == "vtt" else "text/plain")
    if wish.response == "text":
        return web.Response(text=text + "\n")
    used = {"usage": seconds(upload.duration_s)} if task == "transcribe" else {}
    if wish.response == "json":
        return web.json_response({"text": text, **used})
    told: dict[str, Any] = {"task": task, **verbose(captions, language, upload.duration_s, text), **used}
    if not wish.segments:
        del told["segments"]
    if wish.words:
        told["words"] = words(captions)
    return web.json_response(told)


class _Events:
    """An answer that is told while it is made: server-sent events, begun with the first of them."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})

    @property
    def begun(self) -> bool:
        """Whether something was told."""
        return self._response.prepared

    async def delta(self, upload: Upload, caption: Caption) -> None:
        """Tell what a segment adds to the text."""
        if text := " ".join(caption.text.split()):
            joint = upload.joint(caption.language) if len(upload.of(caption.language)) > 1 else ""
            await self._say({"type": "transcript.text.delta", "delta": joint + text})

    async def end(self, event: dict[str, Any]) -> web.StreamResponse:
        """Tell the last, and return the answer."""
        await self._say(event)
        return self._response

    async def _say(self, event: dict[str, Any]) -> None:
        try:
            if not self._response.prepared:
                await self._response.prepare(self._request)
            await self._response.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())
        except ConnectionError as problem:
            raise LinkLost from problem


def _refused(refusal: Refusal) -> web.Response:
    """Return the answer to who is refused; what isn't offered is a bad request."""
    status = 400 if refusal.code is grpc.StatusCode.UNIMPLEMENTED else http_status(refusal)
    return web.json_response({"error": error(refusal)}, status=status, headers=retry_after(refusal))


def _metadata(request: web.Request) -> Metadata:
    """Return who calls: by the header, or by a subprotocol."""
    offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    keys = [each.removeprefix(_SUBPROTOCOLS[1]) for each in offered if each.startswith(_SUBPROTOCOLS[1])]
    return metadata_of(request) or bearing(keys[0] if keys else "")
