"""The verbs ``bench segments`` and ``bench silence``, on made recordings and without a model."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.core import BadConfig


def invoke(*arguments):
    """Run a verb; a user's error comes out as it was raised."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def recordings(tmp_path):
    rng = np.random.default_rng(0)
    time = np.arange(16_000 * 3) / 16_000
    voice = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20)) * (0.6 + 0.4 * np.sin(20 * time))
    soundfile.write(tmp_path / "voice.wav", 0.1 * voice, 16_000)
    soundfile.write(tmp_path / "fan.wav", 0.01 * rng.standard_normal(16_000), 16_000)
    (tmp_path / "bounds.tsv").write_text("file\tstart_ms\tend_ms\nvoice.wav\t100\t1100\nvoice.wav\t1500\t2900\n")
    return tmp_path


def test_segments_are_compared_and_kept(recordings, tmp_path):
    speech = ("--speech", recordings, "--bounds", recordings / "bounds.tsv", "--noise", recordings / "fan.wav")
    out = invoke("bench", "segments", *speech, "--snr", "20", "--orders", 2, "--vads", "energy", "--results", tmp_path)
    assert "boundaries within ±200 ms" in out
    figures = json.loads((tmp_path / "segments.json").read_text())["figures"]
    table = figures["vads"]["energy"]
    assert list(table) == ["clean", "white 20 dB", "pink 20 dB", "fan 20 dB"]
    assert figures["stretches"] == 2
    assert table["clean"]["stretches"] == 4
    assert table["clean"]["within"] == 1.0
    assert all(each["chunks_differ"] == 0 for each in table.values())


def test_sounds_without_speech_are_counted_and_kept(recordings, tmp_path):
    sounds = ("--sounds", "silence,band,fan", "--noise", recordings / "fan.wav", "--levels=-50,-20")
    invoke("bench", "silence", *sounds, "--minutes", 0.05, "--vads", "energy", "--no-read", "--results", tmp_path)
    lines = json.loads((tmp_path / "silence.json").read_text())["figures"]["sounds"]
    assert [(line["sound"], line["level_db"]) for line in lines] == [
        ("silence", None),
        ("band", -50.0),
        ("band", -20.0),
        ("fan", -50.0),
        ("fan", -20.0),
    ]
    assert lines[0]["windows_alarm"] == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("segments", "--snr", "loud"), "--snr is 'loud'; give numbers of dB"),
        (("segments", "--vads", " , "), "--vads names nothing"),
        (("segments", "--bounds", "none.tsv"), "there is no such table"),
        (("silence", "--mode", "loud", "--no-read"), "mode is 'loud'"),
        (("silence", "--levels", "", "--no-read"), "--levels is ''"),
    ],
)
def test_what_cannot_be_measured_is_refused(recordings, arguments, problem):
    verb, *options = arguments
    if verb == "segments":
        options = ["--speech", recordings, "--bounds", recordings / "bounds.tsv", *options]
    with pytest.raises(BadConfig, match=problem):
        invoke("bench", verb, *options)
