"""A stream outlives its server: another one that has the same store goes on with it."""

import asyncio
import json
import random
import socket
import subprocess
from contextlib import asynccontextmanager

import grpc
import pytest

from streamtrans.server import Limits, TranslationServer
from streamtrans.server.kept import Kept, NotOurs, name_of
from streamtrans.server.sealing import opened, sealed
from streamtrans.server.stores import store_at
from streamtrans.wire import ServiceStub, end_message, leave_message
from tests.debian import program
from tests.server.test_resume import Talker, asking, refused, settled, spoken, unbroken

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def redis_place(tmp_path_factory):
    """A Redis server of our own, of Debian's package redis-server."""
    redis = program("redis-server", "redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = tmp_path_factory.mktemp("redis")
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(where))
    with subprocess.Popen([redis, *options], stdout=subprocess.DEVNULL) as server:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            server.poll()
            asyncio.run(asyncio.sleep(0.05))
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture(params=["file", "redis"])
def place(request, tmp_path):
    return str(tmp_path / "store") if request.param == "file" else request.getfixturevalue("redis_place")


@asynccontextmanager
async def server_with(house, place, **changes):
    config = house.configured(**{"store": place, "max_sessions": 4} | changes)
    async with TranslationServer(config, house.served) as server:
        await server.ready()
        yield server


async def killed(server):
    """End a server as a kill does: nobody is told anything, and nothing is tidied up."""
    service = server._service
    service.draining = True  # what ends now ends here alone
    grpc_server, server._server = server._server, None
    await grpc_server.stop(0)
    await service.registry.close()
    await service.store.close()
    for task in (server._warming, server._watching):
        task.cancel()


def whole(talker):
    assert [each.event_sequence for each in talker.responses] == list(range(1, talker.last + 1))
    summary = talker.responses[-1].summary
    assert summary.audio_ms == sum(len(m.audio.data) // 32 or m.silence.duration_ms for m in talker.messages)
    assert summary.segments == len({segment for segment, _ in talker.finals()})
    for kind in (1, 2):  # begins and ends of speech, each told once
        told = [e.speech.segment_id for e in talker.responses if e.speech.type == kind]
        assert told == list(range(summary.segments))


@pytest.mark.parametrize("seed", range(5))
async def test_killed_anywhere_and_gone_on_with_elsewhere_nothing_is_lost_or_doubled(house, place, seed):
    dice = random.Random(seed)
    async with asyncio.timeout(90):
        async with server_with(house, place) as server:
            expected = await unbroken(house, server)
        talker, kills, calls = Talker(house, 0, spoken(house), pace_s=0.01), 0, 0
        server = None
        while not talker.done:
            if server is None:
                server = TranslationServer(house.configured(store=place), house.served)
                await server.__aenter__()
                await server.ready()
                talker.port = server.port
            if dice.random() < 0.5:
                await talker.call(stop_after=dice.randrange(1, 12))
            else:
                await talker.call(cut_s=dice.uniform(0.01, 0.15))
            calls += 1
            assert calls < 300
            if (not kills or dice.random() < 0.7) and not talker.done:
                await killed(server)
                server, kills = None, kills + 1
        await server.stop(0)
        assert kills
        assert talker.finals() == expected
        whole(talker)


async def test_a_server_that_leaves_hands_its_stream_over(house, place):
    async with asyncio.timeout(60), server_with(house, place, grace_ms=5_000) as first:
        expected = await unbroken(house, first)
        talker = Talker(house, first.port, spoken(house), pace_s=0.02)
        calling = asyncio.create_task(talker.call())
        await settled(lambda: any(each.caption.final for each in talker.responses))
        leaving = asyncio.create_task(first.stop(5_000))
        await settled(lambda: any(each.go_away.resume_token for each in talker.responses))
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        assert not talker.done
        async with server_with(house, place) as second:
            talker.port = second.port
            await talker.call()
            await leaving
    assert talker.finals() == expected
    whole(talker)


async def test_of_two_servers_one_has_the_stream(house, place):
    async with asyncio.timeout(60), server_with(house, place) as first, server_with(house, place) as second:
        talker = Talker(house, first.port, spoken(house), pace_s=0.01)
        early = asyncio.create_task(talker.call())
        await settled(lambda: len(talker.responses) > 4)
        rival = Talker(house, second.port, talker.messages)
        rival.responses, rival.token = list(talker.responses), talker.token
        await rival.call()
        assert rival.done
        with pytest.raises(grpc.RpcError) as ended:
            await early
        assert ended.value.code() == CODE.ABORTED
        assert not talker.done
        # What the first server still told is what the second one tells: it wrote nothing down that was not kept.
        held = dict(rival.finals())
        assert set(talker.finals().items()) <= set(held.items())
        await settled(lambda: first.active_sessions == 0)
        assert len(first._service.registry) == 0


async def test_what_is_stored_opens_nothing_and_ages_out(house, tmp_path):
    place = tmp_path / "store"
    async with server_with(house, str(place), limits=Limits(resume_ms=300, idle_ms=200)) as server:
        talker = Talker(house, server.port, spoken(house))
        await talker.call(stop_after=8)
        [folder] = place.iterdir()
        assert (place.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o700, 0o700)
        [file] = [path for path in folder.iterdir() if not path.suffix]  # one that is being written has one
        assert file.stat().st_mode & 0o777 == 0o600
        data = file.read_bytes()
        assert talker.token not in str(file)
        assert talker.token.encode() not in data
        assert len(data) < 20_000
        with pytest.raises(NotOurs):
            Kept.read(data)
        kept = Kept.read(opened(talker.token, folder.name, data))
        assert kept.session_id == talker.responses[0].session_id
        await settled(lambda: not list(place.iterdir()))  # nobody came back
        assert await refused(server, asking(talker.token, talker.last)) == CODE.NOT_FOUND


async def test_a_stream_that_was_left_or_told_to_its_end_is_kept_no_longer(house, place):
    async with server_with(house, place) as server, server_with(house, place) as other:
        talker = Talker(house, server.port, spoken(house))
        await talker.call()
        assert talker.done
        await server._service.registry.close()
        await settled(lambda: not server.active_sessions)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = ServiceStub(channel).StreamTranslate()
            await call.write(talker.opening)
            token = (await call.read()).started.resume_token
            await call.write(leave_message())
            await settled(lambda: not server.active_sessions)
        assert await refused(other, asking(token, 1)) == CODE.NOT_FOUND


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"version": 1}',
    b"[" * 100_000,
    b'{"version": 1e999}',
    b"x" * (2 << 20),
]
GARBAGE += [sealed("token", name_of("token", "", "toy"), each) for each in GARBAGE]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_in_a_store_is_nothing(house, place, garbage):
    store = store_at(place, 60.0)
    await store.put(name_of("token", "", "toy"), 1, garbage)
    await store.close()
    async with server_with(house, place) as server:
        assert await refused(server, asking("token", 1)) == CODE.NOT_FOUND
        assert server.active_sessions == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept["memory"].update(begins=-5),
        lambda kept: kept.update(config="////"),
        lambda kept: kept.update(config="#"),
        lambda kept: kept.update(version=99),
        lambda kept: kept["said"].append(kept["said"][0] | {"told_at": [1, 2, 3, 4, 5, 6]}),
        lambda kept: kept["memory"]["pending"][-1]["lines"][0].update(tokens=[1, 2, 3]),
    ],
)
async def test_what_was_changed_by_others_is_nothing(house, tmp_path, change):
    place = tmp_path / "store"
    async with server_with(house, str(place)) as server:
        talker = Talker(house, server.port, spoken(house), pace_s=0.05)
        async with asyncio.timeout(20):
            calling = asyncio.create_task(talker.call())
            await settled(lambda: any(each.caption.committed_append for each in talker.responses))
            assert not any(each.caption.final for each in talker.responses)
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        await killed(server)
    folder = next(place.iterdir())
    [file] = folder.iterdir()  # while the server lives, one that is being written may lie beside it
    kept = json.loads(opened(talker.token, folder.name, file.read_bytes()))
    change(kept)
    file.write_bytes(sealed(talker.token, folder.name, json.dumps(kept).encode()))
    async with server_with(house, str(place)) as server:
        assert await refused(server, asking(talker.token, talker.last)) in (CODE.NOT_FOUND, CODE.INVALID_ARGUMENT)


async def test_a_cancellation_that_the_package_forgets_is_not_forgotten(redis_place):
    store = store_at(redis_place, 1.0)
    going = asyncio.Event()

    async def forgetful():
        going.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return 1

    asking = asyncio.create_task(store._ask(forgetful()))
    await going.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await store._ask(asyncio.sleep(0, 2)) == 2
    await store.close()


async def test_audio_that_does_not_come_again_is_a_loss_said_aloud(house, place):
    async with server_with(house, place) as server:
        talker = Talker(house, server.port, spoken(house), pace_s=0.002)
        await talker.call(stop_after=6)
        await killed(server)
    async with server_with(house, place) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = ServiceStub(channel).StreamTranslate()
        await call.write(asking(talker.token, talker.last))
        await call.write(end_message(0))
        with pytest.raises(grpc.RpcError) as ended:
            async for _ in call:
                pass
    assert ended.value.code() == CODE.DATA_LOSS
