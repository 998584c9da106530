"""Peers of aiortc call the bot on the loopback address: sound goes there, captions come back."""

import asyncio
import fractions
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import aiohttp
import av
import numpy as np
import pytest
import soundfile
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from streamtrans_clients.bots import webrtc, webrtc_peer
from streamtrans_clients.bots.webrtc import Peers
from streamtrans_clients.bots.webrtc_peer import CallError, Peer

from streamtrans.client import StreamOptions, TranslationClient
from tests.clients.bots.conftest import TALK, settled
from tests.server.conftest import speech

OTHER = (speech(0.4, 0.9, 1.2, seed=9) * 32_767).astype("<i2").tobytes()
TOLD = bytes(32_000)
"""What WebRTC's codec needs to be told after the last word, so that a detector sees that it was the last."""


class Spoken(MediaStreamTrack):
    """Plays samples in real time, and then ends."""

    kind = "audio"

    def __init__(self, pcm):
        super().__init__()
        self._pcm, self._at, self._began = pcm + TOLD, 0, None

    async def recv(self):
        self._began = self._began or time.monotonic()
        piece = self._pcm[self._at * 2 : self._at * 2 + 640]
        if len(piece) < 640:
            self.stop()
            raise MediaStreamError
        await asyncio.sleep(self._began + self._at / 16_000 - time.monotonic())
        frame = av.AudioFrame.from_ndarray(np.frombuffer(piece, "<i2").reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, self._at, fractions.Fraction(1, 16_000)
        self._at += 320
        return frame


@asynccontextmanager
async def bot(address, targets=()):
    async with (
        TranslationClient(address) as client,
        Peers(client, StreamOptions(targets)) as peers,
        webrtc.called(peers, address, "127.0.0.1", 0) as url,
    ):
        yield url, peers


@asynccontextmanager
async def called(url, pcm=None, **query):
    told = []
    peer = Peer(url, told.append, None if pcm is None else Spoken(pcm))
    try:
        await peer.call(**query)
        yield told
    finally:
        await peer.leave()


def finals(told, speaker):
    return [each["committed"] for each in told if each["final"] and each["speaker"] == speaker]


async def test_two_peers_hear_of_each_other_in_their_own_languages(house, heard, over_grpc):
    async with house() as address, bot(address) as (url, peers):
        async with (
            called(url, TALK, name="Ada", reads="fr") as ada,
            called(url, OTHER, name="Bo", reads="de") as bo,
        ):
            names = {person.name: who for who, person in peers._room._people.items()}
            for told in (ada, bo):
                await settled(lambda told=told: (len(finals(told, "Ada")), len(finals(told, "Bo"))) == (2, 1))
        expected = {name: await over_grpc(address, heard[who]) for name, who in names.items()}
    for told, language in ((ada, "fr"), (bo, "de")):
        for name in ("Ada", "Bo"):
            assert finals(told, name) == [text for text in expected[name][language] if text]
        committed = {}
        for each in told:
            assert each.keys() == {"type", "id", "speaker", "language", "committed", "tentative", "final"}
            assert (each["type"], each["language"]) == ("caption", language)
            assert not (each["final"] and each["tentative"])
            assert each["committed"].startswith(committed.get(each["id"], ""))
            committed[each["id"]] = each["committed"]
        assert len(committed) == 3
    assert any(each["tentative"] for each in ada)


async def test_who_only_reads_reads_what_all_read_too(house):
    async with (
        house() as address,
        bot(address, ("it",)) as (url, _),
        called(url, name="Cy") as told,
        called(url, OTHER, name="Bo"),
    ):
        await settled(lambda: finals(told, "Bo"))
    assert {each["language"] for each in told} == {"it"}


async def test_who_hangs_up_is_gone(house):
    async with house() as address, bot(address, ("de",)) as (url, peers):
        async with called(url, name="Ada"):
            assert len(peers._connections) == 1
        await settled(lambda: not peers._connections)
        assert not peers._room._people


async def test_of_more_than_can_call_the_first_are_answered_and_no_name_is_logged(house, monkeypatch, caplog):
    monkeypatch.setattr(webrtc, "_MOST", 1)
    caplog.set_level("INFO")
    async with house() as address, bot(address, ("de",)) as (url, peers):
        async with called(url, name="Ada"):
            with pytest.raises(CallError, match="1 are here already; call again once somebody has left"):
                async with called(url, name="Bo"):
                    pass
            assert len(peers._room._people) == 1
        await settled(lambda: not peers._connections)
        async with called(url, name="Bo"):
            pass
    assert "name=" not in caplog.text


async def test_what_is_wrong_is_a_sentence(house, nowhere):
    async with house() as address, bot(address) as (url, peers):
        with pytest.raises(CallError, match="no captions in 'ru'; there are some in en, de, zh, fr, it, es"):
            async with called(url, reads="ru"):
                pass
        async with aiohttp.ClientSession() as session:
            sdp = {"Content-Type": "application/sdp"}
            for offer, status, why in (
                ("hello", 422, "no data channel"),
                ("m=audio", 422, "it is no SDP"),
                ("x" * 70_000, 413, ""),
            ):
                async with session.post(url, data=offer, headers=sdp) as answer:
                    assert answer.status == status
                    assert why in await answer.text()
            async with session.post(url, json={}) as answer:
                assert (answer.status, await answer.text()) == (415, "send an SDP offer, as application/sdp\n")
        assert not peers._connections
        assert not peers._room._people
    async with bot(nowhere) as (url, _):
        with pytest.raises(CallError, match=f"{nowhere} isn't serving .* `streamtrans serve`"):
            async with called(url, reads="de"):
                pass


async def test_a_server_that_went_away_is_told_on_the_channel(house):
    async with house() as address, bot(address, ("de",)) as (url, _):
        pass
    async with bot(address, ("de",)) as (url, _), called(url, OTHER, name="Bo") as told:
        await settled(lambda: told)
    assert told[0]["type"] == "trouble"
    assert told[0]["message"].startswith(f"Bo: {address} isn't serving")


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, heard, over_grpc):
    async with bot(restarted.address, ("de",)) as (url, peers), called(url, TALK, name="Ada") as told:
        [who] = peers._connections
        await settled(lambda: any(each["committed"] for each in told))
        await restarted.again()
        await settled(lambda: len(finals(told, "Ada")) == 2)
        expected = await over_grpc(restarted.address, heard[who], ("de",))
    assert finals(told, "Ada") == [text for text in expected["de"] if text]
    assert not any(each["type"] == "trouble" for each in told)


def test_the_programs_are_a_call(address_of_a_house, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(webrtc_peer, "_LAST_S", 1.0)
    address, _ = address_of_a_house
    soundfile.write(tmp_path / "talk.wav", np.frombuffer(OTHER + TOLD, "<i2"), 16_000)
    command = [sys.executable, "-m", "streamtrans_clients.bots.webrtc", "--server", address, "--to", "", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().removeprefix("ready: ").strip()
        webrtc_peer.main([url, str(tmp_path / "talk.wav"), "--name", "Bo", "--reads", "de"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("Bo de: w")
    with pytest.raises(SystemExit, match="2"):
        webrtc_peer.main([url, str(tmp_path / "talk.wav")])
    assert "error: " in capsys.readouterr().err
