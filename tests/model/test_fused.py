"""A pass in one call says what operators say; what is compiled for it lies where nobody else writes."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAnswer
from streamtrans.model import linear, native
from streamtrans.model.api import Forward, Propose
from streamtrans.model.linear import Int8Panels, Panels
from streamtrans.model.loading import load_model
from streamtrans.model.native import Refused, build, check_private
from streamtrans.model.pages import CHUNK, PAGE, settle
from streamtrans.model.scoring import Rules, Scorer, weigh_at_once, weigh_by_operators
from tests.checkpoints import SPECULATORS, make_whisper_m2m
from tests.contracts.test_passes import AUDIOS, HEADS, LINE, SHAPE

torch.set_num_threads(1)

in_one_call = pytest.mark.parametrize("library", [native.library()] if native.library() else [])
"""Left out where there is no library, as what needs instructions is where a processor lacks them."""
compiled = pytest.mark.parametrize("compiler", [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1])
LINEARS = {"float32": Panels, "bfloat16": Panels, "int8": Int8Panels}
ROUNDING = {"float32": 1e-5, "bfloat16": 2**-8, "int8": 0.02}
HERE = [precision for precision in LINEARS if linear.paneled(precision)]


def pair(folder, dtype="float32"):
    """Load a folder twice: for one call, and for operators."""
    at_once = load_model(folder, device="cpu", dtype=dtype)
    with native.switched_off():
        by_operators = load_model(folder, device="cpu", dtype=dtype)
    assert at_once.stack is not None
    assert by_operators.stack is None
    return at_once, by_operators


def ragged(model, memories=()):
    """Read and guess with holes between slots, unequal lengths and memories, in no order."""
    memories = memories or model.encode(AUDIOS)
    slots = model.allocate(7)
    caches = [slots.open(memory) for memory in (*memories, *memories[3:])]
    for at, cache in enumerate(caches):
        if at % 4:
            model.step([Forward(LINE[: at % 4], cache, 1)])
    asked = [
        Forward(LINE[at % 4 : at % 4 + 3], caches[at], rows, LINE[at % 4 + 1 : at % 4 + rows], 3)
        for at, rows in ((6, 3), (0, 1), (4, 2), (3, 3))
    ]
    answers = model.step(asked)
    chains = ((LINE[1:4], 4, 3), (LINE[3:4], 2, 5), (LINE[6:7], 3, 2))
    guesses = model.propose([Propose(tokens, caches[at], count, width=3) for tokens, at, count in chains])
    return answers, guesses


@in_one_call
@pytest.mark.parametrize("kind", SPECULATORS)
def test_one_call_says_what_operators_say(tmp_path, kind, library):
    make_whisper_m2m(tmp_path, **{**SHAPE, "speculator_own_keys": False, **SPECULATORS[kind]})
    (tmp_path / "generation_config.json").write_text(f'{{"alignment_heads": {[list(head) for head in HEADS]}}}')
    (found, guessed), (wanted, drafted) = (ragged(model) for model in pair(tmp_path))
    for one, other in zip(found, wanted, strict=True):
        assert (one.tokens, one.ranks, one.frames) == (other.tokens, other.ranks, other.frames)
        assert one.frames
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.draft_logprobs == pytest.approx(other.draft_logprobs, abs=1e-4)
        for mine, others in zip(one.candidates, other.candidates, strict=True):
            assert dict(mine) == pytest.approx(dict(others), abs=1e-4)
    for guess, other in zip(guessed, drafted, strict=True):
        assert guess.tokens == other.tokens
        assert guess.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert dict(guess.candidates) == pytest.approx(dict(other.candidates), abs=1e-4)
    assert any(guess.tokens for guess in guessed)


@in_one_call
def test_layers_that_are_taken_away_are_passed_by(tmp_path, library):
    make_whisper_m2m(tmp_path, **SHAPE, speculator_blocks=0)
    models = pair(tmp_path)
    whole = [read(model) for model in models]
    for model in models:
        del model.network.model.decoder.layers[1]
        model.config = replace(model.config, decoder_layers=3)
    found, wanted = (read(model) for model in models)
    assert found == pytest.approx(wanted, abs=1e-4)
    assert found != pytest.approx(whole[0], abs=1e-2)


def read(model):
    cache = model.allocate(1).open(model.encode(AUDIOS[3:4])[0])
    return model.step([Forward(LINE, cache, len(LINE))])[0].logprobs


@pytest.mark.parametrize("dtype", [dtype for dtype in HERE if dtype != "float32"])
def test_narrow_numbers_say_what_operators_say_nearly(tmp_path, dtype):
    tolerance = {"bfloat16": 0.4, "int8": 0.1}[dtype]
    make_whisper_m2m(tmp_path, **SHAPE)
    (found, _), (wanted, _) = (ragged(model) for model in pair(tmp_path, dtype))
    for one, other in zip(found, wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=tolerance)


@in_one_call
def test_threads_share_the_work_and_change_no_bit(tmp_path, library):
    make_whisper_m2m(tmp_path, **SHAPE)
    model = load_model(tmp_path, device="cpu", dtype="float32")
    memories = model.encode(AUDIOS)
    alone = ragged(model, memories)
    torch.set_num_threads(3)
    try:
        assert ragged(model, memories) == alone
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("precision", HERE)
@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 20),
    inputs=st.sampled_from([16, 48, 192, 512]),
    outputs=st.sampled_from([1, 33, 64, 160]),
    seed=st.integers(0, 1000),
)
def test_a_product_of_panels_is_the_product_row_by_row(precision, count, inputs, outputs, seed):
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=random)
    weight = weight.to(linear.PRECISIONS[precision])
    bias = torch.randn(outputs, generator=random) if seed % 2 else None
    rows = torch.randn(count, inputs, generator=random) * torch.rand(count, 1, generator=random)
    layer = LINEARS[precision](weight, bias)
    together = layer(rows)
    wanted = torch.nn.functional.linear(rows, weight.float(), bias)
    most = rows.norm(dim=1, keepdim=True) * weight.float().norm(dim=1)
    assert ((together - wanted).abs() <= ROUNDING[precision] * most + 1e-6).all()
    for row, found in zip(rows, together, strict=True):
        assert torch.equal(found, layer(row[None])[0])


@in_one_call
@settings(max_examples=60, deadline=None)
@given(size=st.integers(2, 70), seed=st.integers(0, 10_000), drafted=st.booleans())
def test_rows_are_weighed_at_once_as_by_operators(library, size, seed, drafted):
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(-4, 5, (5, size + 3), generator=random).float()[:, :size]  # ties, and rows lie apart
    mask = torch.where(torch.rand(size, generator=random) < 0.2, -math.inf, 0.0)
    mask[seed % size] = 0
    drafts = [int(torch.randint(size, (), generator=random)) if drafted else None for _ in scores]
    found, wanted = weigh_at_once(scores.clone(), mask, drafts), weigh_by_operators(scores.clone(), mask, drafts)
    for one, other in zip(found, wanted, strict=True):
        assert (one.token, one.rank) == (other.token, other.rank)
        assert (one.logprob, one.draft_logprob) == pytest.approx((other.logprob, other.draft_logprob), abs=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_no_numbers_choose_nothing(tmp_path, broken):
    make_whisper_m2m(tmp_path, **SHAPE)
    model = load_model(tmp_path, device="cpu", dtype="float32")
    cache = model.allocate(1).open(model.encode(AUDIOS[2:3])[0])
    scorer = Scorer("m", Rules(40, eot=0), torch.device("cpu"), torch.float32)
    logits = torch.zeros(2, 40)
    logits[1, 17] = broken
    with pytest.raises(BadAnswer, match="the scores of m aren't finite"):
        scorer.answer(logits, [Forward((1, 2), cache, 2)])


@pytest.mark.parametrize("precision", HERE)
@pytest.mark.parametrize("at", [0, 5, 17, 63])
def test_a_row_that_holds_no_number_gives_none(precision, at):
    random = torch.Generator().manual_seed(at)
    layer = LINEARS[precision](torch.randn(33, 64, generator=random).to(linear.PRECISIONS[precision]), None)
    rows = torch.randn(3, 64, generator=random)
    rows[1, at] = math.nan
    found = layer(rows)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], layer(rows[[0, 2]]))


def test_weights_lie_behind_each_other_and_are_what_they_were():
    random = torch.Generator().manual_seed(0)
    many = [torch.randn(rows, 33, generator=random).to(dtype) for rows in (3, 70) for dtype in (torch.int8, torch.half)]
    found = [settle(each.t()) for each in many]
    for one, each in zip(found, many, strict=True):
        assert torch.equal(one, each.t())
        assert one.data_ptr() % 64 == 0
    large = settle(torch.ones(CHUNK + 1, dtype=torch.uint8))
    assert large.data_ptr() % PAGE == 0
    assert large.sum() == CHUNK + 1


PROCESSORS = {"x86-64-v3": (False, False), "cascadelake": (True, False), "alderlake": (True, False)} | {
    "sapphirerapids": (True, True)
}
"""Kind of processor → whether it multiplies whole numbers, and rounded ones: by AVX2, VNNI, AVX-VNNI, and BF16."""


@compiled
@pytest.mark.parametrize("processor", PROCESSORS if platform.machine() == "x86_64" else [])
def test_each_kind_of_processor_has_its_instructions(tmp_path, processor, compiler):
    """The library is asked what it has and computes nothing, so that any processor can say so."""
    found = compiled_with(tmp_path, compiler, f"-march={processor}")
    assert tuple(bool(found.streamtrans_has(kind)) for kind in (native.WHOLE, native.ROUNDED)) == PROCESSORS[processor]
    assert found.streamtrans_has(native.FLOAT)
    assert found.streamtrans_has(native.HALF)


def compiled_with(folder, compiler, *flags):
    file = folder / "other.so"
    source = ["-shared", "-fPIC", str(native.SOURCE), "-lm", "-o", str(file)]
    subprocess.run([compiler, "-O2", "-fno-math-errno", *flags, *source], check=True, capture_output=True)
    return native._declare(ctypes.CDLL(str(file)))


LESSER = {"256 bits": ("-march=native", "-DNARROW"), "no AVX-512": ("-march=native", "-mno-avx512f")}
"""What there is on lesser processors than this one, which can run it too."""
SERVED = [(each, what) for each in HERE for what in LESSER if (each, what) != ("int8", "no AVX-512")]
"""Whole numbers go by operators there."""


@compiled
@pytest.mark.parametrize(("precision", "lesser"), SERVED if platform.machine() == "x86_64" else [])
def test_lesser_instructions_give_the_same_texts(tmp_path, monkeypatch, precision, lesser, compiler):
    found = compiled_with(tmp_path, compiler, *LESSER[lesser])
    make_whisper_m2m(tmp_path, **SHAPE)
    model = load_model(tmp_path, device="cpu", dtype=precision)
    memories = model.encode(AUDIOS)
    wanted, guessed = ragged(model, memories)
    monkeypatch.setattr(native, "_loaded", lambda: found)
    if precision == "bfloat16":  # laid out for an instruction that there isn't
        model = load_model(tmp_path, device="cpu", dtype=precision)
    answers, guesses = ragged(model, memories)
    assert [each.tokens for each in answers] == [each.tokens for each in wanted]
    assert [each.tokens for each in guesses] == [each.tokens for each in guessed]
    close = 0.2 if precision == "bfloat16" else 1e-4  # one rounds what it multiplies
    for one, other in zip(answers, wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=close)
    for asked, memory in zip(([6, 1], [2, 4]), memories[3:], strict=True):
        line = LINE[: sum(asked)]
        whole, parts = (model.allocate(1).open(memory) for _ in range(2))
        together = model.step([Forward(line, whole, len(line))])[0].logprobs
        pieces = (line[: asked[0]], line[asked[0] :])
        assert together == tuple(
            x for each in pieces for x in model.step([Forward(each, parts, len(each))])[0].logprobs
        )


@pytest.mark.parametrize("precision", HERE)
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_what_torch_makes_by_default_changes_nothing(tmp_path, precision, default):
    make_whisper_m2m(tmp_path, **SHAPE)
    model = load_model(tmp_path, device="cpu", dtype=precision)
    memories = model.encode(AUDIOS)
    wanted = ragged(model, memories)
    torch.set_default_dtype(default)
    try:
        assert ragged(model, memories) == wanted
        again = load_model(tmp_path, device="cpu", dtype=precision)
        torch.set_default_dtype(torch.float32)
        assert ragged(again, memories) == wanted
    finally:
        torch.set_default_dtype(torch.float32)


@in_one_call
def test_more_heads_than_can_be_watched_go_layer_by_layer(tmp_path, library):
    wide = {"d_model": 65 * 16, "decoder_attention_heads": 65, "decoder_ffn_dim": 16, "encoder_attention_heads": 65}
    make_whisper_m2m(tmp_path, **{**SHAPE, **wide, "encoder_ffn_dim": 16, "speculator_blocks": 0})
    assert load_model(tmp_path, device="cpu", dtype="float32").stack is None


@compiled
def test_a_file_that_was_cut_short_is_compiled_again(tmp_path, compiler):
    tmp_path.chmod(0o700)
    build(tmp_path).write_bytes(b"")
    assert native._opened(tmp_path).streamtrans_pass


@compiled
def test_whatever_stands_in_cc_is_no_traceback(tmp_path, monkeypatch, compiler):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("CC", "gcc '")
    with pytest.raises(Refused, match="CC is no command"):
        build(tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    assert build(tmp_path).exists()


def test_a_folder_that_others_can_replace_is_not_used(tmp_path):
    folder = tmp_path / "open" / "native"
    folder.mkdir(mode=0o700, parents=True)
    folder.parent.chmod(0o777)
    with pytest.raises(Refused, match="could be replaced by others"):
        build(folder)


@in_one_call
def test_it_is_compiled_while_a_model_is_loaded(tmp_path, library):
    """Whatever the model: here one that passes layer by layer, and chooses at once."""
    told = (
        "import torch\nfrom streamtrans.model import native\nfrom streamtrans.model.scoring import Rules, Scorer\n"
        "Scorer('m', Rules(40, eot=0), torch.device('cpu'), torch.float32)\n"
        "print(native._loaded.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@compiled
def test_it_is_compiled_once_for_the_owner_alone(tmp_path, monkeypatch, compiler):
    tmp_path.chmod(0o700)
    made = build(tmp_path)
    assert made.stat().st_mode & 0o077 == 0
    assert [*tmp_path.iterdir()] == [made]
    monkeypatch.setenv("CC", "false")
    assert build(tmp_path) == made
    made.chmod(0o722)
    with pytest.raises(Refused, match="could be written by others"):
        build(tmp_path)
    elsewhere = made.rename(tmp_path / "elsewhere")
    made.symlink_to(elsewhere)
    with pytest.raises(Refused, match="is a link"):
        build(tmp_path)
    made.unlink()
    with pytest.raises(Refused, match=r"false can't compile native\.c"):
        build(tmp_path)
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="there is no C compiler"):
        build(tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(Refused, match="could be written by others"):
        build(tmp_path)


def test_what_is_somebody_elses_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Refused, match="could be written by others"):
        check_private(tmp_path)


TOLD = """
import torch
from streamtrans.model import native
from streamtrans.model.loading import load_model
assert not native._loaded.cache_info().currsize, "loaded at import"
print(load_model(None, device="cpu", dtype="float32").stack is None, native.why_not())
"""


@pytest.mark.parametrize("how", ["switch", "no compiler", "no home"])
def test_without_it_a_model_goes_layer_by_layer(tmp_path, how):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    if how == "switch":
        environment["STREAMTRANS_FUSED"] = "0"
    elif how == "no compiler":
        environment |= {"PATH": str(tmp_path), "CC": ""}
    else:
        (tmp_path / "cache").write_text("a file")
    done = subprocess.run(
        [sys.executable, "-c", TOLD], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = {
        "switch": "True switched off by STREAMTRANS_FUSED=0",
        "no compiler": "True there is no C compiler (cc, gcc or clang)",
        "no home": "True there is no folder for what is compiled: ",
    }
    assert done.stdout.startswith(said[how])


@pytest.mark.parametrize("count", [1, 7, 4_099])
def test_numbers_are_read_once_and_all_of_them(count):
    numbers = torch.randint(2**63 - 1, (count,), generator=torch.Generator().manual_seed(count))
    bits = sum(numbers.tolist()) % 2**64
    assert native.read(numbers) == bits
    with native.switched_off():
        assert native.read(numbers) == bits
