"""Hearing in one call: what operators hear, and every law of hearing in blocks to the last bit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAnswer
from streamtrans.model import ear, linear, native
from streamtrans.model.api import Hearing
from streamtrans.model.hearing import EncoderState
from streamtrans.model.linear import PRECISIONS, paneled
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper_m2m
from tests.model.test_hearing import noise

torch.set_num_threads(1)

SHAPE = {
    "d_model": 96, "encoder_attention_heads": 3, "encoder_ffn_dim": 144, "decoder_attention_heads": 3,
    "decoder_ffn_dim": 80, "encoder_rotary": True, "encoder_block": 4, "encoder_left": 10, "num_mel_bins": 23,
}  # fmt: skip
BLOCK = 4 * 2 * 160
HERE = [precision for precision in PRECISIONS if paneled(precision)]
in_one_call = pytest.mark.parametrize("library", [native.library()] if native.library() else [])
"""Left out where there is no library, as what needs instructions is where a processor lacks them."""


@pytest.fixture(scope="module", params=HERE)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ear")
    make_whisper_m2m(folder, **SHAPE)
    found = load_model(folder, device="cpu", dtype=request.param)
    assert found.ear is not None
    return found


def parts(found):
    memory, state = found.memory, found.state
    pairs = (*memory.decoder, *memory.speculator)
    return [part for pair in pairs for part in (pair.keys, pair.values)] + [state.context, state.keys, state.values]


def same(one, other):
    assert (one.begin, one.encoded) == (other.begin, other.encoded)
    return all(torch.equal(*pair) for pair in zip(parts(one), parts(other), strict=True))


@pytest.mark.parametrize("precision", HERE)
def test_one_call_hears_what_operators_hear(tmp_path, precision):
    tolerance = {"float32": 1e-4, "bfloat16": 0.3, "int8": 0.1}[precision]
    make_whisper_m2m(tmp_path, **SHAPE)
    at_once = load_model(tmp_path, device="cpu", dtype=precision)
    with native.switched_off():
        by_operators = load_model(tmp_path, device="cpu", dtype=precision)
    assert by_operators.ear is None
    audio, states = noise(30_000), [None, None]
    for end in (100, 900, 5_000, 16_000, 17_000, 30_000):
        models = zip((at_once, by_operators), states, strict=True)
        found, wanted = (model.listen([Hearing(audio[:end], 0, state)])[0] for model, state in models)
        assert (found.begin, found.encoded) == (wanted.begin, wanted.encoded)
        for one, other in zip(parts(found), parts(wanted), strict=True):
            assert one.shape == other.shape
            assert one.dtype == (torch.float32 if one is found.state.context else other.dtype)
            assert not one.numel() or float((one - other).abs().max()) <= tolerance * float(other.abs().max())
        states = [found.state, wanted.state]


STEPS = st.lists(st.sampled_from([1, 60, 200, 399, 640, 801, 1500, 2560, 6400]), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None)
@given(chunkings=st.lists(STEPS, min_size=1, max_size=4))
def test_any_chunking_beside_any_others_gives_the_same_bits(model, chunkings):
    audios = [noise(sum(steps), seed) for seed, steps in enumerate(chunkings)]
    states, ends = [None] * len(audios), [0] * len(audios)
    for turn in range(max(map(len, chunkings))):
        going = [at for at, steps in enumerate(chunkings) if turn < len(steps)]
        for at in going:
            ends[at] += chunkings[at][turn]
        found = model.listen([Hearing(audios[at][: ends[at]], 0, states[at]) for at in going])
        for at, each in zip(going, found, strict=True):
            states[at] = each.state
            [alone] = model.listen([Hearing(audios[at][: ends[at]])])
            assert same(replace(each, encoded=alone.encoded), alone)


def test_the_same_sound_is_heard_alike_wherever_in_the_run(model):
    audio = noise(12_000)
    early = model.listen([Hearing(audio[:8_000])])[0].state
    blocks = 10**6
    late = EncoderState(
        early.origin - blocks * BLOCK, early.heard, early.frames + 4 * blocks, early.kept + 4 * blocks,
        early.samples, early.context, early.keys, early.values,
    )  # fmt: skip
    one, two = (model.listen([Hearing(audio, 0, state)])[0] for state in (early, late))
    assert same(one, two)


def test_sound_of_other_numbers_is_heard_by_value(model):
    audio = noise(9_000)
    [wanted] = model.listen([Hearing(audio)])
    for other in (audio.astype(np.float64), np.repeat(audio, 2)[::2]):
        begun = model.listen([Hearing(other[:5_000])])[0].state
        assert same(model.listen([Hearing(other)])[0], wanted)
        assert same(replace(model.listen([Hearing(other, 0, begun)])[0], encoded=wanted.encoded), wanted)


def test_room_is_taken_for_so_many_rows_at_once(model, monkeypatch):
    asked = [Hearing(noise(samples, samples)) for samples in (9_000, 300, 15_000, 2_000, 2_000)]
    wanted, calls, call = model.listen(asked), [], native.call

    def counted(function, laid, runs, count, threads):
        calls.append([run.frames for run in runs])
        assert count == len(runs)
        call(function, laid, runs, count, threads)

    monkeypatch.setattr(ear, "AT_ONCE", 30)
    monkeypatch.setattr(native, "call", counted)
    assert all(map(same, model.listen(asked), wanted))
    assert all(len(each) == 1 or sum(each) <= 30 for each in calls)
    assert [len(each) for each in calls] == [2, 1, 2]


@pytest.mark.parametrize("precision", HERE)
def test_panels_lie_in_memory_once_whoever_reads_them(tmp_path, monkeypatch, precision):
    make_whisper_m2m(tmp_path, **SHAPE)
    monkeypatch.setattr(linear, "for_many", lambda *_: linear.make_panels)
    found = load_model(tmp_path, device="cpu", dtype=precision)
    with monkeypatch.context() as patch:
        patch.setattr(ear.Ear, "share", lambda _: None)
        twice = load_model(tmp_path, device="cpu", dtype=precision)
    mine, theirs = [panels_that_hear(each) for each in (found, twice)]
    assert len(mine) == len(theirs) > 4 * found.config.encoder_layers
    assert {id(each) for each in mine} <= {id(each) for each in found.ear._kept}
    assert not {id(each) for each in theirs} & {id(each) for each in twice.ear._kept}
    one, two = found.encode([noise(9_000)])[0], twice.encode([noise(9_000)])[0]
    assert all(torch.equal(a.values, b.values) for a, b in zip(one.decoder, two.decoder, strict=True))


def panels_that_hear(model):
    layers = [*model.network.model.encoder.modules(), *(reader.kv_proj for reader in model._readers())]
    return [each for each in layers if isinstance(each, linear.Panels)]


def test_threads_share_the_work_and_change_no_bit(model):
    asked = [Hearing(noise(samples, samples)) for samples in (300, 9_000, 15_000)]
    alone = model.listen(asked)
    torch.set_num_threads(3)
    try:
        assert all(map(same, model.listen(asked), alone))
    finally:
        torch.set_num_threads(1)


def test_other_blocks_may_be_tried(model):
    audio, blocks = noise(15_000), model.blocks
    before = model.listen([Hearing(audio)])[0]
    model.hear_in(replace(blocks, size=7, left=3))
    assert not same(replace(model.listen([Hearing(audio)])[0], encoded=before.encoded), before)
    model.hear_in(blocks)
    assert same(model.listen([Hearing(audio)])[0], before)


def test_what_is_no_number_is_no_answer_and_no_neighbours_fault(model):
    broken, fine = noise(9_000), noise(9_000, 1)
    broken[5_000] = math.nan
    with pytest.raises(BadAnswer, match="hears numbers that aren't finite"):
        model.listen([Hearing(broken), Hearing(fine)])
    assert model.listen([Hearing(fine)])[0].memory.decoder[0].keys.isfinite().all()


@in_one_call
def test_layers_that_are_taken_away_are_passed_by(tmp_path, library):
    make_whisper_m2m(tmp_path, **SHAPE, speculator_blocks=0)
    model = load_model(tmp_path, device="cpu", dtype="float32")
    whole = model.listen([Hearing(noise(9_000))])[0].memory.decoder
    del model.network.model.decoder.layers[1]
    model.config = replace(model.config, decoder_layers=3)
    model.hear_in(model.blocks)
    left = model.listen([Hearing(noise(9_000))])[0].memory.decoder
    for one, other in zip(left, (whole[0], *whole[2:]), strict=True):
        torch.testing.assert_close(one.keys, other.keys, atol=1e-4, rtol=1e-4)
