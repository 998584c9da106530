import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Detection
from streamtrans.segment import Closed, EndpointRules, Opened
from streamtrans.stream.listener import AudioBuffer, Listener


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 30_000)), max_size=12))
def test_a_buffer_holds_what_was_not_forgotten(steps):
    buffer, everything = AudioBuffer(), np.zeros(0, np.float32)
    forgotten = 0
    for count, before in steps:
        chunk = np.arange(len(everything), len(everything) + count, dtype=np.float32)
        everything = np.concatenate([everything, chunk])
        buffer.append(chunk)
        buffer.forget(before)
        forgotten = max(forgotten, min(before, len(everything)))
        assert (buffer.start, buffer.end) == (forgotten, len(everything))
        np.testing.assert_array_equal(buffer.copy(forgotten, len(everything)), everything[forgotten:])


def test_what_is_forgotten_cannot_be_read():
    buffer = AudioBuffer()
    buffer.append(np.zeros(100, np.float32))
    buffer.forget(10)
    for start, end in ((9, 20), (50, 101), (30, 20)):
        with pytest.raises(ValueError, match=r"outside of what is held, \[10, 100\)"):
            buffer.copy(start, end)


def test_a_copy_is_its_own():
    buffer = AudioBuffer()
    buffer.append(np.zeros(100, np.float32))
    buffer.copy(0, 50)[:] = 1
    assert not buffer.copy(0, 50).any()


def test_orders_to_close_at_one_place_are_kept_once():
    listener = Listener(EndpointRules(), 512, "energy", 2_000)
    listener.hear(np.ones(512 * 20, np.float32))
    for _ in range(1_000):
        listener.flush()
    assert len(listener._flushes) == 1
    request = listener.detect()
    listener.detected(request, Detection((1.0,) * 20, None))
    found = []
    while (boundaries := listener.step()) is not None:
        found += boundaries
    assert found == [Opened(0), Closed(512 * 20, "forced")]
