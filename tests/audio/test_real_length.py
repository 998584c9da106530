"""Files whose header is wrong are read to their real end, and somebody is told; what is right stays as it is."""

import io
import struct

import numpy as np
import pytest
import soundfile

from streamtrans.audio import duration_seconds, media, read_audio, stream_file
from streamtrans.audio.headers import examine
from streamtrans.core import BadAudio

RATE = 16_000
SECONDS = 3
SPEECH = np.random.default_rng(0).normal(0, 0.1, SECONDS * RATE).clip(-0.9, 0.9).astype(np.float32)


def write(folder, kind, **more):
    path = folder / f"whole.{kind}"
    soundfile.write(path, SPEECH, RATE, format=kind.upper(), **more)
    return path


def read(path):
    notes = []
    blocks = list(stream_file(path, 0.7, notes.append))
    return np.concatenate(blocks), notes


def take(path, blocks):
    for block in stream_file(path, 0.7):
        blocks.append(block)


def patched(path, at, new):
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


PLACES = {
    "wav": (b"data", 4, 4, "little"),
    "rf64": (b"ds64", 16, 8, "little"),
    "w64": (b"data", 16, 8, "little"),
    "aiff": (b"SSND", 4, 4, "big"),
    "au": (b".snd", 8, 4, "big"),
    "caf": (b"data", 4, 8, "big"),
}
"""Where the length of the audio stands: behind what, how far, in how many bytes, in which order."""


def lie(path, kind, factor):
    """State ``factor`` of the true length."""
    data = path.read_bytes()
    if kind == "flac":
        return patched(path, 21, bytes([data[21] & 0xF0]) + int(factor * len(SPEECH)).to_bytes(4, "big"))
    name, further, width, order = PLACES[kind]
    at = data.index(name) + further
    true = int.from_bytes(data[at : at + width], order)
    patched(path, at, (int(true * factor) // 4 * 4).to_bytes(width, order))
    if kind == "aiff":
        patched(path, data.index(b"COMM") + 10, int(len(SPEECH) * factor).to_bytes(4, "big"))
    return path


KINDS = ["wav", "rf64", "w64", "aiff", "au", "caf", "flac"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorder_that_was_killed_states_no_length(tmp_path, kind):
    good = read_audio(write(tmp_path, kind))
    audio, _ = read(lie(tmp_path / f"whole.{kind}", kind, 0))
    assert np.array_equal(audio, good)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "w64"])
def test_a_header_that_states_too_little_is_told_and_all_is_read(tmp_path, kind):
    good = read_audio(write(tmp_path, kind))
    audio, notes = read(lie(tmp_path / f"whole.{kind}", kind, 1 / 3))
    assert np.array_equal(audio, good)
    assert notes == ["its header states 1.00 s, but it holds 3.00 s: all of it is read"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_states_too_much_is_an_error_after_all_that_is_there(tmp_path, kind):
    good = read_audio(write(tmp_path, kind))
    path = lie(tmp_path / f"whole.{kind}", kind, 3)
    blocks = []
    with pytest.raises(BadAudio, match="truncated"):
        take(path, blocks)
    assert np.array_equal(np.concatenate(blocks), good)


@pytest.mark.parametrize("kind", KINDS)
def test_law_a_right_header_is_left_as_it_is(tmp_path, kind):
    data = write(tmp_path, kind).read_bytes()
    header = examine(io.BytesIO(data))
    assert not header.torn
    assert header.stated == 1
    assert kind == "flac" or not header.repairs


def test_chunks_behind_the_audio_are_no_audio(tmp_path):
    path = write(tmp_path, "wav")
    more = b"LIST" + struct.pack("<I", 4000) + b"INFO" + bytes(3996) + b"bext" + struct.pack("<I", 602) + bytes(602)
    path.write_bytes(path.read_bytes() + more)
    audio, notes = read(path)
    assert len(audio) == len(SPEECH)
    assert notes == []


def test_a_short_tag_behind_the_audio_is_no_audio(tmp_path):
    path = write(tmp_path, "wav")
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert len(read(path)[0]) == len(SPEECH)


def test_an_empty_recording_with_chunks_behind_is_empty(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    data = (tmp_path / "a.wav").read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(BadAudio, match="its length is zero"):
        read_audio(tmp_path / "a.wav")


def frames_of(data):
    """Return the frames of an MPEG-2 layer III file of 16 kHz, as LAME wrote it."""
    rates = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    at, found = 0, []
    while at + 4 <= len(data) and data[at] == 0xFF:
        size = 72 * 1000 * rates[data[at + 2] >> 4] // RATE + (data[at + 2] >> 1 & 1)
        found.append(data[at : at + size])
        at += size
    return found


@pytest.fixture
def mp3(tmp_path):
    """Silence, then sound, at a variable rate: its first frames say nothing of the rest."""
    quiet = np.concatenate([np.zeros(6 * RATE, np.float32), np.tile(SPEECH, 4)])
    soundfile.write(tmp_path / "talk.mp3", quiet, RATE, bitrate_mode="VARIABLE")
    return tmp_path / "talk.mp3"


def test_an_mp3_without_a_stated_length(mp3):
    mp3.write_bytes(b"".join(frames_of(mp3.read_bytes())[1:]))
    assert len(read_audio(mp3)) / RATE == pytest.approx(18, abs=0.15)
    assert duration_seconds(mp3) == pytest.approx(18, abs=0.15)


def test_an_mp3_that_begins_loudly_and_states_no_length(tmp_path):
    # What libsndfile guesses of the first, large, frames is far too short.
    loud = np.concatenate([np.tile(SPEECH, 2), np.zeros(20 * RATE, np.float32), SPEECH])
    soundfile.write(tmp_path / "a.mp3", loud, RATE, bitrate_mode="VARIABLE")
    (tmp_path / "a.mp3").write_bytes(b"".join(frames_of((tmp_path / "a.mp3").read_bytes())[1:]))
    assert len(read_audio(tmp_path / "a.mp3")) / RATE == pytest.approx(29, abs=0.15)


def test_an_mp3_with_a_wrong_length(mp3):
    data = mp3.read_bytes()
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    audio, notes = read(patched(mp3, at, (int.from_bytes(data[at : at + 4], "big") // 3).to_bytes(4, "big")))
    assert len(audio) / RATE == pytest.approx(18, abs=0.15)
    assert "it holds 18.0" in notes[0]


def test_mp3s_joined_into_one(mp3):
    mp3.write_bytes(mp3.read_bytes() * 2)
    audio, notes = read(mp3)
    assert len(audio) / RATE == pytest.approx(36, abs=0.2)
    assert len(notes) == 1


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_oggs_joined_into_one(tmp_path, codec):
    path = write(tmp_path, "ogg", subtype=codec)
    path.write_bytes(path.read_bytes() * 2)
    assert len(read(path)[0]) / RATE == pytest.approx(2 * SECONDS, abs=0.05)


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_without_pyav_what_may_be_missing_is_an_error(tmp_path, kind, monkeypatch):
    path = write(tmp_path, kind)
    data = path.read_bytes()
    path.write_bytes(b"".join(frames_of(data)[1:]) if kind == "mp3" else data * 2)
    monkeypatch.setattr("streamtrans.audio.files.installed", lambda: False)
    assert media.installed()
    with pytest.raises(BadAudio, match=r"may be missing: pip install av"):
        read_audio(path)
