import json
import unicodedata

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from streamtrans.core import BadModel, UnsupportedLanguage
from streamtrans.text import Tokenizer, segment_text
from streamtrans.text.tokenizer import byte_alphabet

TEXT = st.text(alphabet=st.one_of(st.sampled_from("ab é, '你好かไทยกี😀"), st.characters(codec="utf-8")), max_size=20)


def whisper_like():
    """A small tokenizer in the layout of the published Whisper checkpoints."""
    alphabet = list(byte_alphabet().values())
    vocab = {character: i for i, character in enumerate(alphabet)} | {"ht": 256, "Ġa": 257, "": 258}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("h", "t"), ("Ġ", "a")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|haw|>", "<|jw|>"]
    names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in [*names, "<|notimestamps|>"]])
    made.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>", special=False, normalized=False) for i in range(5)])
    made.post_processor = processors.TemplateProcessing(
        single="<|startoftranscript|> <|notimestamps|> $A <|endoftext|>",
        special_tokens=[(name, made.token_to_id(name)) for name in (*names[:2], "<|notimestamps|>")],
    )
    return made


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    whisper_like().save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def test_our_vocabulary_has_whispers_layout(tokenizer):
    assert (tokenizer.eot, tokenizer.sot) == (0, 1)
    assert tokenizer.languages == ("en", "de", "fr", "zh")
    assert [tokenizer.language_token(code) for code in ("en-GB", "de", "fr", "zh-CN")] == [2, 3, 4, 5]
    assert [tokenizer.is_special(token) for token in (0, 5, 6)] == [True, True, False]
    assert tokenizer.is_special(tokenizer.size)
    assert not tokenizer.is_special(tokenizer.size - 1)


def test_a_language_without_a_token_is_refused_by_name(tokenizer):
    with pytest.raises(UnsupportedLanguage, match=r"no language 'it' \(Italian\); it has en, de, fr, zh"):
        tokenizer.language_token("it")


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("written", [list, " ".join])
def test_a_merge_that_a_published_vocabulary_lost_is_put_back(lost: int, written) -> None:
    layout = json.loads(whisper_like().to_str())
    merges = [["Ġ", "t"], ["Ġ", "a"], ["Ġt", "h"], ["i", "n"]]
    names = list(byte_alphabet().values()) + ["".join(pair) for pair in merges]
    layout["model"]["vocab"] = {name: number for number, name in enumerate(names)}
    for at, entry in enumerate(layout["added_tokens"]):
        entry["id"] = len(names) + at
    layout["post_processor"] = None
    layout["model"]["merges"] = [written(pair) for pair in merges]
    whole = Tokenizer.of(layout, origin="whole")
    del layout["model"]["merges"][lost]
    assert Tokenizer.of(layout, origin="lost").layout() == whole.layout()
    assert [len(whole.encode(text)) for text in ("th", "a", "in", "ht")] == [1, 1, 2, 3]


def test_sentences_survive_a_round_trip(tokenizer, sentences):
    for sentence in sentences:
        tokens = tokenizer.encode(sentence)
        assert tokenizer.decode(tokens) == sentence
        assert not any(map(tokenizer.is_special, tokens))


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_any_text_survives_but_for_one_leading_space(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text.removeprefix(" ")


def test_the_first_word_is_spelt_like_the_others(tokenizer):
    assert tokenizer.encode("berlin") == tokenizer.encode("what berlin")[-len(tokenizer.encode("berlin")) :]
    assert segment_text("berlin") == " berlin"
    assert segment_text("柏林") == "柏林"
    assert segment_text("") == ""


def test_special_tokens_give_no_text(tokenizer):
    words = tokenizer.encode("wake me")
    assert tokenizer.decode((1, 2, *words, 0, tokenizer.size + 7)) == "wake me"


def test_the_name_of_a_special_token_in_a_text_is_text(tokenizer):
    tokens = tokenizer.encode("say <|de|> <|endoftext|>")
    assert not any(map(tokenizer.is_special, tokens))
    assert tokenizer.decode(tokens) == "say <|de|> <|endoftext|>"


def test_a_stock_whisper_tokenizer_loads(whisper):
    assert whisper.languages == ("en", "zh", "haw", "jv")
    assert whisper.language_token("jw") == whisper.special("<|jw|>") == 264
    assert whisper.special("<|notimestamps|>") == 270
    assert whisper.special("<|nothing|>") is None
    assert whisper.size == 276
    timestamps = range(271, 276)
    assert all(whisper.is_special(token) for token in timestamps)
    tokens = whisper.encode("a night")
    assert tokens[0] == 257
    assert 256 in tokens
    assert whisper.decode((whisper.sot, 270, 271, *tokens, 273, 258, whisper.eot)) == "a night"


def test_a_word_ends_where_the_next_begins(tokenizer):
    tokens = tokenizer.encode("wie wird das wetter xyzzy")
    texts = [tokenizer.decode(tokens[:m]) for m in range(len(tokens) + 1)]
    ends = {m for m, text in enumerate(texts) if text in ("", "wie", "wie wird", "wie wird das", "wie wird das wetter")}
    for n in range(len(tokens) + 1):
        assert tokenizer.boundary(tokens, n) == max(m for m in ends if m <= n)
    assert tokenizer.boundary(tokens, 99) == max(ends)
    assert tokenizer.boundary(tokens, 99, final=True) == len(tokens)


def test_every_whole_chinese_character_ends_a_word(tokenizer):
    text = "鑫你好"
    tokens = tokenizer.encode(text)
    assert len(tokens) > len(text)  # unseen characters are spelt in bytes
    for n in range(len(tokens)):
        m = tokenizer.boundary(tokens, n)
        assert tokenizer.decode(tokens[:m]) == tokenizer.decode(tokens[:n])
        assert b"".join(map(tokenizer.piece, tokens[:m])).decode() == tokenizer.decode(tokens[:n])


def test_a_combining_mark_is_not_torn_off(whisper):
    tokens = whisper.encode("กี่")
    assert [unicodedata.category(mark) for mark in "กี่"] == ["Lo", "Mn", "Mn"]
    assert whisper.boundary(tokens, len(tokens) - 1) == 0


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_boundaries_of_any_tokens(tokenizer, data):
    tokens = data.draw(st.lists(st.integers(0, tokenizer.size + 2), max_size=12))
    n = data.draw(st.integers(-2, 14))
    final = data.draw(st.booleans())
    m = tokenizer.boundary(tokens, n, final=final)
    assert 0 <= m <= max(0, min(n, len(tokens)))
    assert tokenizer.boundary(tokens, m, final=final) == m
    if final and n >= len(tokens):
        assert m == len(tokens)
    if not final and tokens:
        assert m < len(tokens)


def _broken(change):
    layout = json.loads(whisper_like().to_str())
    change(layout)
    return json.dumps(layout)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "not a readable"),
        ("RIFF", "not a readable"),
        ("[]", "no object"),
        ('{"model": {"type": "Unigram"}}', "of type BPE"),
        ('{"model": {"type": "BPE"}}', "vocab and merges"),
        (_broken(lambda layout: layout.update(decoder=None)), "must be ByteLevel"),
        (_broken(lambda layout: layout.update(added_tokens=[], post_processor=None)), "endoftext"),
        (_broken(lambda layout: layout["model"]["vocab"].update({"你": 400})), "no byte-level character"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BadModel, match=problem) as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
