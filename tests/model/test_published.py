"""Checkpoints as they are on the hub: each loads, knows what it was trained for, and reads."""

from __future__ import annotations

import fnmatch
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from streamtrans.compress import convert
from streamtrans.core import BadModel, UnsupportedLanguage
from streamtrans.decode import converse, greedy
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from tests.published import DISTILLED, PUBLISHED, join_processor, make_published, split_vocabulary

AUDIO = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)


def read(model: TorchSpeechModel, target: str, source: str) -> int:
    """Read half a second, and return how many tokens were written."""
    prompt = model.prompt(target, source)
    cache = model.allocate(1).open(model.encode([AUDIO])[0])
    said = converse(model, greedy(prompt, (), cache, eot=model.eot, limit=len(prompt) + 4))  # type: ignore[arg-type]
    assert not any(map(model.tokenizer.is_special, said.tokens))
    return len(said.tokens)


def asked(model: TorchSpeechModel) -> tuple[object, ...]:
    """Return what follows from a vocabulary."""
    return model.languages, model.eot, model.prompt("en", "de"), model.manner.suppressed, model.manner.begin_suppressed


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_published(folder, "whisper-tiny")
    return folder


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_checkpoint_loads_and_reads(tmp_path: Path, name: str) -> None:
    shape = make_published(tmp_path, name)
    model = load_model(tmp_path, device="cpu", dtype="float32")
    spoken = "en" if shape.english else "ja"
    assert read(model, spoken, spoken) > 0
    assert model.manner.alignment_heads == (() if max(shape.alignment)[0] >= shape.decoder else shape.alignment)
    assert len(model.languages) == (1 if shape.english else shape.vocabulary - 51_766)


@pytest.mark.parametrize("name", [name for name, shape in PUBLISHED.items() if shape.english])
def test_english_only_models_know_english_alone(tmp_path: Path, name: str) -> None:
    make_published(tmp_path, name)
    model = load_model(tmp_path, device="cpu")
    special = model.tokenizer.special
    assert model.languages == ("en",)
    assert model.translations == (("en", ("en",)),)
    assert model.prompt("en", None) == model.prompt("en", "en") == (50_257, special("<|notimestamps|>"))
    assert (model.eot, special("<|notimestamps|>")) == (50_256, 50_362)
    for target, source in (("de", "de"), ("en", "de"), ("de", None)):
        with pytest.raises(UnsupportedLanguage, match="English-only"):
            model.prompt(target, source)


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_models_write_transcripts_only(tmp_path: Path, name: str) -> None:
    make_published(tmp_path, name)
    model = load_model(tmp_path, device="cpu")
    assert dict(model.translations)["de"] == ("de",)
    assert model.prompt("de", "de")
    with pytest.raises(UnsupportedLanguage, match="distilled, and writes the spoken language only, not de to en"):
        model.prompt("en", "de")


def test_stock_whisper_tells_which_pairs_it_knows(tiny: Path) -> None:
    model = load_model(tiny, device="cpu")
    pairs = dict(model.translations)
    assert len(pairs) == 99
    assert pairs["de"] == ("de", "en")
    assert pairs["en"] == ("en",)
    for source, targets in pairs.items():
        for target in ("de", "en", source):
            if target in targets:
                assert model.prompt(target, source)
            else:
                with pytest.raises(UnsupportedLanguage):
                    model.prompt(target, source)


def test_vocabulary_and_merges_without_a_tokenizer_file(folder: Path) -> None:
    whole = load_model(folder, device="cpu")
    split_vocabulary(folder)
    model = load_model(folder, device="cpu")
    assert model.tokenizer.encode("wie geht's?") == whole.tokenizer.encode("wie geht's?")
    assert asked(model) == asked(whole)
    (folder / "merges.txt").write_text("a b c\n")
    with pytest.raises(BadModel, match=r"vocab\.json: not a readable .*merges\.txt"):
        load_model(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(BadModel, match=r"vocab\.json: not a readable .*merges\.txt"):
        load_model(folder)


def test_special_tokens_may_stand_in_the_tokenizers_configuration(folder: Path) -> None:
    split_vocabulary(folder)
    whole = load_model(folder, device="cpu")
    added = json.loads((folder / "added_tokens.json").read_text())
    said = {"added_tokens_decoder": {str(number): {"content": name} for name, number in added.items()}}
    (folder / "added_tokens.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    assert asked(load_model(folder, device="cpu")) == asked(whole)


def test_features_as_transformers_5_saves_them(folder: Path) -> None:
    join_processor(folder)
    assert read(load_model(folder, device="cpu", dtype="float32"), "en", "de") > 0
    (folder / "processor_config.json").write_text("{}")
    with pytest.raises(BadModel, match="no feature_extractor"):
        load_model(folder)
    (folder / "processor_config.json").unlink()
    with pytest.raises(BadModel, match=r"has no preprocessor_config\.json"):
        load_model(folder)


def test_what_transformers_saves_today_loads(folder: Path) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor
    from transformers import WhisperTokenizerFast as Fast

    processor = WhisperProcessor(WhisperFeatureExtractor(), Fast(tokenizer_file=str(folder / "tokenizer.json")))
    raw = json.loads((folder / "config.json").read_text())
    saved = folder / "saved"
    WhisperForConditionalGeneration(WhisperConfig(**raw)).half().save_pretrained(saved)
    processor.save_pretrained(saved)
    assert read(load_model(saved, device="cpu", dtype="float32"), "en", "de") > 0


@pytest.mark.parametrize("change", [join_processor, split_vocabulary])
def test_what_convert_makes_of_such_folders_loads(folder: Path, change: object, tmp_path: Path) -> None:
    change(folder)  # type: ignore[operator]
    made = tmp_path / "made"
    convert(folder, made, decoder_layers=2, text_encoder_layers=1, speculator_blocks=1, languages=("en", "de"))
    model = load_model(made, device="cpu", dtype="float32")
    assert model.languages == ("en", "de")
    assert read(model, "de", "en") > 0


def test_frames_of_another_model_are_refused_at_the_door(folder: Path) -> None:
    features = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(features | {"feature_size": 128}))
    with pytest.raises(BadModel, match=r"frames of 128 mel bins, and the encoder of config\.json reads 80"):
        load_model(folder)


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "large"
    other.mkdir()
    make_published(other, "kotoba-whisper-v2.0")
    shutil.copyfile(other / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(BadModel, match=r"the tokenizer has 51866 tokens, and the network .* knows 51865"):
        load_model(folder)


def test_a_command_that_the_tokenizer_lacks_is_found_at_the_door(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|notimestamps|>", "<|silent|>"))
    with pytest.raises(BadModel, match=r"lacks Whisper's <.notimestamps.>"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "made", "problem"),
    [
        ("proj_out.weight", lambda tensors: tensors["model.decoder.embed_tokens.weight"] + 1, "ties"),
        ("model.decoder.layer_norm.bias", lambda tensors: torch.full((12,), float("nan")), "training has failed"),
        ("model.encoder.conv1.weight", lambda tensors: torch.zeros(12, 80, 3, dtype=torch.int8), "only plain weights"),
    ],
)
def test_weights_that_would_only_make_nonsense(folder: Path, name: str, made: object, problem: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = made(tensors)  # type: ignore[operator]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadModel, match=problem):
        load_model(folder)


def test_of_a_hub_folder_one_set_of_weights_is_fetched(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    hub, cache = tmp_path / "hub", tmp_path / "cache"
    shutil.copytree(tiny, hub)
    cache.mkdir()
    for name in ("model.fp32-00001-of-00002.safetensors", "model.safetensors.index.fp32.json", "pytorch_model.bin"):
        (hub / name).write_bytes(b"{}")
    (hub / "onnx").mkdir()
    (hub / "onnx" / "config.json").write_text("{}")

    def snapshot_download(repo_id: str, *, allow_patterns: list[str]) -> str:
        assert repo_id == "someone/tiny"
        for path in (path for path in hub.rglob("*") if path.is_file()):
            name = str(path.relative_to(hub))
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                (cache / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, cache / name)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert load_model("someone/tiny", device="cpu").name == "cache"
    wanted = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    }
    assert {path.name for path in cache.iterdir()} == wanted

    # The same in shards, of which the index names two.
    tensors = load_file(hub / "model.safetensors")
    (hub / "model.safetensors").unlink()
    shutil.rmtree(cache)
    cache.mkdir()
    parts = {f"model-0000{part}-of-00002.safetensors": sorted(tensors)[part - 1 :: 2] for part in (1, 2)}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, hub / file)
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (hub / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_model("someone/tiny", device="cpu").name == "cache"
    found = {path.name for path in cache.iterdir()}
    assert found == (wanted - {"model.safetensors"}) | {*parts, "model.safetensors.index.json"}
