"""OBS is spoken to as its protocol says: every field, the password, a source that isn't there, a restart."""

import contextlib
import socket

import pytest
from aiohttp import web
from streamtrans_clients.sinks import SinkError, obs, sinks_for

from tests.clients.test_sinks import caption
from tests.clients.web import FakeObs, serving


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(obs, "PAUSES_S", (0.05,) * 8)


def made(kind, port, rest="/Captions", password=""):
    [sink] = sinks_for(f"{kind}:ws://{password}127.0.0.1:{port}{rest}", ["de"])
    return sink


async def test_a_text_source_holds_the_newest_lines_with_what_may_still_change():
    fake = FakeObs(password="super secret@/")
    where = "/Captions?columns=12", ":super%20secret%40%2F@"
    async with serving(fake.route()) as port, made("obs", port, *where) as sink:
        await sink.show(caption("guten", " Tag meine"), "")
        await sink.show(caption("guten", " Tag meine"), "")
        await sink.show(caption("guten Tag meine Damen", final=True), "")
        await sink.show(caption("ja", segment=1), "Anna")
    assert fake.texts == ["", "guten Tag\nmeine", "guten Tag\nmeine Damen", "meine Damen\nAnna: ja"]
    assert fake.calls == 1


async def test_captions_inside_the_stream_are_promised_text_alone_once():
    fake = FakeObs()
    async with serving(fake.route()) as port, made("obs-captions", port, "") as sink:
        await sink.show(caption("guten Tag meine sehr geehrten", " Damen"), "")
        assert fake.captions == []
        await sink.show(caption("guten Tag meine sehr geehrten Damen und", " Hasen"), "")
        assert fake.captions == ["guten Tag meine sehr geehrten"]
        fake.streaming = False
        await sink.show(caption("guten Tag meine sehr geehrten Damen und Herren", final=True), "")
        fake.streaming = True
        await sink.show(caption("ja", segment=1, final=True), "")
    assert fake.captions == ["guten Tag meine sehr geehrten", "ja"]


async def test_a_wrong_password_none_and_no_such_source_are_told():
    fake = FakeObs(password="secret")
    async with serving(fake.route()) as port:
        for password, problem in (
            (":wrong@", "refuses the password; it is in Tools"),
            ("", "wants a password: ws://:PAS"),
        ):
            with pytest.raises(SinkError, match=problem) as caught:
                async with made("obs", port, password=password):
                    pytest.fail("it isn't let in")
            assert "wrong" not in str(caught.value)
        with pytest.raises(SinkError, match="OBS has no source 'Else': add a text source of that name to a scene"):
            async with made("obs", port, "/Else", ":secret@"):
                pytest.fail("there is none")


async def test_no_obs_says_what_to_do():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(
            SinkError, match=r"no OBS answers at ws://127\.0\.0\.1:.*: is it running, with Tools → WebSocket"
        ):
            async with made("obs", probe.getsockname()[1]):
                pytest.fail("there is none")


async def test_an_obs_that_restarts_is_shown_what_comes_then():
    fake = FakeObs()
    async with serving(fake.route()) as port, made("obs", port) as sink:
        await sink.show(caption("eins"), "")
        await fake.leave()
        await sink.show(caption("eins zwei"), "")
    assert fake.texts == ["", "eins", "eins zwei"]
    assert fake.calls == 2


class Odd(FakeObs):
    """Something that speaks almost as OBS does."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def answer(self, message):
        return self.answers.pop(0) if self.answers else super().answer(message)


@pytest.mark.parametrize("answer", [{}, {"requestId": "1"}, {"requestId": "1", "requestStatus": {"result": True}}])
async def test_an_answer_that_is_none_of_obs_is_told_and_asked_again(answer):
    fake = Odd([answer])
    async with serving(fake.route()) as port, made("obs", port):
        pass
    assert fake.texts == [""]
    fake = Odd([answer | ({"requestId": str(at + 1)} if answer else {}) for at in range(9)])
    async with serving(fake.route()) as port:
        with pytest.raises(SinkError, match="answers otherwise than obs-websocket of version 5 does"):
            async with made("obs", port):
                pytest.fail("it is no OBS")


async def test_a_password_that_is_asked_for_otherwise_is_told():
    async def call(request):
        socket = web.WebSocketResponse(protocols=("obswebsocket.json",))
        await socket.prepare(request)
        await socket.send_json({"op": 0, "d": {"authentication": {"salt": 7}}})
        await socket.receive()
        return socket

    async with serving(web.get("/", call)) as port:
        with pytest.raises(SinkError, match="asks for a password otherwise than obs-websocket of version 5"):
            async with made("obs", port, password=":secret@"):
                pytest.fail("it is no OBS")


async def test_an_obs_that_stays_away_is_told():
    fake = FakeObs()
    async with contextlib.AsyncExitStack() as stack:
        server = contextlib.AsyncExitStack()
        port = await server.enter_async_context(serving(fake.route()))
        sink = await stack.enter_async_context(made("obs", port))
        await fake.leave()
        await server.aclose()
        with pytest.raises(SinkError, match=r"answers no more \(no OBS answers"):
            await sink.show(caption("drei"), "")
