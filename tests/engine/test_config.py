import math

import pytest

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.engine import EngineConfig


def test_a_text_may_grow_with_its_audio_up_to_the_models_size():
    config = EngineConfig(spare_tokens=12, tokens_per_s=12)
    assert config.limit(448, (1, 2), 0) == 14
    assert config.limit(448, (1, 2), 2 * SAMPLE_RATE) == 14 + 24
    assert config.limit(448, (1, 2), 2 * SAMPLE_RATE + 1) == 14 + 25
    assert config.limit(30, (1, 2), 30 * SAMPLE_RATE) == 30


def test_a_language_that_needs_more_tokens_may_have_them():
    config = EngineConfig(spare_tokens=12, tokens_per_s=12)
    assert config.limit(448, (1, 2), 2 * SAMPLE_RATE, 66.6) == 14 + 134
    assert config.limit(448, (1, 2), 2 * SAMPLE_RATE, 7.4) == 14 + 24
    assert config.limit(100, (1, 2), 2 * SAMPLE_RATE, 66.6) == 100


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("slots", 0),
        ("slots", 1.5),
        ("max_batch", 0),
        ("spare_tokens", 0),
        ("final_head_start", -1),
        ("tokens_per_s", -1.0),
        ("tokens_per_s", math.inf),
        ("top_k", 0),
        ("top_k", 1.5),
        ("drafter", "parrot"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(setting, value):
    with pytest.raises(BadConfig, match=r"top-k" if setting == "top_k" else setting):
        EngineConfig(**{setting: value})


def test_defaults_and_inf_are_in_range():
    assert EngineConfig(top_k=math.inf).drafter is None
