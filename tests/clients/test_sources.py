import asyncio
import math
import os
import sys
import types

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from streamtrans_clients import SourceError, loudness, microphone, microphones, recording
from streamtrans_clients.sources import SILENCE_DB, monitors, piped, system_sound

from streamtrans.audio import read_audio


async def gather(source):
    return [chunk async for chunk in source.chunks]


async def test_a_recording_comes_whole_in_chunks_of_100_ms(tmp_path):
    path = tmp_path / "two.wav"
    samples = np.random.default_rng(0).integers(-9_000, 9_000, 4_000, dtype=np.int16)
    soundfile.write(path, np.stack([samples, samples], axis=1), 16_000)
    source = recording(path, asyncio.Event())
    assert (source.name, source.sample_rate_hertz, source.channels) == ("two.wav", 16_000, 1)
    chunks = await gather(source)
    assert [len(chunk) for chunk in chunks] == [3_200, 3_200, 1_600]
    assert b"".join(chunks) == samples.astype("<i2").tobytes()


async def test_law_of_a_recording_all_is_played_that_translate_reads(tmp_path):
    """Its header states a third of what there is, and its samples are on the scale of integers."""
    path = tmp_path / "lies.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 3_000, 24_000), 16_000, subtype="FLOAT")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = (24_000 * 4 // 3).to_bytes(4, "little")
    path.write_bytes(data)
    notes = []
    played = np.frombuffer(b"".join(await gather(recording(path, asyncio.Event(), notes.append))), "<i2")
    np.testing.assert_allclose(played / 32768, read_audio(path), atol=1 / 32768)
    assert len(played) == 24_000
    assert ["scale" in notes[0], "its header states" in notes[1]] == [True, True]


@pytest.mark.parametrize("stated", ["nothing", "a third"])
async def test_of_an_mp3_all_is_played_whatever_length_it_states(tmp_path, stated):
    path = tmp_path / "talk.mp3"
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * 16_000).clip(-0.9, 0.9)
    soundfile.write(path, np.concatenate([np.zeros(2 * 16_000), sound]), 16_000, bitrate_mode="VARIABLE")
    data = bytearray(path.read_bytes())
    at = max(data.find(b"Xing"), data.find(b"Info"))
    if stated == "nothing":
        data[at : at + 4] = b"none"
    else:
        data[at + 8 : at + 12] = (int.from_bytes(data[at + 8 : at + 12], "big") // 3).to_bytes(4, "big")
    path.write_bytes(data)
    notes = []
    played = np.frombuffer(b"".join(await gather(recording(path, asyncio.Event(), notes.append))), "<i2")
    np.testing.assert_allclose(played / 32768, read_audio(path), atol=1 / 32768)
    assert len(played) / 16_000 == pytest.approx(5, abs=0.15)
    assert any("its header states" in note for note in notes) == (stated == "a third")


async def test_a_recording_that_breaks_off_is_played_to_there_and_said(tmp_path):
    path = tmp_path / "torn.wav"
    soundfile.write(path, np.full(8_000, 0.1), 16_000)
    path.write_bytes(path.read_bytes()[:-8_000])
    heard = []

    async def play():
        async for chunk in recording(path, asyncio.Event()).chunks:
            heard.append(chunk)

    with pytest.raises(SourceError, match="truncated"):
        await play()
    assert len(b"".join(heard)) == 8_000


PAREC = """#!{python}
import sys, time
if "--device=broken.monitor" in sys.argv:
    sys.exit("Stream error: No such entity")
assert {{"--raw", "--device=@DEFAULT_MONITOR@", "--format=s16le", "--rate=48000", "--channels=1"}} <= set(sys.argv)
sys.stdout.buffer.write(bytes(range(96)) * 250)
sys.stdout.flush()
time.sleep(60)
"""
PACTL = "#!/bin/sh\nprintf '0\\tspeaker.monitor\\tx\\n1\\tmic\\tx\\n2\\tbroken.monitor\\tx\\n'\n"


@pytest.fixture
def pulse(tmp_path, monkeypatch):
    """Programs that answer as PulseAudio's do."""
    for name, text in (("parec", PAREC.format(python=sys.executable)), ("pactl", PACTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("pulse")
async def test_what_the_machine_plays_is_heard():
    assert monitors() == ["speaker.monitor", "broken.monitor"]
    stop = asyncio.Event()
    source = system_sound("system", stop)
    assert (source.sample_rate_hertz, source.channels) == (48_000, 1)
    chunks = []
    async for chunk in source.chunks:
        chunks.append(chunk)
        if len(chunks) == 2:
            stop.set()
    assert b"".join(chunks) == bytes(range(96)) * 200


@pytest.mark.usefixtures("pulse")
async def test_what_is_wrong_with_the_sound_of_the_machine_is_named(monkeypatch):
    with pytest.raises(SourceError, match=r"no source 'tv\.monitor'; there are speaker\.monitor"):
        system_sound("tv.monitor", asyncio.Event())
    with pytest.raises(SourceError, match="has ended: Stream error: No such entity"):
        await gather(system_sound("broken.monitor", asyncio.Event()))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceError, match="apt install pulseaudio-utils"):
        system_sound("system", asyncio.Event())
    assert monitors() == []


async def test_blocks_of_an_mp3_join_without_a_seam(tmp_path):
    path = tmp_path / "tone.mp3"
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * 300 * np.arange(8_000) / 16_000), 16_000)
    whole = soundfile.read(path, dtype="int16")[0]
    played = np.frombuffer(b"".join(await gather(recording(path, asyncio.Event()))), "<i2")
    np.testing.assert_allclose(played, whole[: len(played)], atol=2)
    assert len(whole) - len(played) <= 2 * 1_152


async def test_a_recording_is_played_no_faster_than_it_was_spoken(talk):
    loop = asyncio.get_running_loop()
    began = loop.time()
    chunks = await gather(recording(talk, asyncio.Event()))
    assert loop.time() - began >= 1.1 - 0.01
    assert len(chunks) == 11


async def test_a_recording_stops_when_told(talk):
    stop = asyncio.Event()
    source = recording(talk, stop)
    heard = 0
    async for _ in source.chunks:
        heard += 1
        stop.set()
    assert heard == 1


@pytest.mark.parametrize(
    ("name", "content"), [("no.wav", None), ("letter.wav", b"hello " * 99), ("empty.wav", b""), ("pcm.raw", b"12")]
)
async def test_what_is_no_recording_is_named(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=name):
        recording(path, asyncio.Event())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 32_767), st.integers(1, 500))
def test_law_loudness_is_the_level_below_full_scale(peak, count):
    level = loudness(np.full(count, peak, "<i2").tobytes())
    expected = 20 * math.log10(peak / 32768) if peak else SILENCE_DB
    assert level == pytest.approx(max(SILENCE_DB, expected))


def test_nothing_is_silent():
    assert loudness(b"") == SILENCE_DB


class FakeDevices(types.ModuleType):
    """The part of sounddevice that is used; its microphone says three chunks and then holds its breath."""

    class PortAudioError(Exception):
        pass

    def __init__(self, inputs=2, broken=False):
        super().__init__("sounddevice")
        self.inputs, self.broken = inputs, broken
        self.default = types.SimpleNamespace(device=(1, 2))
        self.opened = []

    def query_devices(self, device=None, kind=None):
        devices = [
            {"name": "Speaker", "max_input_channels": 0, "default_samplerate": 48_000.0},
            {"name": "Built-in", "max_input_channels": self.inputs, "default_samplerate": 44_100.0},
        ]
        if kind is None:
            return devices
        if device in (None, 1, "Built"):
            return devices[1]
        raise ValueError(f"No input device matching {device!r}")

    def RawInputStream(self, *, callback, blocksize, **given):
        if self.broken:
            raise self.PortAudioError("Device unavailable")
        self.opened.append(given)
        for value in (1, 2, 3):
            callback(np.full(blocksize, value, "<i2").tobytes(), blocksize, None, None)
        import contextlib

        return contextlib.nullcontext()


@pytest.fixture
def devices(monkeypatch):
    def install(**how):
        fake = FakeDevices(**how)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return install


def test_input_devices_are_listed_with_the_default_marked(devices):
    devices()
    assert microphones() == ["*  1  Built-in"]


async def test_a_microphone_is_heard_at_its_own_rate(devices):
    fake = devices()
    stop = asyncio.Event()
    source = microphone("Built", stop)
    assert (source.name, source.sample_rate_hertz, source.channels) == ("Built-in", 44_100, 1)
    chunks = []
    async for chunk in source.chunks:
        chunks.append(chunk)
        if len(chunks) == 3:
            stop.set()
    assert [len(chunk) for chunk in chunks] == [4_410 * 2] * 3
    assert [chunk[0] for chunk in chunks] == [1, 2, 3]
    assert fake.opened == [{"samplerate": 44_100, "device": "Built", "channels": 1, "dtype": "int16"}]


async def test_what_was_said_before_the_end_is_not_lost(devices):
    devices()
    stop = asyncio.Event()
    chunks = []
    async for chunk in microphone(None, stop).chunks:
        chunks.append(chunk)
        stop.set()
    assert [chunk[0] for chunk in chunks] == [1, 2, 3]


def test_no_microphone_says_what_to_do(devices):
    devices(inputs=0)
    with pytest.raises(SourceError, match="--file"):
        microphone(None, asyncio.Event())


def test_an_unknown_device_points_to_the_list(devices):
    devices()
    with pytest.raises(SourceError, match="--list-devices"):
        microphone("Loft", asyncio.Event())


async def test_a_busy_microphone_is_explained(devices):
    devices(broken=True)
    with pytest.raises(SourceError, match="another program"):
        await gather(microphone(None, asyncio.Event()))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SourceError, match="pip install sounddevice"):
        microphones()


def test_a_missing_library_is_named(monkeypatch):
    class Finder:
        def find_spec(self, name, path, target=None):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(SourceError, match="libportaudio2"):
        microphones()


@pytest.fixture
def standard_input(monkeypatch):
    """Return what writes into the standard input, a pipe; ``None`` ends it."""
    ends = os.pipe()
    reading, writing = os.fdopen(ends[0], "rb", buffering=0), os.fdopen(ends[1], "wb", buffering=0)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=reading, isatty=lambda: False))
    yield lambda data: writing.close() if data is None else writing.write(data)
    writing.close()


async def test_samples_in_a_pipe_are_heard_as_they_come_to_the_last_one(standard_input):
    source = piped(asyncio.Event())
    assert (source.sample_rate_hertz, source.channels) == (16_000, 1)
    standard_input(bytes(3_200) + b"\1\0" * 100)
    chunks = aiter(source.chunks)
    async with asyncio.timeout(5):
        assert await anext(chunks) == bytes(3_200)  # long before the pipe ends
        standard_input(None)
        assert [chunk async for chunk in chunks] == [b"\1\0" * 100]


async def test_a_pipe_in_which_nothing_comes_is_left_when_told(standard_input):
    stop = asyncio.Event()
    chunks = aiter(piped(stop).chunks)
    asyncio.get_running_loop().call_later(0.05, stop.set)
    async with asyncio.timeout(5):
        assert [chunk async for chunk in chunks] == []


async def test_a_file_in_a_pipe_and_a_terminal_are_told_what_to_do(standard_input, monkeypatch):
    standard_input(b"RIFF" + bytes(4_000))
    with pytest.raises(SourceError, match=r"header; give bare samples: ffmpeg .* -f s16le -ar 16000 -ac 1"):
        await gather(piped(asyncio.Event()))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=None, isatty=lambda: True))
    with pytest.raises(SourceError, match="standard input is no sound; pipe some in: ffmpeg"):
        piped(asyncio.Event())
