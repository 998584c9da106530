"""A slope is only as sure as its samples are independent."""

import math

import numpy as np
import pytest

from streamtrans.metrics import trend

MINUTES = np.arange(440) / 4


def wandering(random, memory):
    """Return noise of deviation 1 that forgets within `memory` minutes, a sample every quarter of one."""
    keep = math.exp(-0.25 / memory)
    steps = random.normal(size=len(MINUTES)) * math.sqrt(1 - keep**2)
    values = [random.normal()]
    for step in steps[1:]:
        values.append(keep * values[-1] + step)
    return np.array(values)


def test_a_straight_line_is_found():
    found = trend(MINUTES + 7, 600 + 0.25 * MINUTES, block=5)
    assert (found.per_minute, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.blocks == 22
    assert found.grows
    assert not trend(MINUTES, 600 - 0.25 * MINUTES, block=5).grows


def test_nothing_is_said_of_too_little():
    assert trend([], [], block=5) is None
    assert trend(MINUTES[:70], MINUTES[:70], block=5) is None


@pytest.mark.parametrize("memory", [0.1, 1, 5])
def test_the_interval_holds_what_is_true_though_samples_resemble_their_neighbours(memory):
    random = np.random.default_rng(1)
    found = [trend(MINUTES, 0.01 * MINUTES + wandering(random, memory), block=5) for _ in range(300)]
    assert np.mean([each.low <= 0.01 <= each.high for each in found]) >= 0.93
    # and it isn't so wide that it says nothing: growth of 5 deviations in two hours is seen
    grown = [trend(MINUTES, 5 / 110 * MINUTES + wandering(random, memory), block=5) for _ in range(100)]
    assert np.mean([each.grows for each in grown]) > 0.8
