"""Videos and what else libsndfile doesn't read; the samples are made here with PyAV."""

import fractions
import subprocess
import sys

import av
import numpy as np
import pytest

from streamtrans.audio import duration_seconds, read_audio, stream_file
from streamtrans.core import BadAudio

RATE = 48_000
TONE = (0.4 * np.sin(2 * np.pi * 300 * np.arange(3 * RATE) / RATE)).astype(np.float32)


def write(path, codec, *, late_s=0.0, hole=(), picture=False, sound=True):
    """Write the tone, ``late_s`` after the picture begins, without the packets of ``hole`` (20 ms each)."""
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=10) if picture else None
        stream = container.add_stream(codec, rate=RATE, layout="mono") if sound else None
        if video is not None:
            video.width = video.height = 32
            for number in range(30):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                picture.pts, picture.time_base = number, fractions.Fraction(1, 10)
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        if stream is not None:
            for number, at in enumerate(range(0, len(TONE), 960)):
                if number in hole:
                    continue
                frame = av.AudioFrame.from_ndarray(TONE[None, at : at + 960], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = RATE, at + round(late_s * RATE)
                frame.time_base = fractions.Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.webm", "libopus"), ("a.mka", "flac"), ("a.aac", "aac"),
     ("a.ts", "aac"), ("a.3gp", "aac"), ("a.mov", "pcm_s16le"), ("a.wv", "wavpack"), ("a.flv", "aac")],
)  # fmt: skip
def test_sound_of_any_kind_is_read(tmp_path, name, codec):
    path = write(tmp_path / name, codec)
    audio = read_audio(path)
    assert len(audio) / 16_000 == pytest.approx(3, abs=0.05)
    assert duration_seconds(path) == pytest.approx(3, abs=0.05)
    assert np.sqrt(np.mean(audio[4000:-4000] ** 2)) == pytest.approx(0.4 / 2**0.5, rel=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_sound_of_a_video_stays_at_its_place(tmp_path, name):
    audio = read_audio(write(tmp_path / name, "aac", picture=True, late_s=1.0))
    assert len(audio) / 16_000 == pytest.approx(4, abs=0.1)
    assert np.abs(audio[:14_000]).max() < 0.01
    assert np.abs(audio[18_000:20_000]).max() > 0.3


def test_a_hole_in_the_timestamps_is_silence(tmp_path):
    audio = read_audio(write(tmp_path / "a.mka", "flac", hole=range(50, 100)))
    assert len(audio) / 16_000 == pytest.approx(3, abs=0.1)
    assert np.abs(audio[18_000:30_000]).max() < 0.01


def test_a_video_without_sound_says_so(tmp_path):
    with pytest.raises(BadAudio, match="the file holds no sound"):
        read_audio(write(tmp_path / "a.mp4", "aac", picture=True, sound=False))


def test_a_wrong_extension_is_no_matter(tmp_path):
    path = write(tmp_path / "a.m4a", "aac").rename(tmp_path / "a.wav")
    assert len(read_audio(path)) / 16_000 == pytest.approx(3, abs=0.05)


def test_what_is_damaged_in_the_middle_costs_only_itself(tmp_path):
    path = write(tmp_path / "a.aac", "aac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    notes = []
    audio = np.concatenate(list(stream_file(path, 1.0, notes.append)))
    assert len(audio) / 16_000 == pytest.approx(3, abs=0.3)
    assert "damaged" in notes[0]


def test_a_cut_off_film_gives_what_is_there_and_then_the_error(tmp_path):
    path = write(tmp_path / "a.mkv", "flac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blocks = []
    with pytest.raises(BadAudio, match=r"truncated: it ends after 1\.\d\d s, its header states 3\.00 s"):
        take(path, blocks)
    assert sum(map(len, blocks)) > 16_000


def take(path, blocks):
    for block in stream_file(path, 0.5):
        blocks.append(block)


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:3,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"])
def test_a_playlist_opens_nothing_else(tmp_path, text):
    other = write(tmp_path / "secret.mp4", "aac")
    (tmp_path / "a.m4a").write_text(text.format(other))
    with pytest.raises(BadAudio):
        read_audio(tmp_path / "a.m4a")


def test_without_pyav_the_error_names_it(tmp_path):
    path = write(tmp_path / "a.m4a", "aac")
    code = (
        "import sys; sys.modules['av'] = None; sys.meta_path.insert(0, type('No', (), {'find_spec': staticmethod("
        "lambda name, *_: (_ for _ in ()).throw(ModuleNotFoundError(name)) if name == 'av' else None)}));"
        "import streamtrans.audio as audio\ntry: audio.read_audio(sys.argv[1])\nexcept Exception as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert "pip install av" in said
