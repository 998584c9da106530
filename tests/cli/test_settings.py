"""One file of settings: the same names, the same checks, and the command line wins."""

import subprocess
import sys

import pytest
import typer

import streamtrans.cli.serve
from streamtrans.cli.app import load_verb
from streamtrans.core import BadConfig, CaptionChoice
from streamtrans.segment import EndpointRules
from streamtrans.server import ServerConfig


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Run ``streamtrans serve`` up to where it would listen; return its settings and what would be loaded."""
    seen = []

    async def run(config, make, **_):
        seen.append(config)
        make()

    monkeypatch.setattr("streamtrans.server.serve", run)
    monkeypatch.setattr(streamtrans.cli.serve, "load", lambda choice, slots: seen.extend((choice, slots)))
    monkeypatch.setattr(streamtrans.cli.serve, "origin_of", lambda *_: None)
    monkeypatch.setattr("streamtrans.server.offer.what_is_served", lambda *_: None)

    def start(text, *arguments):
        seen.clear()
        path = tmp_path / "streamtrans.toml"
        path.write_text(text, encoding="utf-8")
        load_verb("serve").main(["--config", str(path), *arguments], standalone_mode=False)
        return seen

    return start


def test_options_and_fields_come_from_the_file(started):
    config, choice, slots = started(
        """
        port = 1234
        max_sessions = 7
        device = "cpu"
        drafter = "echo"
        slots = 5
        retry_after_ms = 250
        pace = "refuse"
        max_messages_per_s = 100
        [limits]
        idle_ms = 9000
        [session]
        reading_interval_ms = 640
        [session.endpoints]
        min_silence_ms = 700
        """
    )
    assert (config.port, config.max_sessions, config.retry_after_ms, config.pace) == (1234, 7, 250, "refuse")
    assert config.max_messages_per_s == 100.0
    assert config.limits.idle_ms == 9_000
    assert config.session.reading_interval_ms == 640
    assert config.session.endpoints == EndpointRules(min_silence_ms=700)
    assert (choice.device, choice.drafter, slots) == ("cpu", "echo", 5)
    assert config.grace_ms == ServerConfig().grace_ms


def test_the_command_line_wins(started):
    config, choice, _ = started('port = 1234\nvad = "webrtc"\nhost = "::1"', "--port", "99", "--vad", "energy")
    assert (config.port, config.host, choice.vad) == (99, "::1", "energy")


def test_what_calls_get_that_do_not_say_comes_from_the_file_too(started):
    text = 'mode = "stable"\nlatency_budget = 1500\nmin_silence = 700\nmax_segment = 8000\nerasure_budget = 0'
    assert started(text)[0].captions == CaptionChoice("stable", 0.0, 1500, 700, 8000)
    assert started(text, "--mode", "final", "--min-silence", "300")[0].captions == CaptionChoice(
        "final", 0, 1500, 300, 8000
    )
    assert started("")[0].captions == CaptionChoice("live")


def test_paths_are_paths_and_encryption_needs_both_files(started, tmp_path):
    config, *_ = started(f"record = '{tmp_path / 'kept'}'\ntls_cert = 'a.pem'\ntls_key = 'b.pem'")
    assert (tmp_path / "kept").is_dir()
    assert config.record == tmp_path / "kept"
    assert str(config.tls.certificate) == "a.pem"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prot = 1", "has prot, which is no setting; did you mean port?"),
        ("max-sessions = 1", "has max-sessions, which is no setting; did you mean max_sessions?"),
        ("wibble = 1", "has wibble, which is no setting; known are "),
        ("config = 'x'", "has config, which is no setting"),
        ("[limits]\nidel_ms = 1", "has limits.idel_ms, which is no setting; did you mean limits.idle_ms?"),
        ("[session.endpoints]\nmin_silense_ms = 1", "did you mean session.endpoints.min_silence_ms?"),
        ("[session]\nmode = 'final'", "session.mode is for callers to choose"),
        ("session = 3", "session is 3, and should be an object"),
        ("port = 'x'", "port is 'x', and should be a whole number"),
        ("port = 1.5", "port is 1.5, and should be a whole number"),
        ("port = true", "port is True, and should be a whole number"),
        ("min_silence_ms = 3", "did you mean min_silence?"),
        ("captions = 3", "has captions, which is no setting"),
        ("latency_budget = 1.5", "latency_budget is 1.5, and should be"),
        ("host = 3", "host is 3, and should be a text"),
        ("pace = 'fast'", "pace is 'fast', and should be one of flow, refuse"),
        ("retry_after_ms = 0", "retry_after_ms is 0; use at least 1"),
        ("[session]\nreading_interval_ms = 1", "reading_interval_ms is 1; use 20 or more"),
        ("port = ", "are no TOML"),
    ],
)
def test_what_is_wrong_is_told_by_name(started, text, problem):
    with pytest.raises(BadConfig) as caught:
        started(text)
    assert problem in str(caught.value)


def test_values_out_of_range_are_refused_as_on_the_command_line(started):
    with pytest.raises(typer.BadParameter, match="65535"):
        started("port = 70000")


def test_a_file_that_is_not_there_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "streamtrans", "serve", "--config", "nowhere.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: the settings nowhere.toml can't be read: No such file or directory\n"


def test_bounds_of_the_load_are_a_table_of_the_file(started):
    config = started("signers = 'none.toml'\ntraces = 'http://c:4318'\n[load]\nmax_lag_ms = 700\nmost_busy = 0.7")[0]
    assert (config.load.max_lag_ms, config.load.most_busy, config.load.calm_ms) == (700, 0.7, 10_000)
    assert (str(config.signers), config.traces) == ("none.toml", "http://c:4318")
    with pytest.raises(BadConfig, match=r"load\.max_lag, which is no setting; did you mean load\.max_lag_ms"):
        started("[load]\nmax_lag = 700")
    with pytest.raises(BadConfig, match=r"load\.most_busy is 7"):
        started("[load]\nmost_busy = 7.0")
