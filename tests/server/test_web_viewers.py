"""Viewers and figures over a WebSocket and HTTP: the same rights, words and ends as over gRPC."""

import asyncio

import grpc
import pytest

from streamtrans.client import StreamOptions, TranslationClient
from streamtrans.server.keys import add_key
from streamtrans.server.tokens import add_signer, mint
from streamtrans.wire import (
    CapabilitiesResponse,
    Reducer,
    StatsResponse,
    WatchRequest,
    WatchResponse,
    authorization_frame,
    payload_of,
)
from tests.server.test_viewers import TALK, speak, until, watch
from tests.server.test_viewers import finals as finals_of
from tests.server.web import JSON, PROTO, connected, get

CODE = {code.name: code.value[0] for code in grpc.StatusCode}
BOTH = pytest.mark.parametrize("form", [PROTO, JSON])


def finals(told):
    reducer = Reducer()
    return finals_of([reducer.reduce(message) for message in told if payload_of(message) in ("caption", "speech")])


def watching(server, form, **options):
    return connected(server, form, kind=WatchResponse, **options)


async def test_over_each_carrier_a_viewer_reads_the_same(house):
    async with (
        asyncio.timeout(30),
        house.running(config=house.configured(http_port=0)) as (server, client),
        watching(server, PROTO) as proto,
        watching(server, JSON) as text,
        client.stream(StreamOptions(("de",))) as stream,
    ):
        asked = WatchRequest(viewer_token=stream.started.viewer_token, language="fr")
        await proto.send(asked)
        await text.send(asked)
        over_grpc, told = [], []
        reading = [asyncio.create_task(watch(client, asked.viewer_token, "fr", over_grpc))]
        reading += [asyncio.create_task(web.rest()) for web in (proto, text)]
        [live] = server._service._viewable.values()
        await until(lambda: len(live.audience) == 3)
        await speak(stream, house.speech(*TALK), told)
        _, one, other = await asyncio.gather(*reading)
    for web, messages in ((proto, one), (text, other)):
        assert [message.event_sequence for message in messages] == list(range(1, len(messages) + 1))
        assert (payload_of(messages[0]), payload_of(messages[-1])) == ("started", "ended")
        assert (web.status[0], web.socket.close_code) == (0, 1000)
        assert messages[-1].ended.finals == len(finals(messages))
    assert len(finals(one)) == 3
    assert finals(one) == finals(other) == finals_of(over_grpc)


@BOTH
async def test_only_the_viewers_token_lets_in_and_only_to_read(house, form):
    async with (
        house.running(config=house.configured(http_port=0)) as (server, client),
        client.stream(StreamOptions(("de",), resumable=True)) as stream,
    ):
        begun = stream.started
        for guess in ("", begun.session_id, begun.resume_token, begun.viewer_token[:-1]):
            async with watching(server, form) as web:
                await web.send(WatchRequest(viewer_token=guess, language="de"))
                assert await web.rest() == []
                assert (web.status[0], web.socket.close_code) == (16, 4016)
        async with watching(server, form) as web:
            await web.send(WatchRequest(viewer_token=begun.viewer_token, language="pl"))
            await web.rest()
            assert web.status[0] == CODE["UNIMPLEMENTED"]
        async with watching(server, form) as web:
            await web.send(b"\xff\xff" if form == PROTO else '{"config": {}}')
            await web.rest()
            assert web.status[0] == CODE["INVALID_ARGUMENT"]


@BOTH
async def test_a_signed_token_lets_in_wherever_it_is_said(house, tmp_path, form):
    signers = tmp_path / "signers.toml"
    add_signer(signers, "front", "HS256")
    async with (
        house.running(config=house.configured(http_port=0, signers=signers)) as (server, _),
        TranslationClient(f"127.0.0.1:{server.port}", key=mint(signers, "hall", 15)) as client,
        client.stream(StreamOptions(("de",))) as stream,
    ):
        token = mint(signers, "guest", 15, rights=("watch",), session=stream.started.session_id)
        bearer = f"Bearer {token}"
        asked, named = WatchRequest(language="de"), WatchRequest(language="de", viewer_token=token)
        for headers, messages in (
            (None, [named]),
            ({"Authorization": bearer}, [asked]),
            (None, [authorization_frame(bearer), asked]),
        ):
            async with watching(server, form, headers=headers) as web:
                await web.send(*messages)
                assert payload_of(await web.read()) == "started"
        async with watching(server, form) as web:
            await web.send(asked)
            await web.rest()
            assert web.status[0] == CODE["UNAUTHENTICATED"]


async def test_who_says_nothing_leaves_or_comes_when_all_places_are_taken_is_let_go(house):
    async with (
        house.running(config=house.configured(http_port=0, first_message_ms=200, max_viewers=1)) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        [live] = server._service._viewable.values()
        async with watching(server, JSON) as web:
            await web.rest()
            assert web.status[0] == CODE["OUT_OF_RANGE"]
        asked = WatchRequest(viewer_token=stream.started.viewer_token, language="fr")
        async with watching(server, JSON) as web:
            await web.send(asked)
            await web.read()
            async with watching(server, PROTO) as second:
                await second.send(asked)
                await second.rest()
                assert second.status[0] == CODE["RESOURCE_EXHAUSTED"]
                assert second.status[2]
            web.socket._response.connection.transport.abort()
            await until(lambda: len(live.audience) == 0)


async def test_a_page_of_another_site_may_not_watch(house):
    async with house.running(config=house.configured(http_port=0)) as (server, _):
        answer, _ = await get(server, "/v1/watch", headers={"Origin": "https://evil.example"})
        assert answer.status == 403


async def test_figures_and_offers_come_as_json_or_protobuf_to_who_may_have_them(house, tmp_path):
    mine, theirs = (add_key(tmp_path / "keys.toml", name, {}) for name in ("mine", "theirs"))
    config = house.configured(http_port=0, keys=tmp_path / "keys.toml")
    async with (
        house.running(config=config) as (server, _),
        TranslationClient(f"127.0.0.1:{server.port}", key=mine) as client,
        client.stream(StreamOptions(("de", "fr"))) as stream,
    ):

        async def figures(key, **headers):
            return await get(server, "/v1/stats", headers={"Authorization": f"Bearer {key}", **headers})

        _, told = await figures(mine)
        assert told["active"] == 1
        assert told["streams"][0]["sessionId"] == stream.started.session_id
        _, data = await figures(mine, Accept="application/x-protobuf")
        assert list(StatsResponse.FromString(data).streams[0].targets) == ["de", "fr"]
        assert (await figures(theirs))[1] == {}
        answer, told = await figures("guess", Accept="application/x-protobuf")
        assert (answer.status, told["status"]["name"]) == (401, "UNAUTHENTICATED")
        bearer = {"Authorization": f"Bearer {mine}", "Accept": "application/x-protobuf"}
        _, data = await get(server, "/v1/capabilities", headers=bearer)
        assert CapabilitiesResponse.FromString(data).model == "toy"
