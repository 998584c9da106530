"""Twilio's part is played by the messages that its documents show."""

import asyncio
import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
import pytest
import soxr
from streamtrans_clients.bots import twilio

from streamtrans.audio import Decoder
from tests.clients.bots.conftest import TALK
from tests.clients.bots.halls import opened, pieces


def mulaw(samples):
    """Return 16-bit samples at 16 kHz as Twilio sends them: at 8 kHz, the nearest of the 256 values of G.711."""
    narrow = soxr.resample(np.frombuffer(samples, "<i2").astype(np.float64) / 32_768, 16_000, 8_000)
    values = Decoder("mulaw", 16_000, 1).decode(bytes(range(256))).astype(np.float64)
    order = np.argsort(values)
    at = np.clip(np.searchsorted(values[order], narrow), 1, 255)
    nearer = np.abs(values[order][at] - narrow) < np.abs(values[order][at - 1] - narrow)
    return order[np.where(nearer, at, at - 1)].astype(np.uint8).tobytes()


CALLER = mulaw(TALK)
CALLED = mulaw(np.frombuffer(TALK, "<i2")[::-1].tobytes())


class Call:
    """One call: messages numbered as they are sent."""

    def __init__(self, socket):
        self.socket, self.number, self.chunks = socket, 0, {}

    async def send(self, event, **more):
        message = {"event": event, **more}
        if event != "connected":
            self.number += 1
            message |= {"sequenceNumber": str(self.number), "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0"}
        await self.socket.send_str(json.dumps(message))

    async def start(self, parameters=None, form=None, **more):
        await self.send("connected", protocol="Call", version="1.0.0")
        start = {
            "accountSid": "AC0",
            "streamSid": "MZ18ad3ab5a668481ce02b83e7395059f0",
            "callSid": "CA7",
            "tracks": ["inbound", "outbound"],
            "mediaFormat": form or {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters or {},
        }
        await self.send("start", start=start | more)

    async def say(self, track, sound, pace_s=0.0):
        for piece in pieces(sound, 20, 8):
            chunk = self.chunks[track] = self.chunks.get(track, 0) + 1
            payload = base64.b64encode(piece).decode()
            media = {"track": track, "chunk": str(chunk), "timestamp": str(chunk * 20), "payload": payload}
            await self.send("media", media=media)
            await asyncio.sleep(pace_s)

    async def stop(self):
        await self.send("stop", stop={"accountSid": "AC0", "callSid": "CA7"})
        return await self.closed()

    async def closed(self):
        frame = await self.socket.receive()
        assert frame.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        return self.socket.close_code, frame.extra


@asynccontextmanager
async def calling(place, **options):
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{place}/twilio", **options) as socket:
        yield Call(socket)


FORM = {"encoding": "mulaw", "sample_rate_hertz": 8_000}


async def test_both_who_speak_have_streams_and_languages_of_their_own(house, over_grpc, tmp_path):
    sinks = [f"{language}={tmp_path}/{{meeting}}.{language}.txt" for language in ("de", "fr")]
    parameters = {"inbound_to": "de", "inbound_name": "Ada", "to": "fr", "from": "en"}
    async with house() as address, opened(twilio, twilio.Twilio, address, *sinks) as (_, place):
        expected = (
            await over_grpc(address, CALLER, ("de",), source_languages=("en",), **FORM),
            await over_grpc(address, CALLED, ("fr",), source_languages=("en",), **FORM),
        )
        async with calling(place) as call:
            await call.start(parameters)
            await asyncio.gather(call.say("inbound", CALLER, 0.003), call.say("outbound", CALLED, 0.003))
            await call.send("dtmf", dtmf={"track": "inbound_track", "digit": "1"})
            await call.send("mark", mark={"name": "a mark"})
            assert await call.stop() == (1000, "")
    assert (tmp_path / "CA7.de.txt").read_text().splitlines() == [f"Ada: {text}" for text in expected[0]["de"]]
    assert (tmp_path / "CA7.fr.txt").read_text().splitlines() == [f"called: {text}" for text in expected[1]["fr"]]


async def test_without_sinks_lines_are_printed_and_languages_are_those_of_the_program(house, over_grpc, capsys):
    async with house() as address, opened(twilio, twilio.Twilio, address, "--to", "it") as (_, place):
        expected = await over_grpc(address, CALLER, ("it",), **FORM)
        async with calling(place) as call:
            await call.start()
            await call.say("inbound", CALLER, 0.003)
            await call.stop()
    lines = capsys.readouterr().out.splitlines()
    assert [line[6:] for line in lines] == [f"it  caller: {text}" for text in expected["it"]]
    assert [line[:6] for line in lines] == ["00:00 ", "00:02 "]


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, over_grpc, tmp_path):
    expected = await over_grpc(restarted.address, CALLER, ("de",), **FORM)
    sinks = "--to", "de", f"{tmp_path}/{{meeting}}.txt"
    async with opened(twilio, twilio.Twilio, restarted.address, *sinks) as (_, place), calling(place) as call:
        await call.start()
        saying = asyncio.create_task(call.say("inbound", CALLER, 0.01))
        await asyncio.sleep(1.0)
        await restarted.again()
        await saying
        assert await call.stop() == (1000, "")
    assert (tmp_path / "CA7.txt").read_text().splitlines() == [f"caller: {text}" for text in expected["de"]]


def signed(place, token, path="/twilio"):
    address = f"ws://{place}{path}"
    return {"X-Twilio-Signature": base64.b64encode(hmac.digest(token, address.encode(), hashlib.sha1)).decode()}


async def test_only_twilio_may_call_where_the_token_is_known(house, tmp_path):
    (tmp_path / "token").write_text("12345\n")
    known = "--auth-token", tmp_path / "token"
    async with house() as address, opened(twilio, twilio.Twilio, address, *known) as (_, place):
        for wrong in ({}, signed(place, b"54321"), signed(place, b"12345", "/other"), {"X-Twilio-Signature": "a"}):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                async with calling(place, headers=wrong):
                    pytest.fail("it is let in")
        async with calling(place, headers=signed(place, b"12345")) as call:
            await call.start()
            assert await call.stop() == (1000, "")
        outside = {"X-Forwarded-Proto": "https", "Host": "talks.example.org"}
        proof = base64.b64encode(hmac.digest(b"12345", b"wss://talks.example.org/twilio", hashlib.sha1)).decode()
        async with calling(place, headers=outside | {"X-Twilio-Signature": proof}) as call:
            await call.start()
            assert await call.stop() == (1000, "")


@pytest.mark.parametrize(
    ("speak", "problem"),
    [
        (lambda call: call.socket.send_str("{"), "isn't JSON as Twilio sends it"),
        (lambda call: call.socket.send_bytes(b"\0"), "isn't JSON as Twilio sends it"),
        (lambda call: call.send("media", media={}), "'media' comes before the start"),
        (lambda call: call.start(form={"encoding": "audio/l16"}), "it has to be {'encoding': 'audio/x-mulaw'"),
        (lambda call: call.start(callSid=7), "the sound of 7"),
        (lambda call: call.send("start"), "the sound of None is None; it has to be"),
        (lambda call: call.start(customParameters=["to"]), "the parameters ['to'] aren't names and texts"),
        (lambda call: call.start({"to": 7}), "the parameters {'to': 7} aren't names and texts"),
    ],
)
async def test_what_is_no_call_is_closed_with_a_reason(house, capsys, speak, problem):
    async with house() as address, opened(twilio, twilio.Twilio, address) as (_, place), calling(place) as call:
        await speak(call)
        code, _ = await call.closed()
        assert code == 1003
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ({"track": "inbound", "payload": "%"}, "malformed"),
        ({"track": "inbound"}, "malformed"),
        ({"track": "third", "payload": ""}, "there is no track 'third'; there are inbound, outbound"),
        ({"track": ["inbound"], "payload": ""}, "there is no track ['inbound']"),
        ({"track": "inbound", "payload": "é"}, "malformed"),
        (None, "malformed"),
    ],
)
async def test_what_was_said_before_a_broken_piece_is_kept(house, over_grpc, tmp_path, capsys, wrong):
    media, problem = wrong
    sinks = "--to", "de", f"{tmp_path}/{{meeting}}.txt"
    async with house() as address, opened(twilio, twilio.Twilio, address, *sinks) as (_, place):
        expected = await over_grpc(address, CALLER, ("de",), **FORM)
        async with calling(place) as call:
            await call.start()
            await call.say("inbound", CALLER, 0.002)
            await call.send("media", media=media)
            code, _ = await call.closed()
    assert code == 1003
    assert problem in capsys.readouterr().err
    assert (tmp_path / "CA7.txt").read_text().splitlines() == [f"caller: {text}" for text in expected["de"]]


async def test_a_language_that_nobody_knows_is_told_with_those_that_are(house, capsys):
    async with house() as address, opened(twilio, twilio.Twilio, address) as (_, place), calling(place) as call:
        await call.start({"to": "xx"})
        await call.say("inbound", CALLER[:8_000], 0.002)
        await call.stop()
    assert "toy knows en, de, zh, fr, it, es" in capsys.readouterr().err


def test_no_server_says_how_to_start_one(nowhere, capsys):
    with pytest.raises(SystemExit, match="2"):
        twilio.main(["--server", nowhere, "--to", "de"])
    assert "start one with `streamtrans serve`" in capsys.readouterr().err
