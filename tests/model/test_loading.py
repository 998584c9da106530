"""Folders that are wrong are refused by name; nothing pickled is ever opened."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from streamtrans.core import BadConfig, BadModel, UnsupportedLanguage
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper, make_whisper_m2m
from tests.model.test_parity import SHAPES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_whisper_m2m(tmp_path)
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | changes))


def test_no_such_folder() -> None:
    with pytest.raises(BadModel, match=r"there is no folder \./nowhere"):
        load_model("./nowhere")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadModel, match=name):
        load_model(folder)


def test_unknown_family(folder: Path) -> None:
    edit(folder, model_type="bert")
    with pytest.raises(BadModel, match=r"config\.json: unknown model_type 'bert': known are whisper, whisper_m2m"):
        load_model(folder)


def test_pickled_weights_are_refused_unread(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(BadModel, match="pickled weights only"):
        load_model(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadModel, match=r"has no model\.safetensors"):
        load_model(folder)


def test_damaged_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadModel, match="not a readable safetensors file"):
        load_model(folder)


def test_weights_of_another_shape(folder: Path) -> None:
    edit(folder, encoder_ffn_dim=48)
    with pytest.raises(BadModel, match=r"fc1.* has shape \(40, 24\); config.json asks for \(48, 24\)"):
        load_model(folder)


def test_weights_that_are_missing_or_unknown(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["stray"] = tensors.pop("model.encoder.conv1.bias")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadModel, match=r"1 missing \(model.encoder.conv1.bias\), 1 unknown \(stray\)"):
        load_model(folder)


def test_a_config_that_is_no_whisper(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "whisper_m2m", "d_model": 8}')
    with pytest.raises(BadModel, match=r"lacks .*encoder_layers.*is this a Whisper checkpoint"):
        load_model(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(BadModel, match="must be a JSON object"):
        load_model(folder)


def test_heads_must_divide_the_width(folder: Path) -> None:
    edit(folder, encoder_attention_heads=5)
    with pytest.raises(BadModel, match="d_model 24 does not divide by the 5 attention heads of the encoder"):
        load_model(folder)
    edit(folder, encoder_width=32)
    with pytest.raises(BadModel, match="encoder_width 32 does not divide by the 5 attention heads of the encoder"):
        load_model(folder)
    edit(folder, encoder_attention_heads=4, text_encoder_layers=2)
    with pytest.raises(BadModel, match="encoder_width doesn't go with text_encoder_layers"):
        load_model(folder)


def test_device_and_dtype_are_checked(folder: Path) -> None:
    with pytest.raises(BadConfig, match="device 'abacus' can't be used here"):
        load_model(folder, device="abacus")
    with pytest.raises(BadConfig, match="dtype 'int3' is unknown; use auto, float64"):
        load_model(folder, dtype="int3")


def test_stock_whisper_prompts(tmp_path: Path) -> None:
    make_whisper(tmp_path, **SHAPES[0])
    model = load_model(tmp_path, device="cpu")
    special = model.tokenizer.special
    de, quiet = model.tokenizer.language_token("de"), special("<|notimestamps|>")
    assert model.prompt("de", "de") == (model.tokenizer.sot, de, special("<|transcribe|>"), quiet)
    assert model.prompt("en", "de") == (model.tokenizer.sot, de, special("<|translate|>"), quiet)
    with pytest.raises(UnsupportedLanguage, match="not de to zh"):
        model.prompt("zh", "de")
    with pytest.raises(UnsupportedLanguage, match="must be told the spoken language"):
        model.prompt("en", None)
    assert model.manner.padded
    assert not model.has_speculator


def test_sharded_weights_load(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    whole = load_model(folder, device="cpu")
    names = sorted(tensors)
    files = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    sharded = load_model(folder, device="cpu")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, sharded.network.state_dict()[name])
