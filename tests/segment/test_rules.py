import math

import pytest

from streamtrans.core import BadConfig
from streamtrans.segment import EndpointRules


def test_the_defaults_are_valid_and_frozen() -> None:
    rules = EndpointRules()
    assert (rules.threshold, rules.release_threshold) == (0.5, 0.45)
    with pytest.raises(AttributeError):
        rules.threshold = 0.7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, r"threshold must be in \(0, 1\]; got 0"),
        ({"threshold": 1.2}, r"threshold must be in \(0, 1\]; got 1.2"),
        ({"threshold": math.nan}, "threshold must be a finite number; got nan"),
        ({"release_threshold": 0.6}, r"release_threshold must be in \(0, threshold = 0.5\]; got 0.6"),
        ({"sure_threshold": 0.4}, r"sure_threshold must be in \[threshold = 0.5, 1\]; got 0.4"),
        ({"onset_threshold": 0.0}, r"onset_threshold must be in \(0, release_threshold = 0.45\]; got 0"),
        ({"onset_threshold": 0.5}, r"onset_threshold must be in \(0, release_threshold = 0.45\]; got 0.5"),
        ({"onset_reach_ms": -1}, "onset_reach_ms must not be negative; got -1"),
        ({"min_speech_ms": 0}, "min_speech_ms must be positive; got 0"),
        ({"min_silence_ms": -1}, "min_silence_ms must be positive; got -1"),
        ({"pre_roll_ms": -5}, "pre_roll_ms must not be negative; got -5"),
        ({"padding_ms": -5}, "padding_ms must not be negative; got -5"),
        ({"padding_ms": 600}, r"padding_ms \(600\) must not exceed min_silence_ms \(500\)"),
        ({"cut_search_ms": 6001}, r"cut_search_ms \(6001\) must be at most half of max_segment_ms \(12000\)"),
    ],
)
def test_bad_values_are_refused_by_name(settings: dict[str, float], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        EndpointRules(**settings)
