"""Our lean modules compute what transformers computes, on random checkpoints of several shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from streamtrans.model.api import Forward
from streamtrans.model.loading import load_model
from streamtrans.model.network import Texts
from tests.checkpoints import make_whisper

SHAPES = [
    {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
     "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 80},
    {"d_model": 48, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 4,
     "decoder_attention_heads": 6, "encoder_ffn_dim": 96, "decoder_ffn_dim": 40, "num_mel_bins": 128},
    {"d_model": 64, "encoder_layers": 1, "decoder_layers": 4, "encoder_attention_heads": 1,
     "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 128, "num_mel_bins": 40},
]  # fmt: skip


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16_000)) / 16_000
    tones = np.sin(2 * np.pi * 180 * t) * np.sin(2 * np.pi * 3 * t)
    return (0.3 * tones + 0.05 * rng.standard_normal(t.size)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers_in_prefill_and_step_by_step(tmp_path: Path, shape: dict[str, int]) -> None:
    reference = make_whisper(tmp_path, **shape)
    ours = load_model(tmp_path, device="cpu", dtype="float32")
    audio = speech(1.3)
    mel = WhisperFeatureExtractor.from_pretrained(tmp_path)(audio, sampling_rate=16_000, return_tensors="pt")
    np.testing.assert_allclose(ours._frames(audio).numpy(), mel["input_features"].numpy(), atol=1e-5)
    tokens = torch.tensor([[1, 2, 50, 60, 70, 80, 90, 100]])
    with torch.no_grad():
        wanted = reference(mel["input_features"], decoder_input_ids=tokens).logits[0].log_softmax(-1)
        features, _ = ours.network.model.encoder(ours._frames(audio))
        hidden, _ = ours.network.read_targets(Texts(tokens, tokens > 0), features, None)
        whole = ours.network.model.decoder.logits(hidden)[0].log_softmax(-1)
    torch.testing.assert_close(whole, wanted, atol=1e-4, rtol=0)

    memory = ours.encode([audio])[0]
    slots = ours.allocate(1)
    allowed = torch.isfinite(ours.suppression)
    line = tokens[0].tolist()
    for pieces in ([line], [[token] for token in line], [line[:3], line[3:4], line[4:]]):
        cache = slots.open(memory)
        at = 0
        for piece in pieces:
            answer = ours.step([Forward(tuple(piece), cache, rows=len(piece), draft=tuple(piece[1:]))])[0]
            for row, (token, logprob) in enumerate(zip(answer.tokens, answer.logprobs, strict=True)):
                masked = wanted[at + row].masked_fill(~allowed, float("-inf")).log_softmax(-1)
                assert token == int(masked.argmax())
                assert logprob == pytest.approx(float(masked.max()), abs=1e-4)
            at += len(piece)
        slots.release(cache)


def test_in_float16_the_encoder_is_held_away_from_infinity_as_in_transformers(tmp_path: Path) -> None:
    reference = make_whisper(tmp_path, **SHAPES[1])
    with torch.no_grad():
        for layer in reference.model.encoder.layers:
            layer.fc2.bias[3] += 40_000.0  # twice that is more than float16 holds
    reference.save_pretrained(tmp_path)
    ours = load_model(tmp_path, device="cpu", dtype="float16")
    mel = ours._frames(speech(1.3))
    with torch.no_grad():
        wanted = reference.half().model.encoder(mel).last_hidden_state
        features, _ = ours.network.model.encoder(mel)
    assert torch.isfinite(wanted).all()
    torch.testing.assert_close(features, wanted, atol=2e-2, rtol=0)
    assert ours.encode([speech(1.3)])[0].frames == 100
