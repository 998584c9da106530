"""Whoever has the viewers' token reads along, each in a language of his own."""

import asyncio
from dataclasses import replace

import grpc
import numpy as np
import pytest

from streamtrans.client import Caption, ClientError, Denied, Overloaded, StreamOptions, TranslationClient, Unsupported
from streamtrans.core import Job, Lost, Reply
from streamtrans.server.earlier import KEPT, Earlier
from streamtrans.server.hub import Hub
from streamtrans.testing.engine import Relay
from streamtrans.wire import GoAway, Reducer, ServiceStub, StatsRequest, WatchRequest, go_away_from_proto

TALK = (0.3, 1.5, 0.7, 1.2, 0.4, 0.9, 0.6)


def finals(events):
    closed = {}
    for event in events:
        if isinstance(event, Caption):
            assert (event.segment, event.language) not in closed
            if event.final:
                closed[event.segment, event.language] = event.committed
    return closed


async def watch(client, token, language, seen):
    async for event in client.watch(token, language):
        seen.append(event)


async def speak(stream, audio, seen, pace_s=0.01):
    async def send():
        for at in range(0, len(audio), 1_600):
            await stream.send(audio[at : at + 1_600])
            await asyncio.sleep(pace_s)
        await stream.end()

    sending = asyncio.create_task(send())
    async for event in stream:
        seen.append(event)
    await sending


async def test_each_viewer_reads_a_language_of_his_own_and_the_speaker_no_other(house):
    async with (
        asyncio.timeout(30),
        house.running() as (server, client),
        TranslationClient(f"127.0.0.1:{server.port}") as others,
    ):
        alone = finals(await house.collect(client, house.speech(*TALK), StreamOptions(("de", "fr", "it"))))
        async with client.stream(StreamOptions(("de", "fr"))) as stream:
            token = stream.started.viewer_token
            assert len(token) >= 32
            told, seen = [], {language: [] for language in ("de", "fr", "it", "de-AT")}
            watching = [
                asyncio.create_task(watch(others, token, language, seen[language])) for language in ("de", "fr", "it")
            ]
            await asyncio.sleep(0.1)
            speaking = asyncio.create_task(speak(stream, house.speech(*TALK), told))
            while not any(isinstance(event, Caption) and event.final for event in told):
                await asyncio.sleep(0.01)
            watching.append(asyncio.create_task(watch(others, token, "de-AT", seen["de-AT"])))
            await speaking
            await asyncio.gather(*watching)
    spoken_to = {key: text for key, text in alone.items() if key[1] != "it"}
    assert finals(told) == spoken_to
    assert {event.language for event in told if isinstance(event, Caption)} == {"de", "fr"}
    for language in ("de", "fr", "it"):
        assert finals(seen[language]) == {key: text for key, text in alone.items() if key[1] == language}
    assert finals(seen["de-AT"]) == finals(seen["de"])  # who comes late is told what is kept


async def test_only_the_viewers_token_lets_in_and_only_to_read(house):
    async with house.running() as (server, client), client.stream(StreamOptions(("de",), resumable=True)) as stream:
        begun = stream.started
        for guess in ("", begun.session_id, begun.resume_token, begun.viewer_token[:-1]):
            with pytest.raises(Denied):
                await watch(client, guess, "de", [])
        with pytest.raises(Unsupported):
            await watch(client, begun.viewer_token, "pl", [])
        from tests.server.test_resume import asking, refused

        assert await refused(server, asking(begun.viewer_token, 1)) == grpc.StatusCode.NOT_FOUND


async def test_of_a_stream_that_has_ended_nothing_can_be_watched(house):
    async with house.running() as (_, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            token = stream.started.viewer_token
            await stream.end()
            async for _ in stream:
                pass
        async with asyncio.timeout(5):
            while True:
                try:
                    await watch(client, token, "de", [])
                except Denied:
                    break


async def test_languages_that_nobody_reads_are_written_no_more_and_of_too_many_none_begins(house):
    config = house.configured(replace(house.EAGER, resume_ms=300))
    async with house.running(house.served(house.instant()), config) as (server, client):
        server._service.served.engine.capacity = 3
        async with client.stream(StreamOptions(("de",))) as stream:
            live = server._service._viewable[token := stream.started.viewer_token]
            watching = [asyncio.create_task(watch(client, token, language, [])) for language in ("fr", "it")]
            await until(lambda: len(live.audience) == 2)
            with pytest.raises(Overloaded, match="3 languages"):
                await watch(client, token, "es", [])
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await until(lambda: live._session.config.targets == ("de",))


async def test_a_language_that_nobody_reads_any_more_makes_room_for_one_that_somebody_asks_for(house):
    async with house.running(house.served(house.instant())) as (server, client):
        server._service.served.engine.capacity = 2
        async with client.stream(StreamOptions(("de",))) as stream:
            live = server._service._viewable[token := stream.started.viewer_token]
            for language in ("fr", "it"):
                watching = asyncio.create_task(watch(client, token, language, []))
                await until(lambda: len(live.audience) == 1)
                assert live._session.config.targets == ("de", language)
                watching.cancel()
                await until(lambda: len(live.audience) == 0)


async def test_a_language_that_is_new_is_read_from_the_beginning_as_far_as_it_is_kept(house):
    talk = house.speech(*TALK)
    async with asyncio.timeout(30), house.running() as (server, client):
        alone = finals(await house.collect(client, talk, StreamOptions(("it",))))
        assert len(alone) == 3
        for spoken in (len(talk), len(talk) * 2 // 3):  # all segments but the last are over, or one is being said
            async with client.stream(StreamOptions(("de",))) as stream:
                live = server._service._viewable[token := stream.started.viewer_token]
                await stream.send(talk[:spoken])
                await until(lambda live=live, spoken=spoken: live.cursors.decoded > spoken - 16_000)
                seen, late = [], []
                watching = [asyncio.create_task(watch(client, token, "it", seen))]
                await until(lambda live=live: len(live.audience) == 1)
                await stream.send(talk[spoken:])
                watching.append(asyncio.create_task(watch(client, token, "it", late)))
                await stream.end()
                told = [event async for event in stream]
                await asyncio.gather(*watching)
            assert finals(seen) == finals(late) == alone
            assert {event.language for event in told if isinstance(event, Caption)} == {"de"}


class Slow(Relay):
    """Answers readings for viewers alone only when told."""

    def __init__(self, inner):
        super().__init__(inner)
        self.waiting = []

    def submit(self, request):
        if not isinstance(request, Job) or [each.language for each in request.targets] != ["it"]:
            return super().submit(request)
        self.waiting.append((request, Reply()))
        return self.waiting[-1][1]

    def let_go(self):
        while self.waiting:
            request, reply = self.waiting.pop()
            reply.set_result(self.engine.submit(request).result())


async def test_a_speaker_who_ends_waits_for_no_viewer_and_who_came_last_is_told_all(house):
    talk, engine = house.speech(*TALK), Slow(house.instant())
    async with (
        asyncio.timeout(30),
        house.running(house.served(engine)) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        live, seen = server._service._viewable[token := stream.started.viewer_token], []
        await stream.send(talk)
        await until(lambda: live.cursors.decoded > len(talk) - 16_000)
        watching = asyncio.create_task(watch(client, token, "it", seen))
        await until(lambda: engine.waiting)
        await stream.end()
        told = [event async for event in stream]
        assert engine.waiting
        assert not watching.done()
        while not watching.done():
            engine.let_go()
            await asyncio.sleep(0.005)
    assert {segment for segment, _ in finals(seen)} == {segment for segment, _ in finals(told)}


async def test_what_cannot_be_read_again_is_an_empty_text_and_harms_nobody(house):
    class Refusing(Slow):
        def submit(self, request):
            reply = super().submit(request)
            if self.waiting:
                self.waiting.clear()
                reply.set_exception(Lost("gone"))
            return reply

    talk = house.speech(*TALK)
    async with (
        asyncio.timeout(30),
        house.running(house.served(Refusing(house.instant()))) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        live, seen = server._service._viewable[token := stream.started.viewer_token], []
        await stream.send(talk)
        await until(lambda: live.cursors.decoded > len(talk) - 16_000)
        watching = asyncio.create_task(watch(client, token, "it", seen))
        await until(lambda: any(isinstance(event, Caption) and event.final for event in seen))
        await stream.end()
        told = [event async for event in stream]
        await watching
    assert len(finals(told)) == 3
    assert finals(seen)[0, "it"] == ""


def test_audio_is_kept_for_a_while_and_as_it_was(house):
    earlier = Earlier(Hub(1), house.instant(), lambda _: None, None, begins=1_000)
    sound = (np.random.default_rng(0).integers(-32_768, 32_767, 3 * KEPT // 2) / 32_768).astype(np.float32)
    for piece in np.array_split(sound[: KEPT // 2], 7):
        earlier.hear(piece)
    assert np.array_equal(earlier.audio(1_000, 1_000 + KEPT // 2), sound[: KEPT // 2])
    assert earlier.audio(999, 2_000) is None
    assert earlier.audio(1_000, 1_001 + KEPT // 2) is None
    earlier.hear(sound[KEPT // 2 :])
    assert np.array_equal(earlier.audio(1_000 + KEPT // 2, 1_000 + len(sound)), sound[KEPT // 2 :])
    assert earlier.audio(999 + KEPT // 2, 1_000 + KEPT) is None
    earlier.hear(np.tile(sound, 3))
    assert np.array_equal(earlier.audio(1_000 + 4 * len(sound) - 500, 1_000 + 4 * len(sound)), sound[-500:])


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def said_to(server, token, seen):
    """Read what is told to a viewer, message by message, to the end of the call."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        async for response in ServiceStub(channel).WatchCaptions(WatchRequest(viewer_token=token, language="de")):
            seen.append(response)


async def test_a_viewer_is_told_in_time_that_his_call_grows_old(house):
    config = house.configured(replace(house.EAGER, max_connection_ms=1_200), last_words_ms=100)
    async with house.running(config=config) as (server, client), client.stream(StreamOptions(("de",))) as stream:
        seen = []
        watching = asyncio.create_task(said_to(server, stream.started.viewer_token, seen))
        await until(lambda: any(each.HasField("go_away") for each in seen))
        assert not watching.done()
        await asyncio.gather(watching, return_exceptions=True)
    told = [go_away_from_proto(each.go_away) for each in seen if each.HasField("go_away")]
    assert told == [GoAway(300, "max_age")]


async def test_viewers_are_told_that_the_server_leaves_and_read_the_last_words(house):
    async with (
        asyncio.timeout(30),
        house.running(config=house.configured(last_words_ms=500)) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        seen, told = [], []
        watching = asyncio.create_task(said_to(server, stream.started.viewer_token, seen))
        speaking = asyncio.create_task(speak(stream, house.speech(0.3, 60), told))
        await until(lambda: any(each.HasField("caption") for each in seen))
        await server.stop(1_500)
        await asyncio.gather(watching, speaking, return_exceptions=True)
    kinds = [each.WhichOneof("event") for each in seen]
    assert kinds.count("go_away") == 1
    assert go_away_from_proto(seen[kinds.index("go_away")].go_away) == GoAway(1_500, "shutdown")
    assert kinds[-1] == "ended"
    reducer = Reducer()
    assert finals(map(reducer.reduce, seen)) == finals(told) != {}


async def test_viewers_that_do_not_read_delay_nobody_and_are_let_go(house):
    config = house.configured(max_unsent_events=20)
    async with (
        asyncio.timeout(30),
        house.running(config=config) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        [live] = server._service._viewable.values()
        boxes = [live.hub.join() for _ in range(64)]  # as of viewers whose connections take nothing
        told = []
        await speak(stream, house.speech(*TALK * 3), told, 0.0)
        assert finals(told)
        assert all(len(box) <= 20 for box in boxes)


async def test_figures_are_of_ones_own_streams(house, tmp_path):
    from streamtrans.server.keys import add_key

    mine, theirs = (add_key(tmp_path / "keys.toml", name, {}) for name in ("mine", "theirs"))
    async with house.running(config=house.configured(keys=tmp_path / "keys.toml")) as (server, _):
        address = f"127.0.0.1:{server.port}"
        async with (
            TranslationClient(address, key=mine) as client,
            client.stream(StreamOptions(("de", "fr"))) as stream,
            grpc.aio.insecure_channel(address) as channel,
        ):
            await stream.send(house.speech(0.3, 1.5, 0.5))
            await until(lambda: server._service._viewable and next(iter(server._service._calls))._live.stats.readings)

            async def figures(key):
                bearer = (("authorization", f"Bearer {key}"),)
                return await ServiceStub(channel).GetStats(StatsRequest(), metadata=bearer)

            told = await figures(mine)
            assert (told.active, len(told.streams)) == (1, 1)
            [one] = told.streams
            assert (one.session_id, list(one.targets)) == (stream.started.session_id, ["de", "fr"])
            assert one.connected
            assert one.cursors.received_ms > 1_000
            assert one.readings
            assert one.segments == 1
            assert not (await figures(theirs)).streams
            with pytest.raises(grpc.RpcError):
                await figures("guess")
            with pytest.raises((ClientError, grpc.RpcError)):
                async for _ in ServiceStub(channel).WatchCaptions(WatchRequest(viewer_token="x", language="de")):
                    pass
