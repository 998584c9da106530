from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAudio
from streamtrans.text import Tokenizer
from streamtrans.train.finetune.batches import POOL, Manner, Order, Passes, Share, load
from streamtrans.train.finetune.corpus import Corpus, Limits, prepare
from streamtrans.train.finetune.recipe import Source
from tests.train.finetune.conftest import LANGUAGES


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), batch=st.integers(1, 6), seed=st.integers(0, 99))
def test_every_epoch_sees_every_recording_once(count: int, batch: int, seed: int) -> None:
    order = Order(np.random.default_rng(seed).random(count).astype(np.float32), batch, seed)
    seen = Counter(int(row) for step in range(POOL) for row in order.rows(step))
    whole, rest = divmod(POOL * batch, count)
    assert set(seen.values()) <= ({whole, whole + 1} if rest else {whole}) | {0}
    assert sum(seen.values()) == POOL * batch


@settings(max_examples=40, deadline=None)
@given(devices=st.integers(1, 4), passes=st.integers(1, 3), each=st.integers(1, 3), step=st.integers(0, 200))
def test_the_shares_of_a_step_are_the_step(devices: int, passes: int, each: int, step: int) -> None:
    order = Order(np.arange(50, dtype=np.float32), devices * passes * each, 1)
    rows = order.rows(step)
    shares = [Share(device, devices, passes).of(rows, number) for device in range(devices) for number in range(passes)]
    assert {len(share) for share in shares} == {each}
    assert sorted(np.concatenate(shares)) == sorted(rows)


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    seconds = np.random.default_rng(0).random(40).astype(np.float32)
    steadily = Order(seconds, 4, 7)
    rows = [steadily.rows(step).tolist() for step in range(3 * POOL)]
    for step in (0, 5, POOL, 3 * POOL - 1):
        assert Order(seconds, 4, 7).rows(step).tolist() == rows[step]
    assert Order(seconds, 4, 8).rows(0).tolist() != rows[0]


@pytest.fixture
def checked(tmp_path: Path, base: Path, corpus: Path) -> Corpus:
    limits = Limits(LANGUAGES, 2.0, 48)
    source = Source("manifest", str(corpus / "train.tsv"))
    return prepare(tmp_path / "run", "train", [source], limits, Tokenizer.load(base), on_bad="skip", say=print)


def passes(corpus: Corpus, base: Path, refuse: bool = False) -> Passes:
    order = Order(corpus.seconds, 4, 1)
    manner = Manner(base, longest=200, targets=2, masks=0.5, refuse=refuse)
    return Passes(corpus, order, Share(), manner, corpus.path.with_name("problems.txt"))


def test_a_pass_is_made_alike_wherever_it_is_made(checked: Corpus, base: Path) -> None:
    here = [passes(checked, base)[number] for number in range(4)]
    beside = list(load(passes(checked, base), 1, 4, processes=1))
    assert [work.examples for work in beside] == [work.examples for work in here[1:]]
    for one, other in zip(here[1:], beside, strict=True):
        assert torch.equal(one.batch.tokens, other.batch.tokens)
        assert torch.equal(one.batch.mel, other.batch.mel)
        assert torch.equal(one.batch.source, other.batch.source)


def test_source_texts_reach_the_text_encoder_as_they_are(checked: Corpus, base: Path) -> None:
    tokenizer = Tokenizer.load(base)
    work = passes(checked, base)[0]
    for row, example in enumerate(work.examples):
        read = work.batch.source[row][work.batch.source_visible[row]].tolist()
        assert read == [*tokenizer.encode(example.texts[example.language]), tokenizer.eot]


def test_a_recording_that_ends_too_early_is_replaced_and_reported(checked: Corpus, base: Path, tmp_path: Path) -> None:
    victim = passes(checked, base)[0].examples[0]
    whole = Path(victim.audio).read_bytes()
    try:
        Path(victim.audio).write_bytes(whole[: len(whole) // 2])
        first, again = (passes(checked, base) for _ in range(2))
        assert victim not in first[0].examples
        assert first[0].examples == again[0].examples
        assert torch.equal(first[0].batch.mel, again[0].batch.mel)
        reported = (tmp_path / "run" / "problems.txt").read_text()
        assert f"{victim.where}: unreadable audio: " in reported
        with pytest.raises(BadAudio, match="takes another in its place"):
            passes(checked, base, refuse=True)[0]
    finally:
        Path(victim.audio).write_bytes(whole)
