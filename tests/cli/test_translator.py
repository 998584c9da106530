"""A translator of texts behind what hears: translate, record and replay know it; what is wrong with it is named."""

import builtins
import json

import pytest
import soundfile

from streamtrans.cli.demo import RECORDING
from tests.translators import make_m2m

FAST = ("--vad", "energy", "--threads", "1", "--guard", "off")  # random translators write no language


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A tiny random M2M-100."""
    folder = tmp_path_factory.mktemp("models") / "m2m"
    make_m2m(folder)
    return folder


@pytest.fixture(autouse=True)
def talk(tmp_path, monkeypatch):
    """A sentence of the recording in the package, which the embedded model understands."""
    samples, rate = soundfile.read(RECORDING, stop=4 * 16_000)
    soundfile.write(tmp_path / "talk.wav", samples, rate)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def translate(run, translator):
    return lambda *options: run("translate", "talk.wav", "--translator", translator, *FAST, *options)


def test_a_recording_is_translated_by_two_models(translate):
    status, out, _ = translate("--to", "de,ru,en", "--from", "en", "--json")
    assert status == 0
    captions = json.loads(out)["captions"]
    assert {caption["language"] for caption in captions} == {"de", "ru", "en"}
    assert all(caption["text"] for caption in captions)
    alone = json.loads(translate("--to", "ru", "--from", "en", "--json")[1])["captions"]
    assert alone == [caption for caption in captions if caption["language"] == "ru"]
    grown = json.loads(translate("--to", "ru,de", "--from", "en", "--json", "--grow")[1])["captions"]
    assert grown


def test_what_two_models_said_is_recorded_and_comes_again(run, checkpoint, translator):
    asked = ("--to", "de,ru", "--from", "en", "--translator", translator)
    status, said, _ = run("record", "t.stsession", "talk.wav", *asked, *FAST)
    assert status == 0
    assert len(said.splitlines()) == 2
    for how in ((), ("--answers",)):
        status, out, err = run("replay", "t.stsession", *how)
        assert (status, err) == (0, "")
        assert "the same bit for bit" in out
    status, _, err = run("replay", "t.stsession", "--translator", checkpoint)
    assert status
    assert "is another model" in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--to", "de"), "name one source language"),
        (("--to", "la", "--from", "en"), "doesn't know la"),
        (("--to", "de", "--from", "fi"), "no language 'fi'"),
        (("--to", "de", "--from", "en", "--translator", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_what_the_two_cannot_do_is_told(translate, options, told):
    status, _, err = translate(*options)
    assert status
    assert told in err


def test_an_ear_is_no_translator(run, checkpoint, translator):
    talk = ("translate", "talk.wav", "--to", "de", "--from", "en", *FAST)
    status, _, err = run(*talk, "--translator", checkpoint)
    assert status
    assert "give it with --model" in err
    status, _, err = run(*talk, "--model", translator)
    assert status
    assert "give it with --translator" in err


def test_the_package_that_is_missing_is_named_with_its_extra(translate, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "sentencepiece":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    status, _, err = translate("--to", "de", "--from", "en")
    assert status
    assert "pip install sentencepiece" in err
    assert ".[translators]" in err
