"""Whoever spoke has all deleted that a server keeps of it: while it runs, later, and after a restart."""

import asyncio
import contextlib
import json

import aiohttp
import grpc
import pytest

from streamtrans.client import (
    BlockingStream,
    ClientError,
    Denied,
    Forgotten,
    InvalidRequest,
    StreamOptions,
    Summary,
    TranslationClient,
)
from streamtrans.server import TranslationServer
from streamtrans.server.kept import new_token
from streamtrans.server.keys import add_key
from streamtrans.wire import ForgetRequest
from tests.server.test_resume import Talker, asking, refused, settled, spoken

PAUSES = (0.3, 1.0, 0.5)


async def forget(server, token, key=None, scheme=""):
    port = server.http_port if scheme else server.port
    async with TranslationClient(f"{scheme}127.0.0.1:{port}", key=key) as client:
        told = await client.forget(token)
    return told.texts, told.recording


async def post(server, body, **headers):
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://localhost:{server.http_port}/v1/forget", data=body, headers=headers) as answer,
    ):
        return answer.status, json.loads(await answer.read()) if "json" in answer.content_type else await answer.text()


async def spoke(house, client, **options):
    """Speak to the end; return the token of the stream and that of its viewers."""
    async with client.stream(StreamOptions(("de",), resumable=True, **options)) as stream:
        await stream.send(house.speech(*PAUSES))
        await stream.end()
        assert isinstance([event async for event in stream][-1], Summary)
        return stream.started.resume_token, stream.started.viewer_token


async def test_what_was_recorded_is_deleted_by_the_token_alone_also_after_a_restart(house, tmp_path):
    config = house.configured(record=tmp_path)
    async with house.running(config=config) as (server, client):
        first, _ = await spoke(house, client)
        second, viewers = await spoke(house, client)
        await settled(lambda: len(list(tmp_path.iterdir())) == 2)
        assert (await forget(server, first))[1]
        assert await forget(server, first) == (False, False)
        assert await forget(server, viewers) == (False, False)
        [left] = tmp_path.iterdir()
    async with TranslationServer(config, house.served) as server:
        await server.ready()
        assert await forget(server, second) == (False, True)
        assert not left.exists()


async def test_a_stream_that_runs_is_ended_and_nothing_of_it_stays_anywhere(house, tmp_path):
    store, tapes = tmp_path / "store", tmp_path / "tapes"
    tapes.mkdir()
    async with house.running(config=house.configured(store=str(store), record=tapes)) as (server, _):
        talker = Talker(house, server.port, spoken(house), pace_s=0.02)
        calling = asyncio.create_task(talker.call())
        await settled(lambda: any(each.caption.committed_append for each in talker.responses))
        token = talker.responses[0].started.resume_token
        assert list(tapes.iterdir())
        assert await forget(server, token) == (True, True)
        with pytest.raises(grpc.RpcError) as ended:
            await calling
        assert ended.value.code() == grpc.StatusCode.ABORTED
        await settled(lambda: not [path for path in store.rglob("*") if path.is_file()])
        assert not list(tapes.iterdir())
        assert server.active_sessions == 0
        assert len(server._service.registry) == 0
        assert await refused(server, asking(token, 1)) == grpc.StatusCode.NOT_FOUND


async def test_what_another_server_kept_is_deleted_too(house, tmp_path):
    config = house.configured(store=str(tmp_path))
    async with house.running(config=config) as (server, _), TranslationServer(config, house.served) as other:
        await other.ready()
        talker = Talker(house, server.port, spoken(house), pace_s=0.02)
        calling = asyncio.create_task(talker.call())
        await settled(lambda: any(each.caption.committed_append for each in talker.responses))
        assert await forget(other, talker.responses[0].started.resume_token) == (True, False)
        with pytest.raises(grpc.RpcError):
            await calling
        assert all(path.stat().st_size < 100 for path in tmp_path.rglob("*") if path.is_file())  # whose it is, no text
        assert await refused(other, asking(talker.responses[0].started.resume_token, 1)) == grpc.StatusCode.NOT_FOUND


async def test_over_each_carrier_it_is_deleted_once_and_what_is_no_token_is_refused(house, tmp_path):
    async with house.running(config=house.configured(http_port=0, record=tmp_path)) as (server, client):
        for scheme in ("", "ws://"):
            token, _ = await spoke(house, client)
            await settled(lambda: list(tmp_path.iterdir()))
            assert (await forget(server, token, scheme=scheme))[1]
            assert await forget(server, token, scheme=scheme) == (False, False)
            with pytest.raises(InvalidRequest, match="resume_token: is empty"):
                await forget(server, "", scheme=scheme)
        assert not list(tmp_path.iterdir())


async def test_without_an_event_loop_a_stream_deletes_what_is_kept_of_it(house, tmp_path):
    def speak(address):
        with BlockingStream(address, StreamOptions(("de",)), lambda event: None) as stream:
            stream.send(house.speech(*PAUSES))
        assert list(tmp_path.iterdir())
        return stream.forget()

    async with house.running(config=house.configured(record=tmp_path)) as (server, _):
        told = await asyncio.to_thread(speak, f"127.0.0.1:{server.port}")
        assert isinstance(told, Forgotten)
        assert told.recording
        assert not list(tmp_path.iterdir())


async def test_another_key_ends_nobodys_stream(house, tmp_path):
    path = tmp_path / "keys.toml"
    mine, theirs = (add_key(path, name, {}) for name in ("mine", "theirs"))
    async with (
        house.running(config=house.configured(keys=path)) as (server, _),
        TranslationClient(f"127.0.0.1:{server.port}", key=mine) as client,
        client.stream(StreamOptions(("de",), resumable=True)) as stream,
    ):
        for key in (theirs, "guess", None):
            with pytest.raises(ClientError) as error:
                await forget(server, stream.started.resume_token, key)
            wanted = "NOT_FOUND" if key == theirs else "UNAUTHENTICATED"
            assert error.value.code.name == wanted
        await stream.send(house.speech(*PAUSES))
        await stream.end()
        assert isinstance([event async for event in stream][-1], Summary)


async def test_over_http_it_is_a_post_of_ones_own_pages(house, tmp_path):
    async with house.running(config=house.configured(http_port=0, record=tmp_path)) as (server, client):
        token, _ = await spoke(house, client)
        body = json.dumps({"resumeToken": token})
        status, text = await post(server, body, Origin="https://elsewhere.example")
        assert (status, "may not call here" in text) == (403, True)
        for wrong in ("", "{", "[]", '{"nonsense": 1}', b"\xff\xfe", "{}", "x" * 20_000):
            status, told = await post(server, wrong)
            assert (status, told["status"]["name"]) == (400, "INVALID_ARGUMENT"), wrong
        status, told = await post(server, body, Origin=f"http://localhost:{server.http_port}")
        assert (status, told["recording"]) == (200, True)
        data = ForgetRequest(resume_token=token).SerializeToString()
        assert await post(server, data, **{"Content-Type": "application/x-protobuf"}) == (200, {})
        assert not list(tmp_path.iterdir())


async def test_what_is_kept_is_said_before_anybody_speaks(house, tmp_path):
    async with house.running() as (_, client):
        offered = await client.capabilities()
        assert (offered.recorded, offered.stored_ms) == (False, 0)
    config = house.configured(record=tmp_path, store=str(tmp_path / "store"))
    async with house.running(config=config) as (_, client):
        offered = await client.capabilities()
        assert offered.recorded
        assert offered.stored_ms == config.limits.resume_ms + config.limits.idle_ms


class Line:
    """A client in this process; once cut off from a call, he holds it up until he is told to let go."""

    def __init__(self, first):
        self.waiting, self.told = [first], []
        self.let_go = asyncio.Event()

    async def read(self):
        if self.waiting:
            return self.waiting.pop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.let_go.wait()
            raise

    async def write(self, message):
        self.told.append(message)

    async def close(self, refusal=None):
        """Do nothing."""

    @property
    def token(self):
        return next((each.started.resume_token for each in self.told if each.HasField("started")), None)


@contextlib.asynccontextmanager
async def held_up(house):
    """A stream whose call doesn't end yet, and another call that waits to resume it."""
    async with asyncio.timeout(20), house.running() as (server, _):
        service = server._service
        line = Line(house.opening(resumable=True))
        first = asyncio.create_task(service.stream(new_token(), line, "a", ()))
        await settled(lambda: line.token)
        again = Line(asking(line.token, len(line.told)))
        second = asyncio.create_task(service.stream(new_token(), again, "b", ()))
        await settled(lambda: next(iter(service._calls)).broken)
        await asyncio.sleep(0.05)
        try:
            yield service, line, again
        finally:
            for each in (line, again):
                each.let_go.set()
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
        assert server.active_sessions == 0


async def test_who_waits_to_resume_a_stream_does_not_take_it_from_who_has_it_deleted(house):
    async with held_up(house) as (service, line, again):
        forgetting = asyncio.create_task(service.forget(ForgetRequest(resume_token=line.token), ()))
        await asyncio.sleep(0.05)
        again.let_go.set()
        line.let_go.set()
        assert (await forgetting).texts
        assert not service._calls
        assert not len(service.registry)


async def test_of_two_who_wait_to_resume_a_stream_the_last_has_it(house):
    async with held_up(house) as (service, line, again):
        last = Line(asking(line.token, len(line.told)))
        third = asyncio.create_task(service.stream(new_token(), last, "c", ()))
        await asyncio.sleep(0.05)
        again.let_go.set()
        line.let_go.set()
        last.let_go.set()
        await settled(lambda: last.token or third.done())
        calls = len(service._calls)
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        assert (last.token, calls) == (line.token, 1)


async def test_what_viewers_may_still_read_of_a_stream_that_is_over_is_deleted_too(house):
    async with asyncio.timeout(20), house.running() as (server, client):
        async with client.stream(StreamOptions(("de",), resumable=True)) as stream:
            token, viewers = stream.started.resume_token, stream.started.viewer_token

            async def watch():
                return [event async for event in client.watch(viewers, "de")][-1].text

            watching = asyncio.create_task(watch())
            await settled(lambda: len(server._service._viewable[viewers].audience) == 1)
            await stream.send(house.speech(*PAUSES))
            await stream.end()
            async for _ in stream:
                pass
        told = await watching
        assert await watch() == told
        assert await forget(server, token) == (True, False)
        with pytest.raises(Denied):
            await watch()
        assert await forget(server, token) == (False, False)
