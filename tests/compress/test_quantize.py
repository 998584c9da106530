"""Matrices stored as whole numbers: what they are worth, what is loaded, what is counted, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.compress import weights
from streamtrans.compress.merging import merge
from streamtrans.compress.pruning.stacks import cut
from streamtrans.compress.quantize import held_bytes, quantize
from streamtrans.core import BadConfig, BadModel
from streamtrans.model.linear import _whole
from streamtrans.model.loading import load_model, load_speech, read_tensors
from streamtrans.model.stored import store, unpack
from tests.audio_models import MAKERS as AUDIO_MODELS
from tests.checkpoints import make_whisper, make_whisper_m2m
from tests.translators import make_llama

SHAPE = {
    "d_model": 64,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "decoder_layers": 3,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 128,
}
FC1 = "model.decoder.layers.1.fc1.weight"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper(folder, **SHAPE)
    return folder


@pytest.fixture(scope="module", params=[8, 4])
def made(request: pytest.FixtureRequest, whisper: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("stored") / "folder"
    return request.param, folder, quantize(whisper, folder, bits=request.param)


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e4]))
@settings(max_examples=40, deadline=None)
def test_what_is_stored_is_off_by_half_a_step_at_most_or_clipped_for_less_error(seed: int, scale: float) -> None:
    matrix = scale * torch.randn(6, 128, generator=torch.Generator().manual_seed(seed))
    eight = unpack(Path(), store("m", matrix, 8))["m"]
    assert ((eight - matrix).abs().amax(1) <= 0.501 * matrix.abs().amax(1) / 127 + 1e-7).all()
    four = unpack(Path(), store("m", matrix, 4))["m"]
    groups, largest = (four - matrix).unflatten(1, (-1, 64)), matrix.unflatten(1, (-1, 64)).abs().amax(-1)
    plain = (torch.round(matrix.unflatten(1, (-1, 64)) / largest.clamp_min(1e-30)[..., None] * 7) / 7) * largest[
        ..., None
    ]
    error = (plain - matrix.unflatten(1, (-1, 64))).square().sum(-1)
    assert (groups.square().sum(-1) <= 1.01 * error + 1e-12).all()


def test_four_bits_lie_two_a_byte_the_first_below() -> None:
    row = torch.tensor([[7.0, -7.0, *[1.0] * 62]])
    found = store("m", row, 4)
    assert found["m.int4"].shape == (1, 32)
    assert found["m.int4"][0, :2].tolist() == [15 | 1 << 4, 9 | 9 << 4]
    assert torch.equal(unpack(Path(), found)["m"], row)
    assert set(store("m", torch.ones(2, 20), 4)) == {"m.int8", "m.step"}  # no whole groups


def test_int8_is_served_by_the_numbers_in_the_file(whisper: Path, tmp_path: Path) -> None:
    quantize(whisper, tmp_path / "out", bits=8)
    plain, stored = read_tensors(whisper), load_file(tmp_path / "out" / "model.safetensors")
    again = read_tensors(tmp_path / "out")
    for name in (FC1, "model.decoder.embed_tokens.weight"):
        assert torch.equal(stored[f"{name}.int8"], _whole(again[name])[0])
        assert torch.equal(stored[f"{name}.int8"], _whole(plain[name])[0])


def test_a_stored_folder_loads_and_says_nearly_the_same(made, whisper: Path) -> None:
    bits, folder, _ = made
    features = []
    for each in (whisper, folder):
        model = load_model(each, device="cpu", dtype="float32")
        audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
        memory, slots = model.encode([audio])[0], model.allocate(1)
        slots.open(memory)
        features.append(torch.stack([pair.values for pair in memory.decoder]))
    apart = float((features[0] - features[1]).norm() / features[0].norm())
    low, high = {8: (1e-4, 0.03), 4: (0.03, 0.3)}[bits]
    assert low < apart < high
    load_model(folder, device="cpu", dtype="int8")


def test_counts_are_those_of_the_tensors(made, whisper: Path) -> None:
    bits, folder, found = made
    plain = read_tensors(whisper)
    plain = {name: tensor for name, tensor in plain.items() if name != "proj_out.weight"}
    stored = load_file(folder / "model.safetensors")
    assert found.parameters == sum(tensor.numel() for tensor in plain.values())
    assert found.stored == sum(tensor.numel() for tensor in stored.values())
    assert found.bytes_before == 4 * found.parameters
    assert found.bytes == sum(tensor.nbytes for tensor in stored.values())
    assert abs((folder / "model.safetensors").stat().st_size - found.bytes) < 20_000  # the header
    assert stored[f"{FC1}.step"].shape == ((128,) if bits == 8 else (128, 1))
    weights = plain[FC1].numel()
    assert stored[f"{FC1}.int{bits}"].nbytes == weights * bits // 8


def test_a_stored_m2m_keeps_its_parts_and_can_be_pruned(tmp_path: Path) -> None:
    (tmp_path / "m2m").mkdir()
    make_whisper_m2m(tmp_path / "m2m")
    quantize(tmp_path / "m2m", tmp_path / "out", bits=4)
    assert read_tensors(tmp_path / "out").keys() == read_tensors(tmp_path / "m2m").keys()
    assert load_model(tmp_path / "out", device="cpu").has_speculator
    cut(tmp_path / "out", "decoder", [0, 3], tmp_path / "cut", {})
    old, new = read_tensors(tmp_path / "out"), read_tensors(tmp_path / "cut")
    assert torch.equal(new[FC1], old["model.decoder.layers.3.fc1.weight"])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("family", AUDIO_MODELS)
def test_a_stored_audio_language_model_says_nearly_the_same(family: str, bits: int, tmp_path: Path) -> None:
    AUDIO_MODELS[family](tmp_path / "whole")
    found = quantize(tmp_path / "whole", tmp_path / "out", bits=bits)
    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert {f"language_model.{name}.weight.int8" for name in ("lm_head", "model.embed_tokens")} <= names
    assert {name for name in names if name.endswith("proj.weight")} == set()
    assert found.bytes < 0.6 * found.bytes_before
    audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    values = []
    for each in ("whole", "out"):
        model = load_speech(tmp_path / each, device="cpu", dtype="float32")
        values.append(torch.stack([pair.values for pair in model.encode([audio])[0].prefix]))
        assert held_bytes(model) > 4 * found.parameters
    assert 1e-4 < float((values[0] - values[1]).norm() / values[0].norm()) < 0.3
    load_speech(tmp_path / "out", device="cpu", dtype="int8")


def changed(folder: Path, target: Path, change) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t, form: t.pop(f"{FC1}.step"), r"fc1.weight.int. holds .* with no steps"),
        (lambda t, form: t.update({f"{FC1}.step": t[f"{FC1}.step"][:3]}), r"with steps \(3"),
        (lambda t, form: t.update({f"{FC1}.step": t[f"{FC1}.step"].double()}), "of torch.float64; it takes"),
        (lambda t, form: t.update({f"{FC1}.{form}": t[f"{FC1}.{form}"][0]}), "holds .* with steps"),
        (lambda t, form: t.update({f"{FC1}.{form}": t[f"{FC1}.{form}"].float()}), "of torch.float32 with steps"),
        (lambda t, form: t[f"{FC1}.step"].fill_(torch.nan), "steps of .* hold infinite numbers or none"),
        (lambda t, form: t.pop(f"{FC1}.{form}"), "missing"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(made, change, problem: str, tmp_path: Path) -> None:
    bits, folder, _ = made
    with pytest.raises(BadModel, match=problem):
        load_model(changed(folder, tmp_path / "broken", lambda t: change(t, f"int{bits}")), device="cpu")


def test_what_makes_no_sense_is_refused(made, whisper: Path, tmp_path: Path) -> None:
    _, folder, _ = made
    with pytest.raises(BadModel, match="stored as whole numbers already"):
        quantize(folder, tmp_path / "out")
    with pytest.raises(BadModel, match="which don't add up"):
        merge(folder, {"de": folder, "fr": folder}, tmp_path / "out")
    with pytest.raises(BadConfig, match="bits is 3; use 8 or 4"):
        quantize(whisper, tmp_path / "out", bits=3)
    with pytest.raises(BadConfig, match="exists already"):
        quantize(whisper, folder)
    make_llama(tmp_path / "llama")
    with pytest.raises(BadModel, match="'llama' model; what is stored so is read here only"):
        quantize(tmp_path / "llama", tmp_path / "out")
    nan = changed(whisper, tmp_path / "nan", lambda t: t[FC1].__setitem__((0, 0), torch.nan))
    with pytest.raises(BadModel, match=r"fc1.weight holds infinite numbers or none"):
        quantize(nan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_interrupted_leaves_nothing_and_ends_with_the_same_file(
    whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(weights, "save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            quantize(whisper, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    for name in ("out", "again"):
        quantize(whisper, tmp_path / name)
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_the_command_line_counts_side_by_side(whisper: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compress", "quantize", str(whisper), str(tmp_path / "out"), "--bits", "4"])
    assert done.exit_code == 0, done.output
    for text in (
        "4 bits",
        "numbers in the file",
        "MB on disk",
        "MB in memory, served in",
        "ms per token, served in",
        "no parameter is gone",
    ):
        assert text in done.stdout
    assert json.loads((tmp_path / "out" / "quantize.json").read_text())["bits"] == 4
