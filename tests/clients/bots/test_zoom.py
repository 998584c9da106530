"""Zoom's part is played by servers that check every field its documents name, and that break when they are told."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

import aiohttp
import pytest
from aiohttp import web
from streamtrans_clients.bots import zoom

from tests.clients.bots.conftest import TALK, settled
from tests.clients.bots.halls import opened, pieces
from tests.clients.web import FakePosts, serving

APP = {"client_id": "K2id", "client_secret": "shh", "secret_token": "token"}
MEETING, STREAM = "4444AAAiAAAAAiAiAiiAii==", "756FF58A-6332"
OTHER = TALK[: len(TALK) // 2]


def hexadecimal(key, message):
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(zoom, "_PAUSE_S", 0.05)


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "zoom.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in APP.items()))
    return path


class FakeZoom:
    """A meeting's signaling and media server, and the calls that announce it."""

    def __init__(self, secret="shh", refuse=0, form=None, answer=None, sound=None):
        self.secret, self.refuse, self.form = secret, refuse, form
        self.answer, self.sound = answer, sound
        self.ready, self.alive, self.left, self.hellos = asyncio.Event(), [], [], []
        self.signaling = self.media = None

    def routes(self):
        return web.get("/signaling", self.signal), web.get("/media", self.send)

    def known(self, hello):
        signature = hexadecimal(self.secret, f"{APP['client_id']},{MEETING},{STREAM}")
        assert hello.pop("meeting_uuid") == MEETING
        assert hello.pop("rtms_stream_id") == STREAM
        assert hello.pop("protocol_version") == 1
        return hello.pop("signature") == signature

    async def signal(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hello = await socket.receive_json()
        self.hellos.append(dict(hello))
        status = 0 if self.known(hello) else 3
        assert hello == {"msg_type": 1, "sequence": 1}
        place = f"ws://{request.host}/media"
        answer = {
            "msg_type": 2,
            "protocol_version": 1,
            "sequence": 0,
            "status_code": status,
            "reason": "x" * bool(status),
        }
        known = {"media_server": {"server_urls": {"audio": place, "all": place}}}
        await socket.send_json(answer | (known if self.answer is None else self.answer))
        self.signaling = socket
        async for frame in socket:
            message = json.loads(frame.data)
            if message["msg_type"] == 7:
                assert message == {"msg_type": 7, "rtms_stream_id": STREAM}
                assert self.media is not None
                self.ready.set()
            elif message["msg_type"] == 21:
                self.left.append(message)
            else:
                self.alive.append(message)
        return socket

    async def send(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hello = await socket.receive_json()
        assert self.known(hello)
        audio = {"content_type": 2, "sample_rate": 1, "channel": 1, "codec": 1, "data_opt": 2, "send_rate": 100}
        wanted = {"media_type": 1, "payload_encryption": False, "media_params": {"audio": audio}}
        assert hello == {"msg_type": 3, "sequence": 0} | wanted
        answer = {"msg_type": 4, "protocol_version": 1, "status_code": self.refuse, "reason": "", "sequence": 0}
        await socket.send_json(answer | {"payload_encrypted": False, "media_params": {"audio": self.form or audio}})
        self.media = socket
        if self.sound is not None:
            await socket.send_json({"msg_type": 14, "content": self.sound})
        async for frame in socket:
            self.alive.append(json.loads(frame.data))
        return socket

    async def say(self, who, name, sound, pace_s=0.0):
        for at, piece in enumerate(pieces(sound, 100)):
            data = base64.b64encode(piece).decode()
            content = {
                "user_id": who,
                "user_name": name,
                "data": data,
                "length": len(piece),
                "timestamp": 17 * 10**11 + at,
            }
            await self.media.send_json({"msg_type": 14, "content": content})
            await asyncio.sleep(pace_s)

    async def end(self):
        await self.signaling.send_json({"msg_type": 8, "state": 4, "reason": 6, "timestamp": 1727384349123})

    async def break_off(self, *sockets):
        self.ready.clear()
        for socket in sockets or (self.signaling, self.media):
            await socket.close(code=1011)


async def call(place, event, payload, *, key="token", age_s=0, milliseconds=False):
    body = json.dumps({"event": event, "payload": payload, "event_ts": 1})
    stamp = str(round((time.time() - age_s) * (1000 if milliseconds else 1)))
    headers = {"x-zm-request-timestamp": stamp, "x-zm-signature": f"v0={hexadecimal(key, f'v0:{stamp}:{body}')}"}
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"http://{place}/zoom", data=body, headers=headers)
        return answer.status, await answer.text()


async def started(place, port, **how):
    about = {"meeting_uuid": MEETING, "rtms_stream_id": STREAM, "server_urls": f"ws://127.0.0.1:{port}/signaling"}
    return await call(place, "meeting.rtms_started", {"account_id": "a", "object": about}, **how)


async def test_who_speaks_in_a_meeting_is_captioned_in_it_with_names(house, over_grpc, app):
    fake, posts = FakeZoom(), FakePosts(newest="4")
    async with house() as address, serving(*fake.routes(), *posts.routes()) as port:
        expected = await over_grpc(address, TALK, ("de",)), await over_grpc(address, OTHER, ("de",))
        sink = f"zoom:http://127.0.0.1:{port}/closedcaption?id=20061&signature=n"
        async with opened(zoom, zoom.Zoom, address, "--app", app, "--to", "de", sink) as (hall, place):
            assert (await started(place, port))[0] == 200
            assert (await started(place, port, milliseconds=True))[0] == 200  # Zoom calls again: it is one meeting
            await fake.ready.wait()
            await fake.signaling.send_json({"msg_type": 12, "timestamp": 1727384349123})
            await fake.media.send_json({"msg_type": 12, "timestamp": 1727384349124})
            await fake.signaling.send_json({"msg_type": 9, "state": 2, "timestamp": 1, "rtms_session_id": "s"})
            await fake.say(16778240, "John Smith", TALK, 0.01)
            await fake.say(16778241, "Ada", OTHER, 0.01)
            await fake.end()
            await hall.emptied()
    assert len(fake.hellos) == 1
    assert sorted(each["timestamp"] for each in fake.alive) == [1727384349123, 1727384349124]
    assert {each["msg_type"] for each in fake.alive} == {13}
    texts = "".join(text for _, _, text in posts.posts)
    john, ada = (" ".join(each["de"]).split() for each in expected)
    assert [word for word in texts.split() if word not in ("John", "Smith:", "Ada:")] == [*john, *ada]
    assert [texts.count("John Smith: "), texts.count("Ada: ")] == [1, 1]
    assert texts.index("John") < texts.index("Ada")
    assert [query["seq"] for query, _, _ in posts.posts] == [str(5 + at) for at in range(len(posts.posts))]
    assert {query["lang"] for query, _, _ in posts.posts} == {"de-DE"}


async def test_participants_may_have_languages_of_their_own(house, over_grpc, app, tmp_path):
    fake = FakeZoom()
    sinks = [f"{language}={tmp_path}/{language}.txt" for language in ("de", "fr")]
    own = "--to", "de", "--reads", "Ada=fr"
    async with house() as address, serving(*fake.routes()) as port:
        expected = await over_grpc(address, TALK, ("de",)), await over_grpc(address, OTHER, ("fr",))
        async with opened(zoom, zoom.Zoom, address, "--app", app, *own, *sinks) as (hall, place):
            await started(place, port)
            await fake.ready.wait()
            await asyncio.gather(fake.say(1, "John", TALK, 0.01), fake.say(2, "Ada", OTHER, 0.01))
            await fake.end()
            await hall.emptied()
    assert (tmp_path / "de.txt").read_text().splitlines() == [f"John: {text}" for text in expected[0]["de"]]
    assert (tmp_path / "fr.txt").read_text().splitlines() == [f"Ada: {text}" for text in expected[1]["fr"]]


@pytest.mark.parametrize("broken", ["signaling", "media"])
async def test_connections_that_break_are_made_again(house, over_grpc, app, tmp_path, broken):
    fake = FakeZoom()
    async with house() as address, serving(*fake.routes()) as port:
        expected = await over_grpc(address, TALK, ("de",))
        sinks = "--to", "de", f"{tmp_path}/talk.txt"
        async with opened(zoom, zoom.Zoom, address, "--app", app, *sinks) as (hall, place):
            await started(place, port)
            await fake.ready.wait()
            await fake.say(1, "Ada", TALK[:48_000], 0.01)
            await fake.break_off(getattr(fake, broken))
            await fake.ready.wait()
            await fake.say(1, "Ada", TALK[48_000:], 0.01)
            await fake.end()
            await hall.emptied()
    assert len(fake.hellos) == 2
    assert (tmp_path / "talk.txt").read_text().splitlines() == [f"Ada: {text}" for text in expected["de"]]


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, over_grpc, app, tmp_path):
    fake = FakeZoom()
    expected = await over_grpc(restarted.address, TALK, ("de",))
    sinks = "--to", "de", f"{tmp_path}/talk.txt"
    async with (
        serving(*fake.routes()) as port,
        opened(zoom, zoom.Zoom, restarted.address, "--app", app, *sinks) as (hall, place),
    ):
        await started(place, port)
        await fake.ready.wait()
        saying = asyncio.create_task(fake.say(1, "Ada", TALK, 0.06))
        await asyncio.sleep(1.0)
        await restarted.again()
        await saying
        await fake.end()
        await hall.emptied()
    assert (tmp_path / "talk.txt").read_text().splitlines() == [f"Ada: {text}" for text in expected["de"]]


@pytest.mark.parametrize("how", ["stopped", "closing"])
async def test_what_is_stopped_gives_the_last_captions(house, app, tmp_path, how):
    fake = FakeZoom()
    async with house() as address, serving(*fake.routes()) as port:
        sinks = "--to", "de", f"{tmp_path}/talk.txt"
        async with opened(zoom, zoom.Zoom, address, "--app", app, *sinks) as (hall, place):
            await started(place, port)
            await fake.ready.wait()
            await fake.say(1, "Ada", TALK[: 32 * 1_500], 0.01)
            await asyncio.sleep(0.3)
            if how == "closing":
                hall.closing.set()
                await settled(lambda: fake.left)
                assert fake.left == [{"msg_type": 21, "rtms_stream_id": STREAM}]
            else:
                about = {"meeting_uuid": MEETING, "rtms_stream_id": STREAM, "stop_reason": 6}
                assert (await call(place, "meeting.rtms_stopped", {"object": about}))[0] == 200
            await hall.emptied()
    assert (tmp_path / "talk.txt").read_text().startswith("Ada: ")


async def test_only_zoom_may_call(house, app):
    async with house() as address, opened(zoom, zoom.Zoom, address, "--app", app) as (_, place):
        validation = "endpoint.url_validation", {"plainToken": "q9ibPhGeRZ6ayx5WTrXjRw"}
        status, text = await call(place, *validation)
        assert (status, json.loads(text)) == (
            200,
            {"plainToken": "q9ibPhGeRZ6ayx5WTrXjRw", "encryptedToken": hexadecimal("token", "q9ibPhGeRZ6ayx5WTrXjRw")},
        )
        assert (await call(place, *validation, key="other"))[0] == 401
        assert (await call(place, *validation, age_s=400))[0] == 401
        assert (await call(place, "meeting.rtms_started", {"object": {}}))[0] == 400
        assert (await call(place, "meeting.rtms_started", []))[0] == 400
        odd = {"object": {"meeting_uuid": 7, "rtms_stream_id": "s", "server_urls": "ws://a"}}
        assert (await call(place, "meeting.rtms_started", odd))[0] == 400
        assert (await call(place, "meeting.ended", {"object": {}}))[0] == 200
        async with aiohttp.ClientSession() as session:
            assert (await session.post(f"http://{place}/zoom", data=b"\xff")).status == 401


@pytest.mark.parametrize(
    ("fake", "problem"),
    [
        ({"secret": "other"}, "Zoom refuses our signature: are client_id and client_secret those of the app"),
        ({"refuse": 16}, "another program hears this meeting"),
        ({"refuse": 17}, "Zoom refuses the stream: 17"),
        ({"form": "wav"}, "Zoom sends sound of another form: 'wav'"),
        ({"answer": {}}, "Zoom names no media server: None"),
        ({"answer": {"media_server": {"server_urls": {"audio": ""}}}}, "Zoom names no media server"),
        ({"answer": {"media_server": ["ws://a"]}}, "Zoom names no media server: ['ws://a']"),
        ({"answer": {"status_code": [3]}}, "Zoom refuses the stream: [3]"),
        ({"sound": ["a"]}, "a piece of sound is malformed: ['a']"),
        ({"sound": {"user_id": 1, "data": "é"}}, "a piece of sound isn't Base64"),
        ({"form": {"codec": 4, "sample_rate": 3}}, "Zoom sends sound of another form: {'codec': 4"),
    ],
)
async def test_what_zoom_refuses_is_told(house, app, capsys, fake, problem):
    fake = FakeZoom(**fake)
    async with (
        house() as address,
        serving(*fake.routes()) as port,
        opened(zoom, zoom.Zoom, address, "--app", app) as (hall, place),
    ):
        await started(place, port)
        await hall.emptied()
    assert problem in capsys.readouterr().err


async def test_a_zoom_that_says_nothing_is_called_again(house, app, monkeypatch):
    monkeypatch.setattr(zoom, "_SILENCE_S", 0.3)
    fake = FakeZoom()
    async with (
        house() as address,
        serving(*fake.routes()) as port,
        opened(zoom, zoom.Zoom, address, "--app", app) as (hall, place),
    ):
        await started(place, port)
        await fake.ready.wait()
        fake.ready.clear()
        await fake.ready.wait()
        await fake.end()
        await hall.emptied()
    assert len(fake.hellos) >= 2


async def test_a_zoom_that_is_gone_is_told_after_a_while(house, app, capsys, monkeypatch):
    monkeypatch.setattr(zoom, "_AWAY_S", 0.1)
    async with serving() as port:
        pass
    async with house() as address, opened(zoom, zoom.Zoom, address, "--app", app) as (hall, place):
        await started(place, port)
        await hall.emptied()
    assert "Zoom's media server can't be reached" in capsys.readouterr().err


def test_no_server_and_no_app_say_what_to_do(nowhere, app, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        zoom.main(["--server", nowhere, "--app", str(app)])
    assert "start one with `streamtrans serve`" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        zoom.main(["--server", nowhere])
    assert "--app" in capsys.readouterr().err


async def test_a_file_that_holds_no_app_and_a_wrong_language_are_told(house, app, capsys, tmp_path):
    (tmp_path / "half.toml").write_text('client_id = "a"\n')
    async with house() as address:
        for wrong, problem in (
            (("--app", tmp_path / "half.toml"), 'has to hold client_id = "…", client_secret = "…" and secret_token'),
            (("--app", tmp_path / "none.toml"), "No such file"),
            (("--app", app, "--to", "xx"), "toy knows en, de, zh, fr, it, es"),
        ):
            with pytest.raises(SystemExit, match="2"):
                await asyncio.to_thread(zoom.main, ["--server", address, *map(str, wrong)])
            assert problem in capsys.readouterr().err
