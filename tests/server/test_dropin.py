"""Whoever's words an endpoint speaks: it is closed to those who may not call, and nothing of a call stays."""

import asyncio
import contextlib
import gc
from types import SimpleNamespace

import aiohttp
import numpy as np
import pytest

from streamtrans.server.dropin import dropin_routes
from tests.attack.test_leaves import ours
from tests.server.test_canary import CANARY, Speaks, assert_silent, folder, held, logged, said, write

__all__ = ["folder", "logged"]

ROUTES = [(route.method, route.path) for route in dropin_routes(SimpleNamespace())]
SOCKETS = ("/v1/listen", "/v1/realtime", "/v1/realtime/translations")
HEADERS = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
HEADERS |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
RAW = "encoding=linear16&sample_rate=16000"


async def call(session, server, method, path, **headers):
    """Ask for ``path``, for a WebSocket where it is one, and return status and text."""
    if method == "GET" and path in SOCKETS:
        headers = HEADERS | headers
    address = f"http://localhost:{server.http_port}{path}"
    async with session.request(method, address, headers=headers, data=b"x" if method == "POST" else None) as answer:
        return answer.status, await answer.text() if answer.status != 101 else ""


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=map("{0[0]} {0[1]}".format, ROUTES))
async def test_an_endpoint_is_closed_to_who_may_not_call(house, tmp_path, method, path):
    (tmp_path / "keys.toml").write_text("")
    config = house.configured(http_port=0, keys=tmp_path / "keys.toml")
    async with house.running(config=config) as (server, _), aiohttp.ClientSession() as session:
        for key in ({}, {"Authorization": "Bearer st_guess"}, {"Authorization": "Token st_guess"}):
            status, told = await call(session, server, method, path, **key)
            assert status == 401
            assert "asks for a key that it knows" in told
    async with house.running(config=house.configured(http_port=0)) as (server, _), aiohttp.ClientSession() as session:
        if path != "/v1/models":  # which a page can't read, and which does nothing
            status, told = await call(session, server, method, path, Origin="https://elsewhere.example")
            assert status == 403
            assert "pages of https://elsewhere.example may not call here" in told
        server._service.draining = True
        status, told = await call(session, server, method, path)
        assert status == 503
        assert "the server is shutting down" in told


def wav(data):
    """Return 16-bit samples at 16 kHz as a file."""
    size = len(data)
    head = b"RIFF" + np.uint32(36 + size).tobytes() + b"WAVEfmt " + np.uint32(16).tobytes()
    head += np.array([1, 1], "<u2").tobytes() + np.array([16_000, 32_000], "<u4").tobytes()
    return head + np.array([2, 16], "<u2").tobytes() + b"data" + np.uint32(size).tobytes() + data


def form(data, **fields):
    body = aiohttp.FormData(fields)
    body.add_field("file", data, filename="talk.wav")
    return body


async def test_what_is_said_is_told_to_its_reader_and_to_nobody_else(house, logged, folder):
    served = house.served(house.instant(write), tokenizer=Speaks())
    async with (
        house.running(served, house.configured(http_port=0)) as (server, _),
        aiohttp.ClientSession(f"http://localhost:{server.http_port}") as session,
    ):
        whole = wav(said(house))
        for answer in (
            await session.post("/v1/listen?utterances=true", data=whole),
            await session.post("/v1/audio/transcriptions", data=form(whole, language="en")),
            await session.post("/v1/audio/transcriptions", data=form(whole, language="en", stream="true")),
        ):
            assert CANARY in await answer.text()
        async with session.ws_connect(f"/v1/listen?{RAW}&interim_results=true") as socket:
            await socket.send_bytes(said(house))
            await socket.send_str('{"type": "CloseStream"}')
            assert any(CANARY in message.data for message in [each async for each in socket])
        await session.post("/v1/audio/transcriptions", data=form(said(house) * 3, language="en"))
    assert_silent(logged())
    assert held(folder) == {}


WAYS = {
    "a recording": ("/v1/listen", wav(bytes(range(250)) * 128)),
    "no recording": ("/v1/listen", b"Dear Sir or Madam" * 30),
    "nothing": ("/v1/listen", b""),
    "an unknown language": ("/v1/listen?language=tlh", wav(bytes(32_000))),
    "a form that is none": ("/v1/audio/translations", b"--x"),
    "audio": (f"/v1/listen?{RAW}", bytes(range(250)) * 128, '{"type": "Finalize"}', '{"type": "CloseStream"}'),
    "a language that isn't there": (f"/v1/listen?{RAW}&language=tlh", "{}"),
    "a parameter that is wrong": (f"/v1/listen?{RAW}&channels=many", "{}"),
    "no end": (f"/v1/listen?{RAW}", bytes(range(250)) * 128),
    "a session that is none": ("/v1/realtime?intent=transcription", '{"type": "input_audio_buffer.append"}', "{"),
    "a translation": ("/v1/realtime/translations", '{"type": "session.update", "session": {}}', "{"),
    "another intent": ("/v1/realtime", "{"),
}


async def go(session, path, *frames):
    """Send what is to be sent, and go without a word."""
    if len(frames) == 1 and isinstance(frames[0], bytes) and RAW not in path:
        async with session.post(path, data=frames[0]) as answer:
            await answer.read()
        return
    async with session.ws_connect(path) as socket:
        with contextlib.suppress(ConnectionError):
            for frame in frames:
                await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
            async with asyncio.timeout(0.2):
                [message async for message in socket]


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_has_ended_leaves_nothing_behind(house, way):
    async with (
        house.running(config=house.configured(http_port=0)) as (server, _),
        aiohttp.ClientSession(f"http://localhost:{server.http_port}") as session,
    ):
        with contextlib.suppress(TimeoutError):
            await go(session, *WAYS[way])  # what is made once is there then
        gc.collect()
        before = ours()
        gc.disable()
        try:
            for _ in range(3):
                with contextlib.suppress(TimeoutError):
                    await go(session, *WAYS[way])
            await asyncio.sleep(0.1)
            assert not ours() - before
        finally:
            gc.enable()
        assert server.active_sessions == 0
