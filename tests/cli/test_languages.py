"""What is said about languages is honoured or refused by name, never half of it."""

import contextlib
import json

import pytest

from streamtrans.cli.options import languages, spoken_language
from streamtrans.client import TranslationClient
from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.runtime import ModelChoice, load
from streamtrans.server import ServerConfig, TranslationServer
from streamtrans.server.offer import what_is_served
from tests.checkpoints import make_whisper

FAST = ("--vad", "energy", "--threads", "1", "--json")
SHAPE = {"d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}


@pytest.fixture
def translate(run, checkpoint, recordings):
    def call(*arguments):
        status, out, err = run("translate", "--model", checkpoint, *FAST, "talk.wav", *arguments)
        captions = json.loads(out)["captions"] if status == 0 else []
        return {caption["language"] for caption in captions}, err

    return call


def test_repeated_targets_add_up(translate):
    assert translate("--to", "de", "--to", "zh,en")[0] == {"de", "zh", "en"}


def test_a_language_that_is_named_twice_is_refused(translate):
    assert "--to de,de names one language twice" in translate("--to", "de", "--to", "de")[1]


@pytest.mark.parametrize("tag", ["zh-Hant", "zh-TW", "zh_hant"])
def test_traditional_characters_are_refused_and_not_quietly_simplified(translate, tag):
    captions, err = translate("--to", tag)
    assert not captions
    assert f"error: {tag!r} asks for the script Hant, which can't be chosen" in err
    assert "ask for 'zh'" in err


def test_a_region_that_gets_lost_is_told(translate):
    captions, err = translate("--to", "de-AT,zh")
    assert captions == {"de", "zh"}
    assert "note: --to de-AT is taken as de: models know no regions" in err


@pytest.mark.parametrize("tag", ["auto", "AUTO"])
def test_the_spoken_language_may_be_automatic(translate, tag):
    assert translate("--to", "de", "--from", tag)[0] == {"de"}


@pytest.mark.parametrize("given", [("--from", "en,de"), ("--from", "en", "--from", "de")])
def test_several_spoken_languages_are_refused_by_name(translate, given):
    captions, err = translate("--to", "de", *given)
    assert not captions
    assert "--from en,de names 2 languages, and one is what a model can be told" in err


def test_a_model_that_must_be_told_says_so(run, recordings, tmp_path):
    folder = tmp_path / "stock"
    folder.mkdir()
    make_whisper(folder, **SHAPE, encoder_attention_heads=2, decoder_attention_heads=2)
    status, _, err = run("translate", "--model", folder, *FAST, "talk.wav", "--to", "en", "--from", "auto")
    assert status != 0
    assert "must be told the spoken language" in err
    status, out, err = run("translate", "--model", folder, *FAST, "talk.wav", "--to", "en", "--from", "de-AT")
    assert (status, json.loads(out)["file"]) == (0, "talk.wav")


async def test_a_server_of_stock_whisper_tells_its_pairs(tmp_path):
    make_whisper(tmp_path, **SHAPE, encoder_attention_heads=2, decoder_attention_heads=2)
    loaded = load(ModelChoice(str(tmp_path), "cpu", vad="energy"))
    with contextlib.closing(loaded.engine):
        async with TranslationServer(ServerConfig(port=0), lambda: what_is_served(loaded, "energy")) as server:
            await server.ready()
            async with TranslationClient(f"127.0.0.1:{server.port}") as client:
                offered = await client.capabilities()
    assert offered.languages == ("en", "de", "zh")
    assert [offered.translates(*pair) for pair in (("de", "de"), ("de", "en"), ("de", "zh"), ("en", "de"))] == [
        True,
        True,
        False,
        False,
    ]


def test_nothing_to_write_in_is_no_language():
    for given in ("", ",", [], ["", " , "]):
        with pytest.raises(BadConfig, match="--to names no language"):
            languages(given)
    with pytest.raises(UnsupportedLanguage, match="one to write has to be named"):
        languages("auto")


def test_who_speaks_may_be_left_out():
    assert spoken_language(None) is None
    assert spoken_language(["auto"]) is None
    assert spoken_language(["zh-TW"]) == "zh"  # spoken, a script makes no difference
    assert spoken_language("iw") == "he"
    with pytest.raises(UnsupportedLanguage, match="unknown language 'xx'"):
        spoken_language(["xx"])
