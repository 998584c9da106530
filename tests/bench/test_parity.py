from dataclasses import replace

import pytest

from streamtrans.bench.parity import (
    MEDIUM,
    MEDIUM_M2M,
    compare_with_transformers,
    count_parameters,
    parity_figures,
)

TINY = replace(
    MEDIUM,
    d_model=32,
    encoder_layers=2,
    encoder_attention_heads=2,
    encoder_ffn_dim=64,
    decoder_layers=3,
    decoder_attention_heads=4,
    decoder_ffn_dim=48,
    vocab_size=400,
    max_source_positions=100,
    max_target_positions=40,
)


def test_a_small_shape_agrees_with_transformers():
    parity = compare_with_transformers(TINY, tokens=6, gain=4.0)
    assert parity.worst < 1e-4
    assert parity.logit_std > 0.2
    figures = parity_figures(parity)
    assert figures["worst"] == max(figures["prefill"], figures["stepwise"])
    assert figures["tokens"] == 6


def test_parameters_at_medium_shape_are_the_papers():
    counts = count_parameters(MEDIUM_M2M)
    assert counts["speech_translation"] / 1e6 == pytest.approx(560.8, abs=0.05)
    assert counts["with_speculator"] / 1e6 == pytest.approx(604.9, abs=0.05)
    assert counts["speculator"] / 1e6 == pytest.approx(44.09, abs=0.005)
