import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import duration_seconds, read_audio, stream_file
from streamtrans.core import BadAudio


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    mono = 0.4 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(mono[:, None], channels, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "stereo.wav"
    noise = np.random.default_rng(0).uniform(-1, 1, (13_000, 2))
    soundfile.write(path, noise, 8000)
    return path


@settings(max_examples=40, deadline=None)
@given(block=st.floats(0.0005, 4.0))
def test_law_blocks_are_the_file_cut_in_pieces(stereo: Path, block: float) -> None:
    blocks = list(stream_file(stereo, block))
    whole = read_audio(stereo)
    assert np.array_equal(np.concatenate(blocks), whole)
    assert {len(each) for each in blocks[:-1]} <= {round(block * 16000)}
    assert 0 < len(blocks[-1]) <= max(1, round(block * 16000))
    assert whole.dtype == np.float32
    assert len(whole) == 26_000
    assert np.abs(whole).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "tolerance"),
    [
        ("wav", 8000, 2, 1e-3),
        ("wav", 192_000, 8, 1e-3),
        ("flac", 44_100, 1, 1e-3),
        ("ogg", 48_000, 2, 0.05),
        ("mp3", 22_050, 1, 0.05),
    ],
)
def test_formats_are_read_at_any_rate(tmp_path: Path, suffix: str, rate: int, channels: int, tolerance: float) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(2.5, rate, channels), rate)
    audio = read_audio(path)
    assert duration_seconds(path) == pytest.approx(2.5, abs=0.001)
    assert len(audio) == pytest.approx(40_000, abs=2)
    assert np.abs(audio - tone(2.5, 16000)[: len(audio), 0])[800:-800].max() < tolerance


def test_16_khz_int16_is_read_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-32768, 32767, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", values, 16000)
    assert np.array_equal(read_audio(tmp_path / "a.wav"), values / np.float32(32768))


def test_a_file_too_short_for_one_sample_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 192_000)
    assert read_audio(tmp_path / "a.wav").shape == (0,)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(BadAudio, match=message) as caught:
        read_audio(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1


def test_missing_files_and_folders(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.wav", "there is no such file")
    refused(tmp_path, "this is a folder")
    refused(Path("/dev/null"), "not a regular file")


def test_files_without_audio(tmp_path: Path) -> None:
    refused(write(tmp_path / "empty.wav", b""), r"the file is empty \(0 bytes\)")
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), 16000)
    refused(tmp_path / "zero.wav", "its length is zero")
    with pytest.raises(BadAudio, match="its length is zero"):
        duration_seconds(tmp_path / "zero.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "gsm", "raw"])
def test_text_under_an_audio_name(tmp_path: Path, suffix: str) -> None:
    message = "not audio (with a header )?that can be read|headerless"
    refused(write(tmp_path / f"notes.{suffix}", b"just a few words\n" * 100), message)


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("ogg", "OPUS")]
)
@pytest.mark.parametrize("share", [0.97, 0.5])
def test_truncated_files(tmp_path: Path, suffix: str, subtype: str, share: float) -> None:
    soundfile.write(tmp_path / f"whole.{suffix}", tone(3, 48000), 48000, subtype=subtype)
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    refused(write(tmp_path / f"torn.{suffix}", data[: int(len(data) * share)]), "truncated")


def test_truncated_mp3(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.mp3", tone(3, 16000), 16000)
    data = (tmp_path / "whole.mp3").read_bytes()
    message = r"truncated: it ends after 1\.\d\d s, its header states 3\.00 s"
    refused(write(tmp_path / "torn.mp3", data[: len(data) // 2]), message)


def test_a_wav_written_to_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1, 16000), 16000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert len(read_audio(write(tmp_path / "b.wav", bytes(data)))) == 16000


def test_a_flac_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(2.5, 16000), 16000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    # STREAMINFO: the low 4 bits of byte 21 and four bytes more are the number of samples.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path = write(tmp_path / "b.flac", bytes(data))
    assert len(read_audio(path)) == 40_000
    assert duration_seconds(path) == 2.5


def test_blocks_of_an_mp3_join_without_a_seam(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", tone(3.5, 16000), 16000)
    at_once, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    blocks = list(stream_file(tmp_path / "a.mp3", 0.25))
    assert np.allclose(np.concatenate(blocks), at_once, atol=1e-6)
    assert np.array_equal(np.concatenate(blocks), read_audio(tmp_path / "a.mp3"))


@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float, name: str) -> None:
    audio = np.zeros(20_000, np.float32)
    audio[17_123] = value
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    refused(tmp_path / "a.wav", f"sample 17123 is {name}")


def test_absurd_headers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fast.wav", np.zeros(100), 384_000)
    refused(tmp_path / "fast.wav", "sample rate 384000 Hz is outside of 8000 to 192000 Hz")
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 1)
    refused(tmp_path / "slow.wav", "sample rate 1 Hz")
    soundfile.write(tmp_path / "wide.wav", np.zeros((100, 12)), 16_000)
    refused(tmp_path / "wide.wav", "12 channels; 1 to 8")


def test_blocks_of_no_length_are_refused(stereo: Path) -> None:
    with pytest.raises(BadAudio, match="block_seconds must be positive"):
        next(stream_file(stereo, 0.0))


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    soundfile.write(tmp_path / "a.wav", tone(1, 16000), 16000)
    try:
        (tmp_path / "a.wav").rename(strange)
    except OSError:
        pytest.skip("this file system takes text names only")
    assert len(read_audio(strange)) == 16_000


@pytest.mark.parametrize(("top", "bits"), [(20_000, 16), (6_000_000, 24), (2_000_000_000, 32)])
def test_floats_on_the_scale_of_integers_are_brought_down(tmp_path: Path, top: float, bits: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(3, 16000) * top, 16000, subtype="FLOAT")
    notes: list[str] = []
    audio = np.concatenate(list(stream_file(tmp_path / "a.wav", 1.0, notes.append)))
    assert np.allclose(audio, tone(3, 16000)[:, 0] * top / 2 ** (bits - 1), atol=1e-6)
    assert f"integers of {bits} bits" in notes[0]


def test_an_overdriven_mix_is_brought_down_and_clicks_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hot.wav", tone(3, 16000) * 8, 16000, subtype="FLOAT")
    assert np.allclose(read_audio(tmp_path / "hot.wav"), tone(3, 16000)[:, 0] * 2.5, atol=1e-4)
    clicks = tone(3, 16000)
    clicks[::8000] = 1000
    soundfile.write(tmp_path / "clicks.wav", clicks, 16000, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "clicks.wav"), np.clip(clicks[:, 0], -1, 1))


def test_floats_on_no_scale_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(3, 16000) * 1e30, 16000, subtype="FLOAT")
    refused(tmp_path / "a.wav", "lies within -1 and 1")


def test_names_that_are_too_long_and_locked_folders_are_bad_audio(tmp_path: Path) -> None:
    refused(tmp_path / ("x" * 300 + ".wav"), r"can't be read \(File name too long\)")
