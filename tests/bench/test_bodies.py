"""The table of bodies, on tiny weights: an encoder-decoder and a decoder alone, each with a KVSPN."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.core import BadConfig
from tests.audio_models import make_drafting_stacked
from tests.checkpoints import make_whisper_m2m


@pytest.fixture
def folder(tmp_path):
    """Return a folder with both models and a manifest of recordings."""
    (tmp_path / "attending").mkdir()
    make_whisper_m2m(tmp_path / "attending", decoder_layers=2)
    make_drafting_stacked(tmp_path / "reading")
    lines = ["audio\tlanguage\ten\tde"]
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 0.1, 9_000 + 4_000 * number)
        soundfile.write(tmp_path / f"{number}.wav", noise, 16_000)
        lines.append(f"{number}.wav\t{'de' if number == 3 else 'en'}\tturn it on\tmach es an")
    (tmp_path / "people.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def bench(folder, *more, bodies=("attending", "reading")):
    named = [] if "--body" in more else [f"--body={name}={folder / name}" for name in bodies]
    said = ["bench", "bodies", *named, *more, "--dtype", "float64", "--threads", "1"]
    said += ["--recordings", str(folder / "people.tsv"), "--results", str(folder / "results")]
    return CliRunner().invoke(app, said, catch_exceptions=False)


def test_what_a_model_hears_and_does_not_write_is_not_told(folder):
    for name in ("attending", "reading"):
        file = folder / name / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"languages": ["de", "zh"]}))
    done = bench(folder, "--from", "en", "--to", "de")
    assert done.exit_code == 0, done.output
    figures = json.loads((folder / "results" / "bodies.json").read_text())["figures"]
    assert all(body["kvspn"]["equal"] == 1 for body in figures["bodies"].values())


def test_each_body_is_measured_against_itself(folder):
    done = bench(folder, "--from", "en", "--to", "en,de")
    assert done.exit_code == 0, done.output
    figures = json.loads((folder / "results" / "bodies.json").read_text())["figures"]
    assert (figures["rows"], figures["targets"]) == (3, ["en", "de"])
    assert list(figures["bodies"]) == ["attending", "reading"]
    for body in figures["bodies"].values():
        alone, drafted = body["none"], body["kvspn"]
        assert (alone["passes_per_token"], alone["speed"], alone["cpu_ms_per_guess"]) == (1, 1, 0)
        assert drafted["equal"] == 1  # in float64 not a bit is lost
        assert drafted["tokens"] == alone["tokens"] > 6
        assert 0 < drafted["passes_per_token"] <= 1
        assert 0 <= drafted["acceptance"]["kvspn"] <= 1
        assert min(drafted["cpu_ms_per_guess"], drafted["cpu_ms_per_pass"], alone["cpu_ms_per_pass"]) > 0
        spent = alone["cpu_ms_per_pass"] * alone["tokens"]
        assert 0.5 * alone["cpu_ms_per_token"] * alone["tokens"] < spent <= alone["cpu_ms_per_token"] * alone["tokens"]
    table = (folder / "results" / "bodies.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == ["", "---", "attending", "reading"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--body", "reading"), "--body is 'reading'; give NAME=FOLDER"),
        (("--body", "a=x", "--body", "a=y"), "each name once"),
        (("--from", "zh"), "no recording in zh"),
        (("--from", "en", "--to", "fr"), "texts in fr"),
    ],
)
def test_what_cannot_be_measured_is_refused(folder, arguments, told):
    with pytest.raises(BadConfig, match=told):
        bench(folder, *arguments)
    with pytest.raises(BadConfig, match="name what is measured"):
        bench(folder, bodies=())
