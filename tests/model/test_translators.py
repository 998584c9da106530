"""Translators of texts compute what transformers computes, on tiny random checkpoints of each family."""

import json
import shutil
from dataclasses import dataclass

import pytest
import torch

from streamtrans.core import BadAnswer, BadModel, UnsupportedLanguage
from streamtrans.decode import converse, greedy
from streamtrans.model.api import Forward, Written
from streamtrans.model.loading import TRANSLATORS, load_model, load_speech, load_translator
from streamtrans.text import Pieces, articles
from tests.checkpoints import make_whisper
from tests.translators import make_m2m, make_marian, make_nllb

SHAPE = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 40}
SHAPE |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
TEXT = "All human beings are born free"
OTHER = articles()["en"].split(".")[0]


@dataclass
class Family:
    """How transformers asks for a translation: source tokens, and what the decoder begins with."""

    make: object
    pairs: tuple[tuple[str, str], ...]
    ask: object

    def __call__(self, tokenizer, text, source, target):
        return self.ask(tokenizer, text, source, target)


def ask_m2m(tokenizer, text, source, target):
    tokenizer.src_lang = source
    return tokenizer(text).input_ids, [2, tokenizer.get_lang_id(target)]


def ask_small(tokenizer, text, source, target):
    tokenizer.src_lang = target  # the code before the text is the target's
    return tokenizer(text).input_ids, [2]


NAMES = {"en": "eng_Latn", "de": "deu_Latn", "zh": "zho_Hans", "yue": "yue_Hant", "sr": "srp_Cyrl", "ko": "kor_Hang"}


def ask_nllb(tokenizer, text, source, target):
    tokenizer.src_lang = NAMES[source]
    return tokenizer(text).input_ids, [2, tokenizer.convert_tokens_to_ids(NAMES[target])]


def ask_marian(tokenizer, text, source, target):
    asked = f">>{target}<< {text}" if ">>fr<<" in tokenizer.get_vocab() else text
    return tokenizer(asked).input_ids, [tokenizer.pad_token_id]


FAMILIES = {
    "m2m": Family(make_m2m, (("en", "de"), ("zh", "en"), ("de", "en")), ask_m2m),
    "small": Family(lambda folder: make_m2m(folder, small=True), (("en", "de"), ("zh", "en")), ask_small),
    "nllb": Family(make_nllb, (("en", "de"), ("zh", "sr"), ("ko", "yue")), ask_nllb),
    "marian": Family(make_marian, (("en", "de"),), ask_marian),
    "marian, several": Family(
        lambda folder: make_marian(folder, targets=("fr", "es")), (("en", "fr"), ("en", "es")), ask_marian
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("translator") / "folder"
    made = FAMILIES[request.param]
    reference, tokenizer = made.make(folder)
    return made, folder, reference, tokenizer


@pytest.fixture(scope="module")
def exact(family):
    return load_translator(family[1], dtype="float64")


def scores_of(model):
    """Keep the logits of every pass of ``model``."""
    seen, score = [], model._score

    def keep(rows):
        hidden, logits = score(rows)
        seen.append(logits.clone())
        return hidden, logits

    model._score = keep
    return seen


def test_every_family_in_the_table_is_tested():
    assert set(TRANSLATORS) == {"m2m_100", "marian", "llama"}  # the last in test_chat_translators.py


def test_logits_equal_transformers_in_prefill_and_step_by_step(family):
    made, folder, reference, tokenizer = family
    ours = load_translator(folder, device="cpu", dtype="float32")
    seen = scores_of(ours)
    slots = ours.allocate(1)
    for source, target in made.pairs:
        ids, start = made(tokenizer, TEXT, source, target)
        [memory] = ours.read([Written(TEXT, source, target)])
        assert list(memory.prompt) == start
        assert memory.frames == len(ids)
        line = [*start, 30, 31, 40, 55, 20, 30]
        with torch.no_grad():
            wanted = reference(torch.tensor([ids]), decoder_input_ids=torch.tensor([line])).logits[0]
        for pieces in ([line], [[token] for token in line], [line[:3], line[3:4], line[4:]]):
            seen.clear()
            cache = slots.open(memory, memory.prompt)
            for piece in pieces:
                [answer] = ours.step([Forward(tuple(piece), cache, rows=len(piece), draft=tuple(piece[1:]))])
                assert len(answer.frames) == len(piece)
            torch.testing.assert_close(torch.cat(seen), wanted, atol=1e-4, rtol=0)
            slots.release(cache)


def test_a_greedy_translation_is_the_one_of_transformers(family):
    made, folder, reference, tokenizer = family
    ours = load_translator(folder, device="cpu", dtype="float32")
    slots = ours.allocate(1)
    for source, target in made.pairs:
        ids, start = made(tokenizer, OTHER, source, target)
        never = [[token] for token in ours.scorer.rules.suppressed]
        with torch.no_grad():
            wanted = reference.generate(
                torch.tensor([ids]),
                decoder_input_ids=torch.tensor([start]),
                max_length=30,
                num_beams=1,
                do_sample=False,
                bad_words_ids=never,
                forced_eos_token_id=None,
            )[0].tolist()
        [memory] = ours.read([Written(OTHER, source, target)])
        cache = slots.open(memory, memory.prompt)
        found = converse(ours, greedy(memory.prompt, (), cache, eot=ours.eot, limit=30))
        slots.release(cache)
        assert list(found.tokens) == [token for token in wanted[len(start) :] if token != ours.eot]
        assert ours.vocabulary.decode(found.tokens).strip() == tokenizer.decode(found.tokens).strip()


def test_a_row_of_many_equals_the_row_alone(family, exact):
    made = family[0]
    texts = [Written(text, *pair) for pair in made.pairs for text in (TEXT, OTHER, "free")]
    together = exact.read(texts)
    slots = exact.allocate(2 * len(texts))
    asked = []
    for text, memory in zip(texts, together, strict=True):
        [alone] = exact.read([text])
        assert (alone.frames, alone.prompt, alone.reach) == (memory.frames, memory.prompt, memory.reach)
        for one, other in zip(alone.decoder, memory.decoder, strict=True):
            torch.testing.assert_close(one.keys, other.keys, atol=1e-10, rtol=0)
            torch.testing.assert_close(one.values, other.values, atol=1e-10, rtol=0)
        line = (*memory.prompt, *range(20, 20 + len(text.text) % 7))
        asked.append((line, slots.open(memory), slots.open(alone)))
    many = exact.step([Forward(line, cache, 1) for line, cache, _ in asked])
    for (line, _, cache), found in zip(asked, many, strict=True):
        [single] = exact.step([Forward(line, cache, 1)])
        assert (single.tokens, single.frames) == (found.tokens, found.frames)
        assert single.logprobs == pytest.approx(found.logprobs, abs=1e-9)


def test_truncation_leaves_no_trace(family, exact):
    source, target = family[0].pairs[0]
    [memory] = exact.read([Written(TEXT, source, target)])
    slots = exact.allocate(2)
    fresh, used = slots.open(memory), slots.open(memory)
    exact.step([Forward((*memory.prompt, 21, 22, 23, 24), used, 1)])
    used.truncate(len(memory.prompt))
    exact.step([Forward(memory.prompt, fresh, 1)])
    answers = [exact.step([Forward((30, 31), cache, 2, (31,))])[0] for cache in (fresh, used)]
    assert answers[0].tokens == answers[1].tokens
    assert answers[0].logprobs == pytest.approx(answers[1].logprobs, abs=1e-12)


def test_a_text_is_read_once_where_its_targets_ask_for_it_alike(tmp_path):
    make_m2m(tmp_path / "m2m")
    ours = load_translator(tmp_path / "m2m")
    read, lines = ours.network.encode, []

    def encode(tokens, real):
        lines.append(len(tokens))
        return read(tokens, real)

    ours.network.encode = encode
    ours.read([Written(TEXT, "en", target) for target in ("de", "fr", "zh")])
    assert lines == [1]


def test_what_a_token_looked_at_is_a_word_of_the_text_and_no_code(family, exact):
    source, target = family[0].pairs[0]
    [memory] = exact.read([Written(TEXT, source, target)])
    assert max(memory.reach) == len(TEXT)
    assert memory.reach[-1] == 0
    [answer] = exact.step([Forward((*memory.prompt, 21, 22, 23), exact.allocate(1).open(memory), 1)])
    assert all(memory.reach[frame] > 0 for frame in answer.frames)
    assert len(answer.frames) == len(memory.prompt) + 3


def test_who_is_asked_for_a_language_that_he_does_not_know_says_so(family, exact):
    made = family[0]
    source, target = made.pairs[0]
    assert target in exact.targets(source)
    assert source not in exact.targets(source)
    assert exact.targets("la") == ()
    for wrong in ((source, "la"), ("la", target)):
        with pytest.raises(UnsupportedLanguage, match="no la"):
            exact.check(wrong[1], wrong[0])
        with pytest.raises(UnsupportedLanguage, match="no la"):
            exact.read([Written(TEXT, *wrong)])


def test_of_several_dialects_the_one_of_the_language_itself_is_asked_for_and_else_the_first(tmp_path):
    make_marian(tmp_path / "marian", targets=("fr", "es"))
    file = tmp_path / "marian" / "vocab.json"
    names = list(json.loads(file.read_text()))
    first, second, third = (f">>{tag}<<" for tag in ("pt_BR", "pt_PT", "es_VE"))
    for name, token in ((first, 10), (second, 11), (third, 12)):
        names[token] = name
    file.write_text(json.dumps({name: token for token, name in enumerate(names)}))
    ours = load_translator(tmp_path / "marian")
    for language, asked in (("es", ">>es<<"), ("fr", ">>fr<<"), ("pt", first)):
        assert ours._ask(language, "en").before == (names.index(asked),)


def test_a_text_that_is_too_long_is_refused(family, exact):
    with pytest.raises(BadAnswer, match="reads 96"):
        exact.read([Written(TEXT * 40, *family[0].pairs[0])])


def test_a_recording_holds_all_that_is_needed_to_spell(family, exact):
    tokens = exact.vocabulary.encode(TEXT)
    again = Pieces.of(json.loads(exact.vocabulary.layout()), origin="recording")
    assert again.decode(tokens) == exact.vocabulary.decode(tokens)
    assert again.decode(range(exact.vocabulary.size)) == exact.vocabulary.decode(range(exact.vocabulary.size))


@pytest.fixture
def copied(family, tmp_path):
    return shutil.copytree(family[1], tmp_path / "broken")


def changed(folder, file, **values):
    path = folder / file
    said = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (said | values).items() if value is not None}))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"d_model": None}, "lacks d_model"),
        ({"d_model": 30}, "30 does not divide"),
        ({"decoder_layers": "two"}, "decoder_layers is 'two'"),
        ({"decoder_layers": 3}, "don't fit config.json"),
        ({"activation_function": "tanh"}, "activation_function is 'tanh'"),
        ({"vocab_size": 10}, "10"),
        ({"model_type": "t5"}, "t5"),
        ({"scale_embedding": "yes"}, "scale_embedding is 'yes'"),
        ({"decoder_start_token_id": "x"}, "decoder_start_token_id"),
        ({"decoder_start_token_id": 9_999}, "decoder_start_token_id"),
        ({"decoder_start_token_id": -1}, "decoder_start_token_id"),
    ],
)
def test_a_broken_config_is_refused_by_name(copied, values, told):
    changed(copied, "config.json", **values)
    with pytest.raises(BadModel, match=told):
        load_translator(copied)


def test_a_folder_that_lacks_a_file_is_refused_by_name(copied):
    for file in ("sentencepiece.bpe.model", "target.spm", "vocab.json", "tokenizer.json", "model.safetensors"):
        if (copied / file).exists():
            kept = (copied / file).read_bytes()
            (copied / file).unlink()
            with pytest.raises(BadModel, match=file):
                load_translator(copied)
            (copied / file).write_bytes(b"nonsense")
            with pytest.raises(BadModel, match=file):
                load_translator(copied)
            (copied / file).write_bytes(kept)
    load_translator(copied)


def test_ear_and_translator_are_not_taken_for_each_other(tmp_path):
    (tmp_path / "ear").mkdir()
    make_whisper(tmp_path / "ear", **SHAPE)
    make_m2m(tmp_path / "m2m")
    for load in (load_speech, load_model):
        with pytest.raises(BadModel, match="give it with --translator"):
            load(tmp_path / "m2m")
    with pytest.raises(BadModel, match="give it with --model"):
        load_translator(tmp_path / "ear")
