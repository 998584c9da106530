"""Delays as a client sees them, and how the largest number that fits is found."""

import pytest

from streamtrans.bench.delays import Delays, largest, percentiles_ms
from streamtrans.core import Caption, SpeechStarted


def caption(committed, tentative="", *, heard_s, final=False, segment=0):
    end = round(16_000 * heard_s)
    return Caption(segment, 1, "de", committed, tentative, final, 16_000, end, end)


def test_each_delay_is_counted_from_the_sound_that_it_is_about():
    delays = Delays()
    for event, at in (
        (SpeechStarted(0, 16_000), 1.1),
        (caption("", "", heard_s=1.2), 1.3),
        (caption("", "eins", heard_s=1.5), 1.7),
        (caption("eins", " zwei", heard_s=2.0), 2.3),
        (caption("eins zwei drei", heard_s=2.4, final=True), 3.0),
    ):
        delays.told(event, 0, at)
    assert delays.seconds == {
        "first partial": [pytest.approx(0.7)],
        "partial": [pytest.approx(0.2), pytest.approx(0.3)],
        "commit": [pytest.approx(0.8), pytest.approx(1.0), pytest.approx(0.6)],
        "final": [pytest.approx(0.6)],
    }


def test_percentiles_are_of_all_streams_together():
    one, other = Delays(), Delays()
    one.seconds["final"], other.seconds["final"] = [0.1] * 98, [0.2, 0.9]
    told = percentiles_ms([one, other])
    assert told["final"] == {"p50": 100, "p90": 100, "p95": 100, "p99": 200}
    assert told["commit"] is None


@pytest.mark.parametrize("carries", [0, 1, 2, 3, 5, 8, 21, 64, 100])
def test_the_largest_is_found_in_few_steps(carries):
    fits = {}
    while (number := largest(fits)) is not None:
        fits[number] = number <= carries
    assert max((number for number, fit in fits.items() if fit), default=0) == carries
    assert len(fits) <= 2 * max(1, carries).bit_length() + 1
