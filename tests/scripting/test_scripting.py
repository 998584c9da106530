"""Notebooks and scripts read what the program and a server say, and the examples of the document run as they stand."""

import ast
import contextlib
import inspect
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import streamtrans
from streamtrans.audio import read_audio
from streamtrans.cli import main
from streamtrans.client import Denied, StreamOptions, TranslationClient, Unavailable, Unsupported
from streamtrans.core import BadAudio, BadConfig, BadModel, Caption, CaptionChoice, UnsupportedLanguage
from streamtrans.server import ServerConfig
from streamtrans.server.keys import add_key

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M | re.S)
TWO_SENTENCES_S = 8.0


@pytest.fixture
def folder(tmp_path):
    """Two sentences of the bundled recording, where the program runs."""
    whole = read_audio(ROOT / "streamtrans" / "demo" / "speech.flac")
    soundfile.write(tmp_path / "talk.wav", whole[: round(TWO_SENTENCES_S * 16_000)], 16_000)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def server():
    with streamtrans.serving() as server:
        yield server


async def run(example):
    """Run a cell of a notebook."""
    code = compile(example, "python.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.iscoroutine(done := eval(code, {"__name__": "cell"})):
        await done


def test_importing_it_loads_nothing():
    code = "import sys, streamtrans; print(*(n for n in ('numpy', 'torch', 'grpc', 'typer') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_it_offers_is_listed_typed_and_there():
    assert set(streamtrans.__all__) <= set(dir(streamtrans))
    stub = (ROOT / "streamtrans" / "__init__.pyi").read_text(encoding="utf-8")
    assert set(re.findall(r" as (\w+)", stub)) == set(streamtrans.__all__)
    for name in streamtrans.__all__:
        assert inspect.getdoc(getattr(streamtrans, name))
    with pytest.raises(AttributeError, match="'streamtrans' has no attribute 'transcribe'"):
        streamtrans.transcribe  # noqa: B018


def test_the_examples_have_ten_lines():
    assert len(EXAMPLES) == 3
    assert all(len([line for line in each.splitlines() if line.strip()]) <= 10 for each in EXAMPLES)


async def test_the_example_of_a_recording_says_what_the_program_says(folder, capsys):
    await run(EXAMPLES[0])
    printed = capsys.readouterr().out
    written = (folder / "talk.de.srt").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["translate", "talk.wav", "--to", "de,fr", "--srt", "--txt", "--overwrite"])
    assert ended.value.code == 0
    assert (folder / "talk.de.srt").read_text(encoding="utf-8") == written != ""
    assert printed.startswith((folder / "talk.de.txt").read_text(encoding="utf-8"))
    assert "licht" in printed or "beleuchtung" in printed
    assert re.search(r"^\d+ \d+ .+ \[\('\S+', \d+\)", printed, re.M)


async def test_the_example_of_live_captions_only_grows(folder, capsys):
    await run(EXAMPLES[1])
    held = {}
    for line in capsys.readouterr().out.splitlines():
        segment, rest = line.split(" ", 1)
        committed = rest.rpartition(" [")[0]
        assert committed.startswith(held.get(segment, ""))
        held[segment] = committed
    assert list(held) == ["0", "1"]
    assert all(held.values())


async def test_the_example_of_a_server_reads_again_and_is_gone_afterwards(folder, capsys):
    await run(EXAMPLES[2])
    lines = capsys.readouterr().out.split("talk.wav ")
    assert lines[1].strip()
    assert lines[2].startswith(lines[1].strip())
    assert lines[2].strip() != lines[1].strip()
    assert not [thread for thread in threading.enumerate() if thread.name == "streamtrans server"]


async def test_captions_are_those_of_a_client(folder, server):
    """Whole segments are read once, however fast they come; where captions grow, pace is part of what is read."""
    audio, whole = read_audio("talk.wav"), CaptionChoice("final")
    told = streamtrans.captions("talk.wav", "de", source="en", address=server.address, captions=whole)
    told = [(each.segment, each.text) async for each in told]
    options = StreamOptions(("de",), source_languages=("en",), mode="final")
    async with TranslationClient(server.address) as client:
        events = [event async for event in client.translate(options, audio)]
    assert told == [(event.segment, event.text) for event in events if isinstance(event, Caption)]
    assert len(told) == 2
    samples = streamtrans.captions(audio, ["de"], source="en", address=server.address, captions=whole)
    assert [(each.segment, each.text) async for each in samples] == told


def test_a_translation_knows_its_languages(folder, server):
    talk = server.translate("talk.wav", ["de", "fr"])
    assert (talk.targets, talk.duration_s, talk.notes) == (("de", "fr"), TWO_SENTENCES_S, ())
    assert {caption.language for caption in talk.captions} == {"de", "fr"}
    assert [cue.text for cue in talk.cues("de")] == talk.text("de").splitlines()
    assert talk.vtt("fr").startswith("WEBVTT\n\n00:00:0")
    assert server.translate("talk.wav", "de").text() == talk.text("de")
    for wrong in (None, "es"):
        with pytest.raises(UnsupportedLanguage, match="which language: de, fr"):
            talk.text(wrong)


def test_silence_is_told(folder, server):
    soundfile.write("still.wav", np.zeros(16_000), 16_000)
    still = server.translate("still.wav", "de")
    assert still.captions == ()
    assert still.notes == ("no speech was found: it is silent, all of its samples are zero",)


@pytest.mark.parametrize("read", [streamtrans.translate, None])
def test_what_is_wrong_is_said_with_what_would_be_right(folder, server, read):
    read = read or server.translate
    with pytest.raises(BadAudio, match=r"tolk\.wav: there is no such file"):
        read("tolk.wav", "de")
    with pytest.raises(UnsupportedLanguage, match="nano doesn't know sw; it knows en, zh, de, es, fr, it"):
        read("talk.wav", "sw")
    torn = Path("talk.wav").read_bytes()[:-40_000]
    Path("torn.wav").write_bytes(torn)
    with pytest.raises(BadAudio, match=r"^torn\.wav: the file is truncated"):
        read("torn.wav", "de")


async def test_a_server_that_is_absent_or_refuses_is_told(folder, server, tmp_path):
    async def heard(**options):
        return [each async for each in streamtrans.captions("talk.wav", **options)]

    with pytest.raises(Unavailable, match=r"no server answers at localhost:1: start one \(streamtrans serve\)"):
        await heard(to="de", address="localhost:1")
    with pytest.raises(Unsupported, match="nano doesn't know 'sw'; it knows en, zh"):
        await heard(to="sw", address=server.address)
    keys = tmp_path / "keys.toml"
    key = add_key(keys, "me", {})
    with streamtrans.serving(config=ServerConfig(port=0, keys=keys, grace_ms=0)) as guarded:
        with pytest.raises(Denied):
            await heard(to="de", address=guarded.address)
        assert await heard(to="de", address=guarded.address, key=key)


def test_a_server_that_cannot_be_leaves_nothing_behind(server):
    taken = ServerConfig(port=int(server.address.rpartition(":")[2]))
    with pytest.raises(BadConfig, match="can't listen"), streamtrans.serving(config=taken):
        pass
    with pytest.raises(BadModel, match="there is no folder /nowhere"), streamtrans.serving("/nowhere"):
        pass
    with pytest.raises(BadConfig, match="isn't running"):
        streamtrans.serving().translate("talk.wav", "de")
    assert len([thread for thread in threading.enumerate() if thread.name == "streamtrans server"]) == 1


async def test_a_server_that_goes_ends_its_streams_with_a_sentence(folder):
    with streamtrans.serving(config=ServerConfig(port=0, grace_ms=0)) as server:
        events = streamtrans.captions("talk.wav", "de", address=server.address)
        assert (await anext(events)).segment == 0
    with pytest.raises(Unavailable, match="the server is shutting down"):
        async for _ in events:
            pass
