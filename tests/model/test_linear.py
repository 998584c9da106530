"""Packed linears: right, independent of their neighbours, replaced where they can't be had."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from streamtrans.core import BadConfig
from streamtrans.decode import DraftContext, converse, decode, parse_drafters
from streamtrans.model import linear
from streamtrans.model.api import Forward, Propose
from streamtrans.model.linear import (
    Int8Linear,
    Int8Product,
    PackedLinear,
    for_many,
    make_linear,
    make_panels,
    paneled,
    usable,
    works,
)
from streamtrans.model.loading import choose_precision, load_model
from tests.checkpoints import make_whisper_m2m
from tests.model.test_parity import speech

torch.set_num_threads(1)

INT8 = [kind for kind in (Int8Linear, Int8Product) if works(kind)]
LINE = (1, 2, 40, 50, 60, 70, 80, 90, 100)


def weights(outputs, inputs, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(outputs, inputs, generator=random) * 0.1, torch.randn(outputs, generator=random)


@pytest.mark.parametrize("kind", INT8)
@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 40),
    inputs=st.sampled_from([24, 40, 192, 197, 512]),
    outputs=st.sampled_from([1, 33, 160]),
    seed=st.integers(0, 1000),
)
def test_a_row_of_whole_numbers_never_depends_on_its_neighbours(kind, count, inputs, outputs, seed):
    layer = kind(*weights(outputs, inputs, seed))
    rows = torch.randn(count, inputs) * torch.rand(count, 1) * 10
    rows[seed % count] = 0
    together = layer(rows)
    assert torch.equal(together, layer(rows[None])[0])
    for row, found in zip(rows, together, strict=True):
        assert torch.equal(found, layer(row[None])[0])


@pytest.mark.parametrize("kind", INT8)
def test_whole_numbers_are_near_the_truth_and_exact_where_they_can_be(kind):
    weight, bias = weights(300, 256)
    rows = torch.randn(9, 256)
    wanted = F.linear(rows, weight, bias)
    assert (kind(weight, bias)(rows) - wanted).norm() < 0.02 * wanted.norm()
    ones = kind(torch.ones(16, 512), None)(torch.tensor([[1.0], [-1.0], [0.0]]).expand(3, 512).contiguous())
    torch.testing.assert_close(ones[:, 0], torch.tensor([512.0, -512.0, 0.0]), rtol=1e-6, atol=0)


TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.02}


@pytest.mark.parametrize("dtype", [dtype for dtype in TOLERANCES if works(PackedLinear, dtype)])
def test_packed_products_are_the_plain_ones(dtype):
    tolerance = TOLERANCES[dtype]
    weight, bias = (each.to(dtype) for each in weights(130, 70))
    for shape in ((1, 1, 70), (2, 9, 70), (5, 70)):
        rows = torch.randn(shape).to(dtype)
        wanted = F.linear(rows.float(), weight.float(), bias.float())
        for given_bias, more in ((bias, wanted), (None, wanted - bias.float())):
            found = PackedLinear(weight, given_bias)(rows).float()
            assert found.shape == more.shape
            assert (found - more).norm() < tolerance * more.norm()


def test_small_float32_linears_stay_as_they_are():
    assert type(make_linear(*weights(64, 64), "float32")) is nn.Linear
    if works(PackedLinear):
        assert type(make_linear(*weights(512, 256), "float32")) is PackedLinear


class Missing(nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.product = torch.ops.mkldnn._no_such_operator


class Wrong(nn.Module):
    """Saturates, as sums of whole numbers do on processors without the instruction."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return F.linear(x, self.weight).clamp(-100, 100)


def test_what_is_missing_or_wrong_is_not_used():
    assert not works(Missing)
    assert not works(Wrong)


def test_a_processor_gets_the_next_best(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(linear, "works", lambda kind, dtype=torch.float32: kind is PackedLinear)
    monkeypatch.setattr(linear, "has_bfloat16", lambda: True)
    assert usable("int8") == "bfloat16"
    assert "bfloat16 in the place of int8" in caplog.text
    monkeypatch.setattr(linear, "has_bfloat16", lambda: False)
    assert usable("int8") == usable("bfloat16") == "float32"
    assert "no bfloat16 instructions: taking float32" in caplog.text
    with pytest.raises(BadConfig, match="packed in 'int4'; use float32, bfloat16, int8"):
        usable("int4")
    monkeypatch.setattr(linear, "works", lambda kind, dtype=torch.float32: False)
    assert type(make_linear(*weights(512, 512), usable("float32"))) is nn.Linear


def test_many_rows_of_whole_numbers_are_read_in_panels_where_nothing_is_faster(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert for_many("int8", 64) is (make_panels if paneled("int8", 64) else make_linear)
    assert for_many("int8", 64, 24) is for_many("float32", 64) is for_many("bfloat16", 64) is make_linear
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert for_many("int8", 64) is make_linear


def test_auto_goes_by_width_and_device(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("streamtrans.model.loading.has_bfloat16", lambda: True)
    assert choose_precision("auto", cpu, 192) == "float32"
    assert choose_precision("auto", cpu, 1024) == "bfloat16"
    assert choose_precision("auto", gpu, 192) == "bfloat16"
    monkeypatch.setattr("streamtrans.model.loading.has_bfloat16", lambda: False)
    assert choose_precision("auto", cpu, 1024) == "float32"
    assert choose_precision("float16", cpu, 1024) == "float16"
    with pytest.raises(BadConfig, match="int8 is for CPUs"):
        choose_precision("int8", gpu, 1024)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with every projection that is joined: KVSPN has keys of its own."""
    made = tmp_path_factory.mktemp("packed")
    make_whisper_m2m(made, d_model=48, encoder_attention_heads=3, decoder_attention_heads=3, speculator_own_keys=True)
    return made


def answer(model, audio):
    cache = model.allocate(1).open(model.encode([audio])[0])
    read = model.step([Forward(LINE[:4], cache, 4, LINE[1:4])])[0]
    [guess] = model.propose([Propose(LINE[4:6], cache, 3)])
    return read, guess


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.4), ("int8", 0.4)])
def test_a_packed_model_says_what_the_plain_one_says(folder, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(linear, "SMALL", 1)
    exact, packed = load_model(folder, device="cpu", dtype="float64"), load_model(folder, device="cpu", dtype=dtype)
    assert packed.precision == usable(dtype)
    kinds = {type(module) for module in packed.network.modules()}
    assert nn.Linear not in kinds
    assert packed.parameters == exact.parameters
    (wanted, drafted), (found, guessed) = answer(exact, speech(1.1)), answer(packed, speech(1.1))
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=tolerance)
    assert guessed.logprobs[0] == pytest.approx(drafted.logprobs[0], abs=tolerance)
    if dtype == "float32":
        assert (found.tokens, guessed.tokens) == (wanted.tokens, drafted.tokens)


def test_projections_are_joined_without_changing_what_is_said(folder):
    model = load_model(folder, device="cpu", dtype="float64")
    layer = model.network.model.decoder.layers[0]
    assert layer.self_attn.qkv_proj.weight.shape == (3 * 48, 48)
    assert layer.encoder_attn.kv_proj.weight.shape == (2 * 48, 48)
    assert not any(name.endswith("self_attn.q_proj.weight") for name in model.network.state_dict())
    assert torch.equal(layer.self_attn.qkv_proj.bias[48:96], torch.zeros(48, dtype=torch.float64))


def test_drafts_leave_the_text_alone_in_whole_numbers(folder):
    model = load_model(folder, device="cpu", dtype="int8")
    audio = np.concatenate([speech(0.7, 3), speech(0.9, 4)])

    def write(spec):
        cache = model.allocate(1).open(model.encode([audio])[0])
        drafter = parse_drafters(spec).make(DraftContext(prompt_length=2, eot=model.eot, count=4))
        return converse(model, decode(model.prompt("de", None), (), cache, drafter, eot=model.eot, limit=30))

    plain, drafted = write("none"), write("kvspn")
    assert drafted.tokens == plain.tokens
    assert drafted.stats.drafted > 0
