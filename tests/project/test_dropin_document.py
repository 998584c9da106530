"""The examples of docs/dropin.md run as they stand against a real server, but for its port."""

import contextlib
import re
from pathlib import Path

import pytest
import soundfile
import soxr

import streamtrans
from streamtrans.audio import read_audio
from streamtrans.server import Limits, ServerConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "dropin.md").read_text(encoding="utf-8")
UNPACED = Limits(max_real_time_factor=1e6, burst_ms=10**9)

pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")  # the clients' affair


@pytest.fixture(scope="module")
def server():
    with streamtrans.serving(config=ServerConfig(port=0, http_port=0, limits=UNPACED, load=None, grace_ms=0)) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """Two sentences of the bundled recording, where the program runs."""
    whole = read_audio(ROOT / "streamtrans" / "demo" / "speech.flac")
    soundfile.write(tmp_path / "talk.wav", whole[: 8 * 16_000], 16_000)
    soundfile.write(tmp_path / "talk24.wav", soxr.resample(whole[: 8 * 16_000], 16_000, 24_000), 24_000)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def examples(title, server):
    """Return the blocks of a section, as they call ``server``."""
    section = re.split(r"^## ", TEXT, flags=re.M)
    [text] = [each for each in section if each.startswith(title)]
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    return [block.replace("localhost:8080", f"localhost:{server.http_port}") for block in blocks]


def test_deepgram(folder, server, capsys):
    known = {"__name__": "example"}
    for example in examples("Deepgram", server):
        exec(compile(example, "dropin.md", "exec"), known)
    known["deepgram"]._client_wrapper.httpx_client.httpx_client.close()  # which it has no word for
    whole = server.translate("talk.wav", ("de", "fr"), source="en")
    lines = capsys.readouterr().out.splitlines()
    texts = [" ".join(whole.text(language).split()) for language in ("de", "fr")]
    assert lines[:2] == [f"['de'] {texts[0]}", f"['fr'] {texts[1]}"]
    assert len(lines) == 4
    assert [float(line.split()[0]) for line in lines[2:]] == [cue.start_ms / 1000 for cue in whole.cues("de")]
    words = known["answer"].results.channels[0].alternatives[0].words
    theirs = [word for cue in whole.cues("de") for word in cue.words]
    assert [(word.word, word.start, word.end) for word in words] == [
        (word.text, word.start_ms / 1000, word.end_ms / 1000) for word in theirs
    ]
    assert all(0 < word.confidence <= 1 for word in words)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # so the client calls translations
def test_openai(folder, server, capsys):
    known = {"__name__": "example"}
    for example in examples("OpenAI: `/v1/audio", server):
        exec(compile(example, "dropin.md", "exec"), known)
    known["openai"].close()
    printed = capsys.readouterr().out
    german = server.translate("talk.wav", "de")
    french = server.translate("talk.wav", "fr", source="en")
    assert printed == " ".join(german.text().split()) + "\n" + french.srt() + "\n"
    assert french.srt().count("-->") >= 2


def test_openai_realtime(folder, server, capsys):
    known = {"__name__": "example"}
    [example] = examples("OpenAI: transcription sessions", server)
    exec(compile(example, "dropin.md", "exec"), known)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(len(line.split()) > 3 for line in lines)
    [example] = examples("OpenAI: translation sessions", server)
    exec(compile(example, "dropin.md", "exec"), known)
    printed = capsys.readouterr().out
    assert len(printed.split()) > 6
    assert "  " not in printed


def test_what_is_said_of_the_server_is_so():
    config = ServerConfig()
    assert f"`upload_real_time_factor` times as fast as they were\nspoken ({config.upload_real_time_factor:g})" in TEXT
    assert f"`max_upload_mb` ({config.max_upload_mb})" in TEXT
    assert config.max_upload_ms == 3 * 3_600_000
    assert f"`max_uploads` ({config.max_uploads})" in TEXT
    assert config.upload_timeout_ms == 10 * 60_000
    assert config.first_message_ms == 5_000
