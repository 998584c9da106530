"""Recordings that are sent whole: what is received is bounded in size and time, and from nobody who may not speak."""

import asyncio
import tempfile

import aiohttp
import pytest

from streamtrans.server import Limits
from streamtrans.server.keys import add_key
from streamtrans.server.tokens import add_signer, mint
from tests.server.test_dropin import wav

WAYS = ("/v1/listen", "/v1/audio/transcriptions")
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}


def spoken(house, *pieces):
    """Return samples of 16 bits at 16 kHz."""
    return (house.speech(*pieces) * 32_767).astype("<i2").tobytes()


def part(name, data=b""):
    """Return a part of a form."""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data + b"\r\n"


async def asked(server, path, data, **headers):
    """Send a recording; return status and answer."""
    address = f"http://localhost:{server.http_port}{path}"
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.post(address, data=data, headers=BOUNDARY | headers) as answer,
    ):
        return answer.status, await answer.text()


async def never():
    """Send something, and then nothing for a long time."""
    yield part("model", b"whisper-1")
    await asyncio.sleep(30)


async def drops(*before):
    """Send a byte now and then, each soon after the last."""
    for each in before:
        yield each
    for _ in range(1_000):
        yield b"x"
        await asyncio.sleep(0.03)


async def test_a_form_has_one_recording(house, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = part("file", wav(spoken(house, 0.3)))
    async with house.running(config=house.configured(http_port=0)) as (server, _):
        status, told = await asked(server, WAYS[1], part("language", b"en") + file * 2 + b"--x--\r\n")
        assert status == 400
        assert "comes twice" in told
        status, told = await asked(server, WAYS[1], part("language", b"en") + file + b"--x--\r\n")
        assert status == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([part(f"field{number}") for number in range(200)], "one part too many"),
        ([part("prompt") for _ in range(200)], "one part too many"),
        ([part(f"{number}{'x' * 7_000}") for number in range(20)], "is too long"),
        ([part("prompt", b"x" * 7_000) for number in range(20)], "is too long"),
    ],
    ids=["names", "parts", "long names", "long values"],
)
async def test_fields_are_bounded_whatever_they_are_made_of(house, fields, words):
    file = part("file", wav(spoken(house, 0.3)))
    async with house.running(config=house.configured(http_port=0)) as (server, _):
        status, told = await asked(server, WAYS[1], part("language", b"en") + b"".join(fields) + file + b"--x--\r\n")
        assert status == 400
        assert words in told


SLOWLY = {
    "a body": (WAYS[0], (b"RIFF",)),
    "a file": (WAYS[1], (part("file")[:-2],)),
    "a field": (WAYS[1], (part("prompt")[:-2],)),
    "what stands before the first part": (WAYS[1], (b"x\r\n",)),
    "a head": (WAYS[1], (b"--x\r\nContent-Disposition: form-data; name=",)),
}


@pytest.mark.parametrize("what", SLOWLY)
async def test_who_sends_drop_by_drop_is_not_waited_for(house, what):
    path, before = SLOWLY[what]
    limits = Limits(idle_ms=5_000, max_real_time_factor=1e6, burst_ms=10**7)
    config = house.configured(limits, http_port=0, upload_timeout_ms=500, max_uploads=1)
    async with house.running(config=config) as (server, _):
        status, told = await asked(server, path, drops(*before))
        assert status == 400
        assert "didn't arrive within 0.5 s" in told
        status, told = await asked(server, WAYS[0], wav(spoken(house, 0.3)))
        assert status == 200, told  # its place is free


@pytest.mark.parametrize("what", [each for each in SLOWLY if each != "a body"])
async def test_who_stops_sending_is_not_waited_for_wherever_he_stops(house, what):
    async def stops():
        for each in SLOWLY[what][1]:
            yield each
        await asyncio.sleep(30)

    async with house.running(config=house.configured(Limits(idle_ms=200), http_port=0)) as (server, _):
        _, told = await asked(server, WAYS[1], stops())
        assert "no audio for 200 ms" in told


BROKEN = (
    b"--x",
    b"--x\r\n",
    part("file")[:-2],
    part("file", b"RIFF"),
    part("language", b"en")[:-2],
    part("_charset_", b"x" * 50),
    part("_charset_", b"\xff"),
    b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Length: 9\r\n\r\nRIFF',
    b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Length: x\r\n\r\nRIFF',
    b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: odd\r\n\r\nRIFF\r\n--x--\r\n',
    b"--x\r\nContent-Type: multipart/mixed\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n",
    b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n",
    b"--x\r\n" + b"A: b\r\n" * 1_000,
    b"--x\r\n" + b"A" * 100_000,
)


@pytest.mark.parametrize("number", range(len(BROKEN)))
async def test_a_form_that_is_damaged_is_refused_and_no_fault_of_the_server(house, number):
    async with house.running(config=house.configured(http_port=0)) as (server, _):
        status, told = await asked(server, WAYS[1], BROKEN[number])
        assert status == 400, told


@pytest.mark.parametrize("path", WAYS)
async def test_who_may_not_speak_or_has_used_all_up_hears_it_before_he_sends(house, tmp_path, path):
    keys, signers = tmp_path / "keys.toml", tmp_path / "signers.toml"
    key = add_key(keys, "hall", {"streams": 1})
    add_signer(signers, "main", "HS256")
    watcher = mint(signers, "guest", 15, rights=("watch",))
    async with house.running(config=house.configured(http_port=0, keys=keys, signers=signers)) as (server, _):
        status, told = await asked(server, path, never(), Authorization=f"Bearer {watcher}")
        assert status == 403
        assert "not to speak" in told
        holder = server._service._keys.holder((("authorization", f"Bearer {key}"),))
        with holder.place():
            status, told = await asked(server, path, never(), Authorization=f"Bearer {key}")
        assert status == 429
        assert "1 streams at once" in told
