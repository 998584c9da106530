"""Deepgram's ``/v1/listen``: live over a WebSocket, and for whole recordings by POST.

What is written is the spoken language, which ``language`` names, or what the parameter ``to`` asks for: a language, or
several joined by commas. Each of them is a channel, in that order, and ``languages`` names it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, BinaryIO

import grpc
from aiohttp import web

from streamtrans.core import SAMPLE_RATE
from streamtrans.server.dropin.deepgram.live import Live
from streamtrans.server.dropin.deepgram.shapes import about, alternative, now, paragraphs
from streamtrans.server.dropin.deepgram.wishes import Wish
from streamtrans.server.dropin.desk import Desk, bearing, converse, refused_at_the_door
from streamtrans.server.dropin.uploads import Upload, decoded, fill, hear, raw
from streamtrans.server.ending import ending
from streamtrans.server.http import Answer, http_status, retry_after
from streamtrans.server.kept import new_token, session_of
from streamtrans.server.link import Metadata
from streamtrans.server.refusal import Refusal, unsupported

_WHAT = {
    grpc.StatusCode.UNAUTHENTICATED: "INVALID_AUTH",
    grpc.StatusCode.PERMISSION_DENIED: "INSUFFICIENT_PERMISSIONS",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "TOO_MANY_REQUESTS",
    grpc.StatusCode.UNAVAILABLE: "SERVICE_UNAVAILABLE",
    grpc.StatusCode.INTERNAL: "INTERNAL_SERVER_ERROR",
}
"""Status → their name for it; others are ``Bad Request``."""

_SUBPROTOCOL = "token"
"""Where no header can be sent, a key is the second of the subprotocols that are offered, and this the first."""


def routes(desk: Desk) -> Iterable[web.RouteDef]:
    """Return what is called."""
    yield web.get("/v1/listen", partial(_live, desk))
    yield web.post("/v1/listen", partial(_recording, desk))


async def _live(desk: Desk, request: web.Request) -> web.StreamResponse:
    token = new_token()
    session_id, metadata = session_of(token), _metadata(request)
    if (refusal := refused_at_the_door(desk, metadata)) is not None:
        return _refused(session_id, refusal)
    live = Live(session_id, request.query)
    return await converse(desk, request, token, live, metadata=metadata, protocols=(_SUBPROTOCOL,))


async def _recording(desk: Desk, request: web.Request) -> web.StreamResponse:
    token, digest = new_token(), hashlib.sha256()
    session_id = session_of(token)

    async def receive(file: BinaryIO) -> Upload:
        if request.content_type == "application/json":
            raise unsupported("url: this server fetches nothing; send the recording itself as the body")
        body = request.content.iter_chunked(1 << 16)
        await fill(file, _hashed(aiter(body), digest), desk.config)
        pieces = raw(file, wish.options) if wish.encoded else decoded(file, desk.config.max_upload_ms)
        return Upload(wish.options, pieces)

    answer = Answer()
    async with ending(f"session {session_id}", answer):
        wish = Wish.read(request.query, live=False)
        upload = await hear(desk, request, token, _metadata(request), receive)
        return web.json_response(_report(session_id, upload, wish, digest.hexdigest()))
    return _refused(session_id, answer.refusal)


def _report(session_id: str, upload: Upload, wish: Wish, sha256: str) -> dict[str, Any]:
    """Return what is answered to a whole recording."""
    channels, utterances = [], []
    for channel, language in enumerate(upload.targets):
        captions = upload.of(language)
        reading = alternative(captions, upload.joint(language)) | {"languages": [language]}
        if wish.paragraphs:
            reading["paragraphs"] = paragraphs(captions, reading["transcript"])
        channels.append({"alternatives": [reading]})
        utterances += [
            {
                "start": caption.start / SAMPLE_RATE,
                "end": caption.end / SAMPLE_RATE,
                "channel": channel,
                "id": str(uuid.uuid4()),
                **alternative([caption], " "),
            }
            for caption in captions
        ]
    told = about(session_id, sha256, now(), upload.model)
    results = {"channels": channels} | ({"utterances": utterances} if wish.utterances else {})
    return {"metadata": told | {"duration": upload.duration_s, "channels": len(channels)}, "results": results}


async def _hashed(chunks: AsyncIterator[bytes], digest: Any) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _refused(session_id: str, refusal: Refusal) -> web.Response:
    """Return the answer to who is refused, in their words; a feature that isn't offered is a bad request."""
    status = 400 if refusal.code is grpc.StatusCode.UNIMPLEMENTED else http_status(refusal)
    request_id = str(uuid.UUID(session_id))
    told = {"err_code": _WHAT.get(refusal.code, "Bad Request"), "err_msg": refusal.message, "request_id": request_id}
    heading = refusal.message.encode("ascii", "replace").decode().replace("\n", " ")
    headers = {"dg-request-id": request_id, "dg-error": heading, **retry_after(refusal)}
    return web.json_response(told, status=status, headers=headers)


def _metadata(request: web.Request) -> Metadata:
    """Return who calls: ``Token KEY`` or ``Bearer KEY`` in the header, or the subprotocols ``token, KEY``."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in ("token", "bearer"):
        return bearing(key.strip())
    offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    return bearing(offered[1]) if len(offered) > 1 and offered[0] in ("token", "bearer") else ()
