"""A whole run of a translator at toy size: learnt, interrupted, resumed, loaded by transformers and by us, served."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.core import BadConfig
from streamtrans.model.api import Forward, Written
from streamtrans.model.loading import load_translator
from streamtrans.train.stopping import Stopped
from streamtrans.train.translator import trainer
from streamtrans.train.translator.pairs import POOL, Pair, Pairs, batches, beginning
from streamtrans.train.translator.recipe import is_translator, load_translator_recipe
from streamtrans.train.translator.vocabulary import TextVocabulary
from tests.model.test_translators import scores_of
from tests.train.translator.conftest import run

TEXT = "Everyone has the right to life ☂"


def changed(toy, folder, old, new):
    text = toy.read_text(encoding="utf-8")
    assert old in text
    recipe = folder / "changed.toml"
    recipe.write_text(text.replace(old, new), encoding="utf-8")
    return recipe


def test_transformers_and_we_load_the_folder_with_equal_logits(trained):
    reference, tokenizer = (part.from_pretrained(trained / "model") for part in (AutoModelForSeq2SeqLM, AutoTokenizer))
    ours = load_translator(trained / "model", device="cpu", dtype="float32")
    seen = scores_of(ours)
    slots = ours.allocate(1)
    for target in ("de", "fr"):
        tokenizer.src_lang = target  # as SMaLL-100 is asked
        ids = tokenizer(TEXT).input_ids
        assert tokenizer.unk_token_id not in ids  # what no piece has is read byte by byte
        [memory] = ours.read([Written(TEXT, "en", target)])
        assert (memory.prompt, memory.frames) == ((tokenizer.eos_token_id,), len(ids))
        line = (*memory.prompt, 30, 31, 40, 55, 300)
        with torch.no_grad():
            wanted = reference.eval()(torch.tensor([ids]), decoder_input_ids=torch.tensor([line])).logits[0]
        seen.clear()
        cache = slots.open(memory, memory.prompt)
        ours.step([Forward(line, cache, rows=len(line), draft=line[1:])])
        slots.release(cache)
        torch.testing.assert_close(seen[0], wanted, atol=1e-4, rtol=0)


def test_what_is_learnt_is_asked_as_what_is_served(toy, trained):
    vocabulary = TextVocabulary(trained / "model")
    ours = load_translator(trained / "model")
    [memory] = ours.read([Written(TEXT, "en", "fr")])
    question = vocabulary.question("fr", TEXT)
    assert len(question) == memory.frames
    assert (ours._ask("fr", "en").before, tuple(ours._cut(TEXT))) == (question[:1], question[1:-1])
    assert ours.vocabulary.decode(vocabulary.answer(TEXT)[:-1]).strip() == TEXT


@pytest.mark.parametrize("until", [3, 5, 11])
def test_interrupted_and_resumed_it_ends_where_the_unbroken_run_does(toy, trained, tmp_path, monkeypatch, until):
    take = trainer._Run._take_step

    def broken(self, batch):
        if self.step == until:
            raise KeyboardInterrupt
        return take(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._Run, "_take_step", broken)
        with pytest.raises((KeyboardInterrupt, Stopped)):
            run(toy, tmp_path)
    assert (tmp_path / "toy" / "state.pt").exists() == (until >= 5)
    folder = run(toy, tmp_path)
    one, other = (load_file(each / "model" / "model.safetensors") for each in (trained, folder))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_signal_stops_it_behind_the_step_that_it_takes(toy, trained, tmp_path, monkeypatch):
    take = trainer._Run._take_step

    def signalled(self, batch):
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._Run, "_take_step", signalled)
        with pytest.raises(Stopped, match="step 4 of 12 is saved"):
            run(toy, tmp_path)
    folder = run(toy, tmp_path)
    weights = [(each / "model" / "model.safetensors").read_bytes() for each in (trained, folder)]
    assert weights[0] == weights[1]


def test_the_verb_trains_and_says_what_to_serve(toy, tmp_path):
    done = CliRunner().invoke(app, ["train", str(toy), "--runs", str(tmp_path)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"the translator is {tmp_path / 'toy' / 'model'}" in done.output
    with pytest.raises(BadConfig, match="one training by one process"):
        CliRunner().invoke(app, ["train", str(toy), "--stage", "words"], catch_exceptions=False)


def test_it_learns_and_says_what_held_texts_have_become(toy, trained):
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 13))
    assert log[-1]["loss"] < log[0]["loss"]
    held = [json.loads(line) for line in (trained / "held.jsonl").read_text().splitlines()]
    assert [line["step"] for line in held] == [6, 12]
    assert set(held[-1]["held"]) == {"en-de", "en-fr"}
    assert set(held[-1]["manifest"]) == {"en-de"}
    assert set(held[-1]["held"]["en-de"]) == {"bleu", "chrf"}
    rows = (trained / "held" / "12.tsv").read_text(encoding="utf-8").splitlines()
    assert rows[0].split("\t") == ["of", "source", "target", "text", "reference", "translation"]
    assert len(rows) == 1 + len(Pairs(load_translator_recipe(toy)).held) + 1


def test_what_is_scored_is_never_learnt_from_wherever_it_stands(toy):
    pairs = Pairs(load_translator_recipe(toy))
    held = {pair.text for pair in pairs.held}
    learnt = [pair for pool in range(3) for pair in pairs.draw(pool)]
    assert held
    assert len(learnt) > 100
    assert not held & {pair.text for pair in learnt}
    assert not held & set(pairs.texts())
    assert {pair.target for pair in learnt} == {"de", "fr"}


def test_what_the_manifest_says_is_never_learnt_from_though_it_stands_in_a_table(toy, tmp_path):
    plain = load_translator_recipe(toy)
    plain = replace(plain, held=replace(plain.held, per_mille=1, manifest=""))
    pair = next(pair for pair in Pairs(plain).draw(0) if len(pair.text.split()) > 4)
    whole = next(text for text in Pairs(plain).texts() if text.startswith(pair.text))
    (tmp_path / "unheard.wav").touch()
    said = f"audio\tlanguage\ten\tde\nunheard.wav\ten\t{whole.upper()}!\tx\n"
    (tmp_path / "people.tsv").write_text(said, encoding="utf-8")
    pairs = Pairs(replace(plain, held=replace(plain.held, manifest=str(tmp_path / "people.tsv"))))
    assert [pair.text for pair in pairs.scored] == [f"{whole.upper()}!"]
    assert whole not in set(pairs.texts())
    assert not [each for pool in range(3) for each in pairs.draw(pool) if each.text == whole]


def test_batches_follow_from_the_step_and_hold_about_equally_many_tokens(toy, trained):
    pairs, vocabulary = Pairs(load_translator_recipe(toy)), TextVocabulary(trained / "model")
    first, later = (batches(pairs, vocabulary, step) for step in (0, 5))
    made = [next(first) for _ in range(POOL)]
    for batch, again in zip(made[5:], later, strict=False):
        assert torch.equal(batch.read, again.read)
        assert torch.equal(batch.labels, again.labels)
    counts = sorted(int(batch.real.sum()) + int((batch.labels >= 0).sum()) for batch in made)
    assert counts[POOL // 10] > counts[-POOL // 10] / 4
    for batch in made:
        asked = batch.labels >= 0
        assert torch.equal(batch.begun[:, 1:][asked[:, 1:]], batch.labels[:, :-1][asked[:, 1:]])
        assert set(batch.begun[:, 0].tolist()) == {vocabulary.eos}


def test_a_beginning_has_equal_shares_of_both_texts():
    pair = Pair("en", "de", "a b c d", "A B C D E F G H")
    assert beginning(pair, 0.5) == Pair("en", "de", "a b", "A B C D")
    assert beginning(pair, 0.0) == Pair("en", "de", "a", "A")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('en = ["de", "fr"]', 'en = ["en"]', "what is written of it"),
        ('en = ["de", "fr"]', 'en = ["it"]', "no row of the tables"),
        ('en = ["de", "fr"]', "en = 3", "what is written of it"),
        ('en = ["de", "fr"]', "en = [3]", "what is written of it"),
        ('en = ["de", "fr"]', 'en = "de"', "what is written of it"),
        ('[directions]\nen = ["de", "fr"]', 'directions = "x"', "what is written of it"),
        ('[directions]\nen = ["de", "fr"]', 'directions = ["x"]', "what is written of it"),
        ("heads = 2", "heads = 0", "heads is 0; give a whole number"),
        ("positions = 128", 'positions = "x"', "positions is 'x'; give a whole number"),
        ("positions = 128", "positions = 3", "positions is 3, and a text that is held out takes"),
        ("[held]", "[[held]]", "held is .*; it must be a table"),
        ("decoder_layers = 2", "decoder_layers = 3", "decoder_layers must be 1 to 2"),
        ("d_model = 32", "d_model = 30", "does not divide"),
        ("warmup = 2", "warmpu = 2", "did you mean 'warmup'"),
        ("average = 0.9", "average = 1.5", "average is a share"),
        ("per_mille = 250", "per_mille = 0", "per_mille is 1 to 500"),
        ("pieces = 420", "pieces = 90000", "pieces = 90000"),
        ('"rights*" = 1.0', '"rihgts" = 1.0', "no table rihgts"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(toy, tmp_path, old, new, told):
    recipe = changed(toy, tmp_path, old, new)
    assert is_translator(recipe)
    with pytest.raises(BadConfig, match=told):
        run(recipe, tmp_path)


def test_other_sizes_under_the_same_name_are_refused(toy, trained, tmp_path):
    recipe = changed(toy, tmp_path, "inner = 48", "inner = 56")
    with pytest.raises(BadConfig, match="other sizes"):
        run(recipe, trained.parent)
