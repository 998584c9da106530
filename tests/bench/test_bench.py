"""The verbs ``bench`` and ``evaluate``, on a tiny random model."""

import json
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from streamtrans.bench import realtime
from streamtrans.bench.server import Wish
from streamtrans.bench.size import folder_mb, wheel_figures
from streamtrans.bench.talk import talk as real_talk
from streamtrans.cli.app import app
from streamtrans.core import BadConfig, BadModel
from streamtrans.runtime import ModelChoice, weights_sha256

HEADER = "id\tscenario\tentities\ten\tde\tzh"
ROW = "turn on the light\tmach das licht an\t打开厨房的灯"


def invoke(*arguments):
    """Run a verb; a user's error comes out as it was raised."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def tables(tmp_path):
    rows = "\n".join(f"{number}\tiot\tnone\t{ROW}" for number in range(4))
    (tmp_path / "massive_dev.tsv").write_text(f"{HEADER}\n{rows}\n", encoding="utf-8")
    return tmp_path


def test_evaluate_prints_and_keeps_what_it_measured(tiny, tables, tmp_path):
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    texts, results = tmp_path / "new" / "texts.tsv", tmp_path / "results"
    arguments = ("evaluate", "--tables", tables, "--model", tiny, "--rows", 2, "--sources", "en,de")
    more = ("--texts", texts, "--results", results, "--json")
    printed = json.loads(invoke(*arguments, *more))
    assert printed["model"] == {"name": tiny.name, "sha256": weights_sha256(tiny)}
    assert set(printed["bleu"]) == {"en", "de"}
    assert set(printed["bleu"]["en"]) == {"de", "zh"}
    assert printed["utterances"] == 4
    assert 0 < printed["passes_per_token"] <= 1
    assert printed["machine"]["cpu"]
    kept = json.loads((results / "dev.json").read_text(encoding="utf-8"))
    assert kept["figures"]["bleu"] == printed["bleu"]
    lines = texts.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 4 * 3
    assert {line.count("\t") for line in lines} == {4}
    table = invoke(*arguments, "--targets", "en,zh", "--recheck", 0)
    assert "BLEU from row to column" in table
    assert "drafts accepted" in table


def test_decode_compares_side_by_side(tiny, tables, tmp_path):
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    arguments = ("--tables", tables, "--model", tiny, "--rows", 1, "--from", "en", "--to", "de", "--threads", 1)
    more = ("--beside", f"pruned={tiny}", "--results", tmp_path / "results")
    printed = invoke("bench", "decode", *arguments, *more)
    assert "re-read every 500 ms" in printed
    figures = json.loads((tmp_path / "results" / "decode.json").read_text())["figures"]
    assert {"none", "kvspn", "kvspn k=inf", "kvspn adaptive", "kvspn beam 3", "pruned"} <= set(figures["ways"])
    assert set(figures["models"]) == {"base", "pruned"}
    rows = [line["row"] for line in figures["tables"]["methods"]]
    assert rows[:3] == ["base (12 layers)", "pruned to 8 layers", "KVSPN, no validation"]
    assert set(figures["rereading"]) == {"none", "echo", "echo,kvspn adaptive"}
    assert figures["ways"]["kvspn"]["equal"] == figures["ways"]["pruned"]["equal"] == 1


def test_size_counts_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(bytes(30_000))
    assert folder_mb(tmp_path / "a") == 0.03
    assert folder_mb(tmp_path / "nothing") is None
    with pytest.raises(BadConfig, match=r"no pyproject\.toml"):
        wheel_figures(tmp_path)


def test_a_wheel_is_built_and_looked_into(tmp_path):
    pytest.importorskip("hatchling", reason="building without the network needs the backend here")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "tiny"\nversion = "1"\n'
    )
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "__init__.py").write_text(f"NOISE = {os.urandom(20_000).hex()!r}\n")
    figures = wheel_figures(tmp_path)
    assert figures["wheel"] == "tiny-1-py2.py3-none-any.whl"
    assert next(iter(figures["largest"])) == "tiny/__init__.py"
    assert figures["wheel_mb"] > 0.01
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 1\n")
    with pytest.raises(BadConfig, match="can't be built"):
        wheel_figures(tmp_path)


def test_one_speaker_gets_one_core_and_more_get_all():
    one, many = realtime.cases([1, 8], None)
    assert (one.streams, one.cores, one.threads) == (1, 1, None)
    assert many.streams == 8
    assert many.cores >= 1
    assert [case.threads for case in realtime.cases([1, 8], 1)] == [1, 1]


def test_a_wish_survives_its_way_to_the_server():
    wish = Wish(ModelChoice(model="here", threads=2, top_k="inf"), slots=4, sessions=2, cores=1)
    assert Wish.read(wish.text()) == wish


def test_every_speaker_says_something_else(monkeypatch, tmp_path):
    def mute(*_, **__):
        raise BadConfig("no voice")

    monkeypatch.setattr(realtime, "talk", mute)
    first, second = realtime.speeches(2, 3)
    assert len(first) == len(second) == 48_000
    assert not np.array_equal(first, second)
    monkeypatch.setattr(realtime, "DEMO", tmp_path / "none.flac")
    with pytest.raises(BadConfig, match=r"nothing to play.*no voice"):
        realtime.speeches(1, 3)
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    monkeypatch.setattr(realtime, "talk", real_talk)
    assert [len(speech) for speech in realtime.speeches(2, 3)] == [48_000] * 2


def test_who_is_silent_has_an_open_microphone():
    one, two = realtime.hush(2, 3)
    assert len(one) == len(two) == 48_000
    assert not np.array_equal(one, two)
    assert 10 * np.log10(np.mean(np.square(one))) == pytest.approx(-60, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "problem"),
    [
        (("realtime", "--streams", "1,x"), BadConfig, "--streams is '1,x'"),
        (("realtime", "--mode", "lively"), BadConfig, "mode is 'lively'"),
        (("decode", "--tables", "nowhere"), BadConfig, "no table at nowhere"),
        (("startup", "--vad", "ears"), BadConfig, "ears"),
        (("startup", "--model", "nowhere"), BadModel, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny, arguments, error, problem):
    model = () if "--model" in arguments else ("--model", tiny)
    with pytest.raises(error, match=problem):
        invoke("bench", *arguments, *model)


@pytest.mark.slow
def test_a_server_is_measured_in_real_time(tmp_path):
    # The embedded model: what random weights say at last is a loop, now and then, and left out.
    arguments = ("--streams", "2", "--seconds", 3, "--to", "de")
    printed = invoke("bench", "realtime", *arguments, "--results", tmp_path)
    assert "real_time_factor" in printed
    [case] = json.loads((tmp_path / "realtime.json").read_text())["figures"]["cases"]
    assert case["streams"] == 2
    assert case["audio_s"] == pytest.approx(6, abs=0.01)
    assert case["segments"] >= 2
    delays = case["delays_ms"]
    assert delays.keys() == {"first partial", "partial", "commit", "final"}
    assert all(figures.keys() == {"p50", "p90", "p95", "p99"} for figures in delays.values())
    assert case["real_time_factor"] > 0
    assert case["peak_rss_mb"] > 50


@pytest.mark.slow
def test_the_largest_number_of_speakers_is_looked_for_up_to_what_was_said(tiny, tmp_path):
    arguments = ("--largest", "--most", 2, "--seconds", 2, "--to", "de", "--model", tiny, "--vad", "energy")
    printed = invoke("bench", "realtime", *arguments, "--results", tmp_path)
    assert "the largest number of speakers whose p95 lag stays under 1000 ms:" in printed
    figures = json.loads((tmp_path / "realtime.json").read_text())["figures"]
    fits = [case["streams"] for case in figures["cases"] if case["lag_p95_worst_stream_ms"] < 1_000]
    assert figures["largest"] == max(fits, default=0)


@pytest.mark.slow
def test_a_start_is_timed(tiny, tmp_path):
    invoke("bench", "startup", "--runs", 1, "--model", tiny, "--vad", "energy", "--results", tmp_path)
    figures = json.loads((tmp_path / "startup.json").read_text())["figures"]
    assert figures["runs"][0]["ready_s"] == figures["slowest_s"] > 0
