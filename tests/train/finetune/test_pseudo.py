"""Tiny random translation models: what they write is noise, what they are asked is not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from streamtrans.core import BadConfig, BadModel
from streamtrans.train.finetune.corpus import Example
from streamtrans.train.finetune.labelling import label_manifest
from streamtrans.train.finetune.pseudo import Labels, Translator, fill_in
from streamtrans.train.finetune.recipe import PseudoRecipe


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that is told what to do in words."""
    folder = tmp_path_factory.mktemp("t5")
    words = ["<pad>", "</s>", "<unk>", "de", "translate", "English", "to", "German", ":", "light", "licht"]
    backend = Backend(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def asked(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Record what the model is asked to generate from."""
    calls: list[dict[str, object]] = []
    generate = translator.model.generate

    def note(**given: object) -> torch.Tensor:
        answer = generate(**given)
        calls.append({**given, "answer": answer})
        return answer

    monkeypatch.setattr(translator.model, "generate", note)
    return calls


def test_a_model_of_many_languages_is_told_both(nllb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(PseudoRecipe(nllb, codes={"pt": "por_Latn"}, max_tokens=8), device="cpu")
    calls = asked(translator, monkeypatch)
    token = translator.tokenizer.convert_tokens_to_ids
    for source, target in (("en", "de"), ("de", "zh"), ("zh", "pt")):
        assert len(translator(source, target, ["turn on the light", "stop"])) == 2
        assert calls[-1]["input_ids"][:, 0].tolist() == [token(translator.code(source))] * 2
        assert calls[-1]["answer"][:, 1].tolist() == [token(translator.code(target))] * 2
    assert translator.code("pt") == "por_Latn"
    with pytest.raises(BadConfig, match="has no token for fr"):
        translator("en", "fr", ["x"])


def test_a_model_that_wants_a_prefix_gets_it(t5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = PseudoRecipe(t5, prefix="translate {source_name} to {target_name}: ", beams=2, max_tokens=5)
    translator = Translator(recipe, device="cpu")
    calls = asked(translator, monkeypatch)
    translator("en", "de", ["light"])
    words = translator.tokenizer.convert_ids_to_tokens(calls[0]["input_ids"][0])
    assert words[:6] == ["translate", "English", "to", "German", ":", "light"]
    assert calls[0]["num_beams"] == 2
    assert "forced_bos_token_id" not in calls[0]
    # "de" is a plain word of this vocabulary, not a language.
    assert Translator(PseudoRecipe(t5), device="cpu").language_token("de") is None
    with pytest.raises(BadConfig, match=r"may hold \{source\}"):
        Translator(replace(recipe, prefix="{to}: "), device="cpu")("en", "de", ["light"])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="can't be loaded as a seq2seq model"):
        Translator(PseudoRecipe(str(tmp_path)), device="cpu")


EXAMPLES = [
    Example("m:2", "a.wav", 1.0, "en", {"en": "light", "de": "licht"}),
    Example("m:3", "b.wav", 1.0, "de", {"de": "musik"}),
    Example("m:4", "c.wav", 1.0, "en", {"en": "light"}),
]


def test_only_what_is_missing_is_made_and_only_once(nllb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = PseudoRecipe(nllb, to=("en", "de"), batch=1, max_tokens=6)
    cache = tmp_path / "labels.jsonl"
    made: list[tuple[str, str]] = []

    def answer(self: Translator, source: str, target: str, texts: list[str]) -> list[str]:
        if len(made) == stop:
            raise KeyboardInterrupt
        made.append((source, target))
        return [f"{text}\u2028in {target}" for text in texts]  # a line end for some, not for the file of labels

    monkeypatch.setattr(Translator, "__call__", answer)
    stop = 1
    with pytest.raises(KeyboardInterrupt):
        fill_in(EXAMPLES, ("en", "de"), recipe, cache, device="cpu", say=lambda _: None)
    with cache.open("a") as file:
        file.write('["en", "de", "to')  # killed while writing
    stop = -1
    found = fill_in(EXAMPLES, ("en", "de"), recipe, cache, device="cpu", say=lambda _: None)
    assert made == [("de", "en"), ("en", "de")]
    assert found[0] == EXAMPLES[0]
    assert found[1].texts == {"de": "musik", "en": "musik\u2028in en"}
    assert found[1].pseudo == ("en",)
    assert found[2].texts["de"] == "light\u2028in de"
    monkeypatch.setattr("streamtrans.train.finetune.pseudo.Translator", None)  # not even loaded any more
    assert fill_in(EXAMPLES, ("en", "de"), recipe, cache, device="cpu", say=print) == found
    with pytest.raises(BadConfig, match="translations of another model"):
        Labels(cache, replace(recipe, beams=4))


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_a_manifest_is_filled_in(run_cli, nllb: str, tmp_path: Path, suffix: str) -> None:
    manifest, out = tmp_path / "m.tsv", tmp_path / "made" / f"out{suffix}"
    manifest.write_text(
        "audio\ttext\tlanguage\tde\nclips/a.wav\tlight\ten\tlicht\nclips/b.wav\tstop\ten\t\nclips/c.wav\t\ten\t\n",
        encoding="utf-8",
    )
    status, told = run_cli(
        "corpus", "pseudo-label", manifest, "--model", nllb, "--to", "de,zh", "--out", out, "--device", "cpu"
    )
    assert status == 0
    assert f"left out: {manifest}:4: empty text" in told
    text = out.read_text(encoding="utf-8")
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        header, *lines = (line.split("\t") for line in text.splitlines())
        rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["audio"] for row in rows] == ["../clips/a.wav", "../clips/b.wav"]
    assert rows[0]["de"] == "licht"
    assert "de" not in rows[0].get("pseudo", "")
    assert not list(out.parent.glob("*.part*"))


def test_manifests_that_cannot_be_labelled(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="name the languages to fill in"):
        label_manifest(tmp_path / "m.tsv", tmp_path / "o.tsv", PseudoRecipe("m"))
    with pytest.raises(BadConfig, match="is the manifest itself"):
        label_manifest(tmp_path / "m.tsv", tmp_path / "m.tsv", PseudoRecipe("m", to=("de",)))


def test_a_model_that_cannot_be_told_the_pair_is_refused(t5: str, tmp_path: Path) -> None:
    labels = Labels(tmp_path / "labels.jsonl", PseudoRecipe(t5, to=("en", "de"), batch=1, max_tokens=6))
    with pytest.raises(BadConfig, match=r"can't be told what to translate into, and de to en, en to de are missing"):
        labels.complete([("de", "en", "licht"), ("en", "de", "light")], device="cpu", say=print)
