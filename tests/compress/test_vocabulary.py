"""A cut vocabulary: any text survives, what is used keeps its spelling, and the network knows its tokens."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamtrans.compress import convert
from streamtrans.compress.vocabulary import count_tokens, cut_vocabulary
from streamtrans.core import BadConfig, BadModel, UnsupportedLanguage
from streamtrans.model.loading import load_model, read_tensors
from streamtrans.text import Tokenizer
from tests.checkpoints import TEXTS, make_whisper, write_tokenizer
from tests.compress.test_convert import LANGUAGES, SHAPE

SIZE = 290


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_tokenizer(folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def cut(whole: Tokenizer) -> tuple[Tokenizer, list[int]]:
    layout, kept = cut_vocabulary(whole, count_tokens(whole, TEXTS[:1]), SIZE, ("zh", "en"))
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(layout))), kept


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "<|" not in text))
def test_any_text_survives_a_cut(whole: Tokenizer, cut: tuple[Tokenizer, list[int]], text: str) -> None:
    assert cut[0].decode(cut[0].encode(text)) == whole.decode(whole.encode(text))


def test_texts_that_it_was_cut_for_keep_their_spelling_by_the_numbers_told(
    whole: Tokenizer, cut: tuple[Tokenizer, list[int]]
) -> None:
    tokenizer, kept = cut
    assert tokenizer.size == len(kept) <= SIZE < whole.size
    assert [kept[token] for token in tokenizer.encode(TEXTS[0])] == list(whole.encode(TEXTS[0]))
    assert all(whole.piece(old) == tokenizer.piece(new) for new, old in enumerate(kept))


def test_orders_stay_and_other_languages_go(whole: Tokenizer, cut: tuple[Tokenizer, list[int]]) -> None:
    tokenizer, kept = cut
    assert tokenizer.languages == ("zh", "en")
    for name in ("<|translate|>", "<|transcribe|>", "<|notimestamps|>"):
        number = tokenizer.special(name)
        assert number is not None
        assert kept[number] == whole.special(name)
    assert (tokenizer.special("<|de|>"), tokenizer.special("<|0.00|>")) == (None, None)
    assert (kept[tokenizer.eot], kept[tokenizer.sot]) == (whole.eot, whole.sot)


def test_no_room_and_no_language_are_named(whole: Tokenizer) -> None:
    with pytest.raises(BadConfig, match="a vocabulary of 100 is too small: bytes and special tokens alone take 263"):
        cut_vocabulary(whole, {}, 100, LANGUAGES[:2])
    with pytest.raises(UnsupportedLanguage, match="no language 'fr'"):
        cut_vocabulary(whole, {}, SIZE, ("fr",))


def test_a_converted_model_scores_its_tokens_as_the_stock_one_does(tmp_path: Path) -> None:
    (tmp_path / "whisper").mkdir()
    make_whisper(tmp_path / "whisper", **SHAPE)
    file = tmp_path / "whisper" / "generation_config.json"
    old = Tokenizer.load(tmp_path / "whisper")
    settings = json.loads(file.read_text()) | {"eos_token_id": old.eot, "suppress_tokens": [old.eot, 300]}
    file.write_text(json.dumps(settings))
    counts = convert(
        tmp_path / "whisper",
        tmp_path / "m2m",
        decoder_layers=6,
        text_encoder_layers=0,
        speculator_blocks=0,
        languages=LANGUAGES,
        vocabulary=SIZE,
        texts=TEXTS[:1],
        prompt="whisper",
    )
    assert not {"text_encoder", "speculator"} & counts.keys()
    new = Tokenizer.load(tmp_path / "m2m")
    rows = read_tensors(tmp_path / "whisper")["model.decoder.embed_tokens.weight"]
    assert torch.equal(
        read_tensors(tmp_path / "m2m")["model.decoder.embed_tokens.weight"][[new.eot, *new.encode(TEXTS[0])]],
        rows[[old.eot, *old.encode(TEXTS[0])]],
    )
    model = load_model(tmp_path / "m2m", device="cpu")
    assert [new.piece(token) for token in model.prompt("de", "en")] == [b""] * 4
    assert model.prompt("de", "en")[1:] == (
        new.language_token("de"),
        new.special("<|transcribe|>"),
        new.special("<|notimestamps|>"),
    )
    written = json.loads((tmp_path / "m2m" / "generation_config.json").read_text())
    assert (written["eos_token_id"], written["suppress_tokens"]) == (new.eot, [new.eot])


def test_a_prompt_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    (tmp_path / "whisper").mkdir()
    make_whisper(tmp_path / "whisper", **SHAPE)
    shape = {"decoder_layers": 6, "text_encoder_layers": 0, "speculator_blocks": 0, "languages": LANGUAGES}
    with pytest.raises(BadConfig, match="prompt is 'long'; use short or whisper"):
        convert(tmp_path / "whisper", tmp_path / "m2m", prompt="long", **shape)
    convert(tmp_path / "whisper", tmp_path / "m2m", prompt="whisper", **shape)
    file = tmp_path / "m2m" / "config.json"
    for wrong in (["<|transcribe|>"], "<|{target}|>", ["<|{target}|>", "<|sing|>"]):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"prompt": wrong}))
        with pytest.raises(BadModel, match="prompt"):
            load_model(tmp_path / "m2m", device="cpu")
