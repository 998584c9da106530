from dataclasses import replace
from pathlib import Path

import pytest
import torch

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.config import NetworkConfig, read_json
from streamtrans.model.loading import load_network, read_tensors
from streamtrans.train.finetune.adapters import export, make_student, merged, trained
from streamtrans.train.finetune.recipe import FinetuneRecipe, LoraRecipe, Source


def recipe(base: Path, **lora: object) -> FinetuneRecipe:
    settings = LoraRecipe(**{"layers": 2, "rank": 4, **lora})  # type: ignore[arg-type]
    return FinetuneRecipe("tiny", str(base), ("en", "de", "zh"), (Source("manifest", "x"),), lora=settings)


def test_adapters_below_everything_above(base: Path) -> None:
    student = make_student(recipe(base))
    names = set(trained(student))
    encoder = "network.model.encoder."
    adapted = {name for name in names if ".lora_" in name}
    assert adapted == {
        f"{encoder}layers.{layer}.self_attn.{module}.lora_{part}.default.weight"
        for layer in (0, 1)
        for module in ("q_proj", "v_proj")
        for part in "AB"
    }
    everything = {name for name, _ in student.named_parameters()}
    still = {name for name in everything - names if not name.startswith(encoder)}
    assert still == set(), "decoder, text encoder and KVSPN are trained whole"
    whole = {name for name in everything if name.startswith((f"{encoder}layers.2.", f"{encoder}layer_norm."))}
    assert {name for name in names if name.startswith(encoder)} == whole | adapted


def test_fresh_adapters_change_nothing_and_trained_ones_merge(base: Path) -> None:
    student = make_student(recipe(base))
    config = NetworkConfig.of(read_json(base / "config.json"))
    plain = load_network(base, config)
    mel = torch.randn(2, 80, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(student.network.model.encoder(mel)[0], plain.model.encoder(mel)[0])
        for name, parameter in trained(student).items():
            if ".lora_B" in name:
                parameter.normal_(std=0.1)
        adapted = student.network.model.encoder(mel)[0]
        assert not torch.allclose(adapted, plain.model.encoder(mel)[0], atol=1e-3)
        plain.load_state_dict(merged(student.network))
        assert torch.allclose(adapted, plain.model.encoder(mel)[0], atol=1e-5)
        assert torch.equal(adapted, student.network.model.encoder(mel)[0]), "merging leaves the run's network alone"


def test_an_export_is_a_checkpoint_like_its_base(base: Path, tmp_path: Path) -> None:
    student = make_student(recipe(base))
    for dtype in ("float32", "bfloat16"):  # the second replaces the first
        export(student.network, base, tmp_path / "model", dtype=dtype)
    before, after = read_tensors(base), read_tensors(tmp_path / "model")
    assert before.keys() == after.keys()
    fixed = "model.encoder.embed_positions.weight"
    assert {tensor.dtype for name, tensor in after.items() if name != fixed} == {torch.bfloat16}
    assert torch.equal(after[fixed], before[fixed])
    assert all(torch.equal(after[name], before[name].to(after[name].dtype)) for name in after)
    assert read_json(tmp_path / "model" / "config.json")["torch_dtype"] == "bfloat16"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_fine_tuned_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"layers is 9, but .* has 3"):
        make_student(recipe(base, layers=9))
    with pytest.raises(BadModel, match="no whisperM2M checkpoint with a text encoder"):
        make_student(replace(recipe(base), base=str(base.parent / "whisper")))
    with pytest.raises(BadModel, match="make it with streamtrans convert"):
        make_student(replace(recipe(base), base=str(tmp_path / "none")))
