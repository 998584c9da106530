"""Jigasi's part is played by frames as its source makes them: 60 bytes of header, samples, and a zero at the end."""

import asyncio
import re
import sys
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from streamtrans_clients.bots import jitsi

from tests.clients.bots.conftest import TALK
from tests.clients.bots.halls import opened, pieces


class Jigasi:
    """One meeting's connection."""

    def __init__(self, socket):
        self.socket, self.answers = socket, []
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for frame in self.socket:
            self.answers.append(frame.json())

    async def say(self, who, language, sound, pace_s=0.0):
        for piece in pieces(sound, 1_000):
            await self.frame(f"{who}|{language}", piece)
            await asyncio.sleep(pace_s)

    async def frame(self, header, piece):
        await self.socket.send_bytes(header.encode().ljust(60, b"\0") + piece)

    async def end(self):
        await self.socket.send_bytes(b"\0")
        await self.reading
        return self.socket.close_code

    def finals(self, who):
        return [each["text"] for each in self.answers if each["participant_id"] == who and each["type"] == "final"]


@asynccontextmanager
async def connected(place, meeting="6a1c", query="", **options):
    address = f"ws://{place}/streaming-whisper/ws/{meeting}{query}"
    async with aiohttp.ClientSession() as session, session.ws_connect(address, **options) as socket:
        jigasi = Jigasi(socket)
        yield jigasi
        jigasi.reading.cancel()


async def test_each_participant_reads_captions_of_their_own_stream_in_their_language(house, over_grpc):
    async with house() as address, opened(jitsi, jitsi.Jitsi, address) as (_, place):
        expected = await over_grpc(address, TALK, ("de",)), await over_grpc(address, TALK, ("fr",))
        async with connected(place) as jigasi:
            before = time.time()
            await asyncio.gather(jigasi.say("Ada@8x8|1", "de-DE", TALK, 0.05), jigasi.say("Bo", "fr", TALK, 0.05))
            assert await jigasi.end() == 1000
    assert jigasi.finals("Ada@8x8|1") == expected[0]["de"]
    assert jigasi.finals("Bo") == expected[1]["fr"]
    for answer in jigasi.answers:
        assert set(answer) == {"id", "participant_id", "ts", "text", "audio", "type", "variance"}
        assert uuid.UUID(answer["id"])
        assert answer["type"] in ("interim", "final")
        assert answer["audio"] == ""
        assert 0 <= answer["variance"] <= 1
        assert before - 0.1 <= answer["ts"] / 1000 <= before + 6
    ids = [(each["participant_id"], each["id"]) for each in jigasi.answers if each["type"] == "final"]
    assert len(set(ids)) == len(ids) == 4
    for who, ident in ids:  # what is interim and what is final of an utterance have one identifier, the final last
        kinds = [each["type"] for each in jigasi.answers if each["id"] == ident]
        assert {each["participant_id"] for each in jigasi.answers if each["id"] == ident} == {who}
        assert kinds.count("final") == 1
        assert kinds[-1] == "final"


async def test_what_is_malformed_is_left_out_and_told_and_nobody_suffers(house, over_grpc, capsys):
    async with house() as address, opened(jitsi, jitsi.Jitsi, address) as (_, place):
        expected = await over_grpc(address, TALK, ("de",))
        async with connected(place) as jigasi:
            await jigasi.frame("nobody", b"\0\0")
            await jigasi.frame("Ada|de", b"\0")
            await jigasi.socket.send_bytes(b"short")
            await jigasi.socket.send_str("text")
            await jigasi.frame("Cy|xx", TALK[:32_000])
            await jigasi.say("Ada", "de", TALK, 0.05)
            assert await jigasi.end() == 1000
    assert jigasi.finals("Ada") == expected["de"]
    err = capsys.readouterr().err
    assert err.count("it doesn't begin with 60 bytes of PARTICIPANT|LANGUAGE") == 1
    assert "1 bytes are no 16-bit samples" in err
    assert "a frame of text came" in err
    assert "Cy: " in err
    assert "unknown language 'xx'" in err
    assert "toy knows en, de, zh, fr, it, es" in err


async def test_a_language_that_changes_in_the_middle_changes(house, over_grpc):
    async with house() as address, opened(jitsi, jitsi.Jitsi, address) as (_, place), connected(place) as jigasi:
        expected = await over_grpc(address, TALK, ("it",))
        await jigasi.say("Ada", "de", TALK, 0.1)
        await jigasi.say("Ada", "it", TALK, 0.1)
        await jigasi.end()
    assert jigasi.finals("Ada")[-1] == expected["it"][-1]  # the words of the toy tell the language


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, over_grpc):
    expected = await over_grpc(restarted.address, TALK, ("de",))
    async with opened(jitsi, jitsi.Jitsi, restarted.address) as (_, place), connected(place) as jigasi:
        saying = asyncio.create_task(jigasi.say("Ada", "de", TALK, 0.5))
        await asyncio.sleep(1.2)
        await restarted.again()
        await saying
        assert await jigasi.end() == 1000
    assert jigasi.finals("Ada") == expected["de"]


async def test_a_program_that_ends_gives_the_last_captions(house, over_grpc):
    async with house() as address, opened(jitsi, jitsi.Jitsi, address) as (hall, place), connected(place) as jigasi:
        await jigasi.say("Ada", "de", TALK[: 32 * 1_500], 0.05)
        await asyncio.sleep(0.3)
        hall.closing.set()
        await jigasi.reading
        assert jigasi.socket.close_code == 1001
        assert len(jigasi.finals("Ada")) == 1


async def test_subtitles_beside_have_the_names(house, tmp_path):
    async with (
        house() as address,
        opened(jitsi, jitsi.Jitsi, address, f"de={tmp_path}/{{meeting}}.txt") as (_, place),
        connected(place, "a%2Fb c") as jigasi,
    ):
        await jigasi.say("Ada", "de", TALK, 0.05)
        await jigasi.end()
        async with connected(place, "a%2Fb c") as back:
            await back.say("Bo", "de", TALK, 0.05)
            await back.end()
    assert (tmp_path / "a_b_c-2.txt").read_text().splitlines() == [f"Bo: {text}" for text in back.finals("Bo")]
    assert (tmp_path / "a_b_c.txt").read_text().splitlines() == [f"Ada: {text}" for text in jigasi.finals("Ada")]


@pytest.fixture(scope="module")
def key():
    made = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return made, public


async def test_only_who_has_a_token_of_jigasi_gets_in(house, key, tmp_path):
    private, public = key
    (tmp_path / "jigasi.pem").write_bytes(public)
    now = datetime.now(UTC)

    def token(by=private, algorithm="RS256", **claims):
        return jwt.encode({"iss": "jigasi", "iat": now, **claims}, by, algorithm, {"kid": "k"})

    good = token(exp=now + timedelta(hours=1))
    bad = [
        "",
        token(),  # for ever
        token(exp=now - timedelta(seconds=5)),
        token(by=rsa.generate_private_key(public_exponent=65_537, key_size=2_048), exp=now + timedelta(hours=1)),
        jwt.encode({"exp": now + timedelta(hours=1)}, "s" * 32, "HS256"),
    ]
    known = "--token-key", tmp_path / "jigasi.pem"
    async with house() as address, opened(jitsi, jitsi.Jitsi, address, *known) as (_, place):
        for each in bad:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                async with connected(place, query=f"?auth_token={each}"):
                    pytest.fail("it is let in")
        async with connected(place, query=f"?auth_token={good}") as jigasi:
            assert await jigasi.end() == 1000
        async with connected(place, headers={"Authorization": f"Bearer {good}"}) as jigasi:
            assert await jigasi.end() == 1000


def test_no_server_and_a_wrong_language_say_what_to_do(nowhere, capsys):
    with pytest.raises(SystemExit, match="2"):
        jitsi.main(["--server", nowhere, "--to", "de"])
    assert "start one with `streamtrans serve`" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        jitsi.main(["--server", nowhere, "--reads", "Anna"])
    assert "--reads Anna: give a name and languages, such as Anna=de,fr" in capsys.readouterr().err


async def test_a_wrong_language_is_told_before_anybody_calls(house, capsys):
    async with house() as address:
        for wrong in (("--to", "xx"), ("--to", "de", "--reads", "Anna=xx")):
            with pytest.raises(SystemExit, match="2"):
                await asyncio.to_thread(jitsi.main, ["--server", address, *wrong])
            assert "toy knows en, de, zh, fr, it, es" in capsys.readouterr().err


async def test_the_program_says_where_it_is_called_and_ends_well_when_asked(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, TALK, ("de",))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamtrans_clients.bots.jitsi", "--listen", "127.0.0.1:0", "--server", address),
            stderr=asyncio.subprocess.PIPE,
        )
        ready = (await program.stderr.readline()).decode()
        place = re.fullmatch(r"ready: (127\.0\.0\.1:\d+), languages en, de, zh, fr, it, es\n", ready)[1]
        async with connected(place) as jigasi:
            await jigasi.say("Ada", "de", TALK, 0.05)
            await asyncio.sleep(0.2)
            program.terminate()
            await jigasi.reading
            assert jigasi.socket.close_code == 1001
        assert await program.wait() == 0
    assert jigasi.finals("Ada") == expected["de"]
