import re

import pytest

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.text import Tokenizer, train_tokenizer
from streamtrans.text.training import MAX_TOKEN_BYTES


def test_the_same_texts_give_the_same_vocabulary(sentences):
    first, second = (train_tokenizer(iter(sentences * 2), 380, ["en", "zh"]).to_str() for _ in range(2))
    assert first == second


def test_special_tokens_come_first(sentences):
    made = train_tokenizer(sentences, 300, ["en", "zh-CN"])
    assert [made.id_to_token(i) for i in range(4)] == [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|zh|>",
    ]
    assert made.get_vocab_size() == 300


def test_every_byte_is_in_the_vocabulary_whatever_was_read():
    made = Tokenizer(train_tokenizer(["a"], 259, ["en"]))
    assert sorted(made.piece(token) for token in range(3, 259)) == [bytes([byte]) for byte in range(256)]
    assert made.decode(made.encode("ünüsual 你好 😀")) == "ünüsual 你好 😀"


def test_tokens_hold_one_word_or_four_han_characters(sentences):
    made = Tokenizer(train_tokenizer(["天地玄黄宇宙洪荒" * 3, "weltweit " * 9] * 5 + sentences * 9, 700, ["zh"]))
    pieces = [made.piece(token).decode(errors="ignore") for token in range(made.size)]
    assert max(len(made.piece(token)) for token in range(made.size)) <= MAX_TOKEN_BYTES
    assert any(len(piece) > 1 and re.fullmatch(r"[\u4e00-\u9fff]+", piece) for piece in pieces)
    assert not any(re.search(r"\w[ ]|[\u4e00-\u9fff][a-z]|[a-z][\u4e00-\u9fff]", piece) for piece in pieces)


def test_impossible_orders_are_refused(sentences):
    with pytest.raises(BadConfig, match="alone take 259"):
        train_tokenizer(sentences, 258, ["en"])
    with pytest.raises(BadConfig, match="twice"):
        train_tokenizer(sentences, 400, ["zh", "zh-CN"])
    with pytest.raises(UnsupportedLanguage, match="'xx'"):
        train_tokenizer(sentences, 400, ["xx"])
