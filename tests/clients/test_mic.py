import asyncio
import os
import signal
import socket
import sys
import threading
from dataclasses import replace

import pytest
from streamtrans_clients import mic, options

from streamtrans.client import CaptionChoice, Denied, Summary, Unavailable
from streamtrans.server import Tls as ServerTls
from streamtrans.server.keys import add_key
from streamtrans.stream import Setting, Settings
from tests.clients import conftest


@pytest.fixture
def run(capsys):
    def call(*arguments):
        status = 0
        try:
            mic.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return call


def wishes(*arguments):
    return mic.parser().parse_args([str(argument) for argument in arguments])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_no_server_says_how_to_start_one(run, talk):
    status, out, err = run("--file", talk, "--server", f"127.0.0.1:{free_port()}")
    assert (status, out) == (2, "")
    assert err.startswith("error: 127.0.0.1:")
    assert "streamtrans serve" in err


async def test_a_server_that_still_loads_is_waited_for(running, talk, capsys):
    go = threading.Event()
    asyncio.get_running_loop().call_later(0.5, go.set)
    async with running(loaded=go) as address:
        summary = await mic._listen(wishes("--file", talk, "--to", "de", "--server", address))
    out, err = capsys.readouterr()
    assert err.startswith(f"{address} isn't ready (the model is not warm yet); waiting …\n")
    assert out.startswith("00:00 de ")
    assert summary.segments == 1


async def test_a_server_is_reached_over_a_websocket_by_the_same_option(running, talk, capsys):
    async with running(http_port=0) as address:
        summary = await mic._listen(wishes("--file", talk, "--to", "de", "--server", address))
    assert capsys.readouterr().out.startswith("00:00 de ")
    assert summary.segments == 1


def test_an_address_that_is_none_is_an_error_in_words(run, talk):
    status, _, err = run("--file", talk, "--server", "https://talks.example")
    assert status == 2
    assert "write wss://" in err


def test_help_teaches(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "streamtrans-mic --to de,fr" in out


async def test_repeated_options_add_up_and_auto_is_any(running, talk):
    async with running() as address:
        said = wishes("--file", talk, "--to", "de", "--to", "zh,en", "--from", "auto", "--server", address)
        asked = options.wishes(said)
    assert (asked.targets, asked.source_languages) == (("de", "zh", "en"), ())
    assert options.wishes(wishes()).targets == ("en",)


def test_what_is_said_of_captions_reaches_the_server_and_what_is_not_is_left_to_it(run):
    said = ("--mode", "stable", "--erasure-budget", "0.2", "--latency-budget", "1500")
    asked = options.wishes(wishes(*said, "--min-silence", "700", "--max-segment", "8000"))
    assert asked.captions == CaptionChoice("stable", 0.2, 1500, 700, 8000)
    assert options.wishes(wishes()).captions == CaptionChoice()
    status, _, err = run("--max-segment", "0")
    assert status == 2
    assert "--max-segment is 0; give milliseconds, such as 1500" in err


async def test_a_file_is_played_and_its_final_captions_printed(running, talk, capsys):
    async with running() as address:
        summary = await mic._listen(wishes("--file", talk, "--to", "de,zh", "--server", address))
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines] == ["00:00 de ", "00:00 zh "]
    assert lines[0].split()[2:4] == ["w0", "w1"]
    assert summary.segments == 1


async def test_which_setting_makes_the_captions_is_told(running, talk, capsys, monkeypatch):
    row = Setting("calm", "live", "agreement", 2, 0.2, 0, 160, 160, erasure=0.12, latency_ms=1_450, bleu_loss=0.3)
    measured = replace(conftest.served(), settings=Settings([row]))
    monkeypatch.setattr(conftest, "served", lambda: measured)
    async with running() as address:
        await mic._listen(wishes("--file", talk, "--to", "de", "--server", address, "--erasure-budget", "0.2"))
    said = capsys.readouterr().err
    assert "live captions of toy: 0.12 words taken back per word and settled after 1.4 s, on average" in said


async def test_a_server_that_asks_for_a_certificate_is_shown_one(running, talk, certificate, capsys):
    cert, key = certificate
    async with running(tls=ServerTls(cert, key, client_roots=cert)) as address:
        shared = ("--file", talk, "--to", "de", "--server", address, "--tls", cert)
        summary = await mic._listen(wishes(*shared, "--tls-cert", cert, "--tls-key", key))
        with pytest.raises(Unavailable):
            await mic._listen(wishes(*shared))
    assert summary.segments == 1
    assert capsys.readouterr().out.startswith("00:00 de ")


def test_half_a_client_certificate_is_refused(run, tmp_path):
    for option in ("--tls-cert", "--tls-key"):
        status, _, err = run(option, tmp_path / "x.pem")
        assert status == 2
        assert "needs both --tls-cert and --tls-key" in err


def test_a_missing_certificate_is_named(run, tmp_path):
    status, _, err = run("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    assert status == 2
    assert err.startswith("error: ")
    assert "key.pem" in err


async def test_ctrl_c_ends_the_sound_and_awaits_the_captions(running, talk, capsys):
    async with running() as address:
        asyncio.get_running_loop().call_later(0.6, os.kill, os.getpid(), signal.SIGINT)
        summary = await mic._listen(wishes("--file", talk, "--to", "de", "--server", address))
    assert 300 <= summary.audio_ms < 1_100
    assert "00:00 de" in capsys.readouterr().out


async def test_a_second_ctrl_c_ends_at_once():
    stop = asyncio.Event()
    handler = options.stopper(asyncio.get_running_loop(), stop)
    handler(signal.SIGINT, None)
    await asyncio.sleep(0.01)
    assert stop.is_set()
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)


def test_no_sound_library_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    status, _, err = run("--list-devices")
    assert status == 2
    assert err.startswith("error: ")
    assert "pip install sounddevice" in err


def test_the_summary_says_what_a_viewer_noticed():
    line = mic._summary_line(
        Summary(audio_ms=12_345, segments=3, withdrawn=7, first_caption_p50_ms=600, lag_p50_ms=80, lag_p95_ms=120)
    )
    assert "12.3 s" in line
    assert "3 segments" in line
    assert "600 ms" in line
    assert "p95 120 ms" in line
    assert "7 characters" in line


async def test_a_key_comes_from_a_file(running, talk, tmp_path, capsys):
    add_key(tmp_path / "keys.toml", "mic", {})
    (tmp_path / "mic.key").write_text(add_key(tmp_path / "keys.toml", "hall", {}) + "\n", encoding="utf-8")
    async with running(keys=tmp_path / "keys.toml") as address:
        arguments = ("--file", talk, "--to", "de", "--server", address)
        with pytest.raises(Denied, match="a key that it knows") as caught:
            await mic._listen(wishes(*arguments))
        assert options.explained(caught.value, address).endswith("; here it comes from a file: --key FILE")
        summary = await mic._listen(wishes(*arguments, "--key", tmp_path / "mic.key"))
    assert summary.segments == 1


@pytest.mark.parametrize("text", ["", "two words", "two\nlines", "ключ"])
def test_a_file_without_a_key_is_one_line(run, talk, tmp_path, text):
    path = tmp_path / "mic.key"
    path.write_text(text, encoding="utf-8")
    status, _, err = run("--file", talk, "--key", path)
    assert status == 2
    assert err == f"error: {path} holds no key: it is one line, as `streamtrans key` prints it\n"
