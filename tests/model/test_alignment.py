"""Alignment heads say where the model looks; they are watched, and change nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamtrans.core import BadModel
from streamtrans.model.api import Forward
from streamtrans.model.layers import Attention
from streamtrans.model.loading import load_model
from streamtrans.model.network import CausalHistory, Texts
from streamtrans.model.speech import TorchSpeechModel
from tests.checkpoints import make_whisper_m2m
from tests.model.test_speech_model import AUDIOS, LINE

HEADS = ((1, 0), (3, 1), (3, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aligned")
    make_whisper_m2m(folder)
    name_heads(folder, [list(pair) for pair in HEADS])
    return folder


def name_heads(folder: Path, heads: object) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": heads}))


@pytest.fixture(scope="module")
def model(folder: Path) -> TorchSpeechModel:
    return load_model(folder, device="cpu", dtype="float64")


class Seen:
    """A crossing that keeps its weights."""

    def __init__(self, attention: Attention, features: Tensor) -> None:
        self.keys, self.values = attention.keys_values(features)
        self.weights = torch.empty(0)

    def attend(self, queries: Tensor) -> Tensor:
        scores = queries @ self.keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        self.weights = scores.softmax(-1)
        return self.weights @ self.values


@torch.no_grad()
def looked(model: TorchSpeechModel, row: int, heads: tuple[tuple[int, int], ...] = HEADS) -> list[int]:
    """Return the middle of where the heads look at each token of ``LINE``, by definition."""
    decoder = model.network.model.decoder
    features, _ = model.network.model.encoder(model._frames(AUDIOS[row]))
    history = CausalHistory(Texts(torch.tensor([LINE]), torch.ones(1, len(LINE), dtype=torch.bool)))
    x = decoder.embed(torch.tensor([LINE]), torch.arange(len(LINE)))
    weights = []
    for layer in decoder.layers:
        seen = Seen(layer.encoder_attn, features)
        x = layer(x, history, seen)
        weights.append(seen.weights[0])
    found = []
    for row_weights in torch.stack([weights[at][head] for at, head in heads]).mean(0).tolist():
        frame, seen = 0, row_weights[0]
        while seen < 0.5:
            frame += 1
            seen += row_weights[frame]
        found.append(frame)
    return found


def test_heads_come_from_the_generation_config(model: TorchSpeechModel) -> None:
    assert model.manner.alignment_heads == HEADS


def test_a_text_alone_looks_where_its_attention_says(model: TorchSpeechModel) -> None:
    answers = []
    for row, memory in enumerate(model.encode(AUDIOS)):
        cache = model.allocate(1).open(memory)
        first = model.step([Forward(LINE[:3], cache, rows=1)])[0]
        rest = model.step([Forward(LINE[3:], cache, rows=2, draft=LINE[-1:])])[0]
        answers.append([*first.frames, *rest.frames])
        assert answers[-1] == looked(model, row)
    assert len(set(answers[-1])) > 1
    assert answers[-1] != looked(model, len(AUDIOS) - 1, HEADS[:1])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_ragged_batch_looks_where_each_text_alone_does_and_chooses_the_same(
    model: TorchSpeechModel, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(AUDIOS) - 1), min_size=1, max_size=4), label="audios")
    starts = [data.draw(st.integers(0, 4)) for _ in rows]
    takes = [data.draw(st.integers(1, 4)) for _ in rows]
    answered = [data.draw(st.integers(1, take)) for take in takes]
    memories = model.encode(AUDIOS)
    found = {}
    for heads in (HEADS, ()):
        model.manner = replace(model.manner, alignment_heads=heads)
        try:
            slots = model.allocate(6)
            slots.open(memories[2])
            caches = [slots.open(memories[row]) for row in rows]
            for cache, start in zip(caches, starts, strict=True):
                if start:
                    model.step([Forward(LINE[:start], cache, rows=1)])
            asked = [
                Forward(LINE[start : start + take], cache, count, LINE[start + take - count + 1 : start + take], 2)
                for cache, start, take, count in zip(caches, starts, takes, answered, strict=True)
            ]
            found[heads] = model.step(asked[::-1])[::-1]
        finally:
            model.manner = replace(model.manner, alignment_heads=HEADS)
    for row, start, take, watched, plain in zip(rows, starts, takes, found[HEADS], found[()], strict=True):
        assert plain.frames == ()
        assert replace(watched, frames=()) == plain  # to the last bit
        assert list(watched.frames) == looked(model, row)[start : start + take]


@pytest.mark.parametrize("heads", [[[4, 0]], [[0, 2]], [[0]], [3], "all", [[-1, 0]]])
def test_heads_that_the_decoder_lacks_are_refused(tmp_path: Path, heads: object) -> None:
    make_whisper_m2m(tmp_path)
    name_heads(tmp_path, heads)
    with pytest.raises(BadModel, match="4 layers with 2 heads each"):
        load_model(tmp_path)


def test_without_heads_nothing_is_watched(tmp_path: Path) -> None:
    make_whisper_m2m(tmp_path)
    name_heads(tmp_path, None)
    assert load_model(tmp_path).manner.alignment_heads == ()


def test_narrow_numbers_are_added_up_wide(folder: Path) -> None:
    model = load_model(folder, device="cpu", dtype="bfloat16")
    caches = [model.allocate(1).open(memory) for memory in model.encode(AUDIOS[3:4])]
    [answer] = model.step([Forward(LINE, cache, rows=1) for cache in caches])
    assert all(0 <= frame < caches[0].frames for frame in answer.frames)
