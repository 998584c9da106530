"""The pieces of a call: what waits, how fast audio may come, how long it took."""

import asyncio
from collections import Counter

import grpc
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from streamtrans.core import Caption, Job, SpeechEnded, SpeechStarted
from streamtrans.server import Limits
from streamtrans.server.arrivals import Arrivals, percentile
from streamtrans.server.intake import Intake, Pace
from streamtrans.server.outbox import Answer, Outbox
from streamtrans.server.refusal import Refusal, refusal_in
from streamtrans.testing.clock import ManualClock
from streamtrans.wire import Encoder, Reducer, StreamOptions


def caption(segment, language, revision, *, final=False):
    committed = "".join(f" {number}" for number in range(revision))
    return Caption(segment, revision, language, committed, "" if final else " ?", final, 0, 16, 16)


@st.composite
def streams(draw):
    events = []
    for segment in range(draw(st.integers(1, 3))):
        events.append(SpeechStarted(segment, 0))
        count = Counter()
        for language in draw(st.lists(st.sampled_from(["de", "fr"]), max_size=8)):
            count[language] += 1
            events.append(caption(segment, language, count[language]))
        events.append(SpeechEnded(segment, 16))
        events += [caption(segment, language, count[language] + 1, final=True) for language in ("de", "fr")]
    return events


@settings(max_examples=60, deadline=None)
@given(streams(), st.lists(st.booleans(), max_size=60))
def test_a_slow_client_gets_all_that_was_promised(events, reads):
    async def run():
        box, taken, pace = Outbox(), [], iter(reads)
        for event in events:
            box.put(event)
            if next(pace, False):
                taken.append(await box.take())
        box.close()
        while (item := await box.take()) is not None:
            taken.append(item)
        return taken

    taken = asyncio.run(run())
    assert [e for e in taken if not isinstance(e, Caption)] == [e for e in events if not isinstance(e, Caption)]
    assert [e for e in taken if isinstance(e, Caption) and e.final] == [
        e for e in events if isinstance(e, Caption) and e.final
    ]
    for key in {(e.segment, e.language) for e in taken if isinstance(e, Caption)}:
        line = [e for e in taken if isinstance(e, Caption) and (e.segment, e.language) == key]
        assert [e.revision for e in line] == sorted({e.revision for e in line})
        assert taken.index(line[0]) > taken.index(SpeechStarted(key[0], 0))
        assert taken.index(line[-1]) > taken.index(SpeechEnded(key[0], 16))
    encoder, reducer = Encoder(), Reducer()
    texts = [reducer.reduce(encoder.encode(event)) for event in taken]
    assert [e.text for e in texts if isinstance(e, Caption)] == [e.text for e in taken if isinstance(e, Caption)]


async def test_the_box_waits_for_what_is_put_in_later():
    box = Outbox()
    taking = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.put(Answer(3))
    assert await taking == Answer(3)
    taking = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.close()
    assert await taking is None
    assert len(box) == 0


def test_pace_allows_a_burst_and_then_twice_real_time():
    clock = ManualClock()
    pace = Pace(Limits(max_real_time_factor=2, burst_ms=5_000), clock)
    assert pace.spend(5 * 16_000) == 0
    assert pace.spend(16_000) == pytest.approx(0.5)
    clock.advance(0.5)
    assert pace.spend(0) == pytest.approx(0)
    assert pace.spend(16_000) == pytest.approx(0.5)


def test_unused_pace_is_kept_up_to_the_burst():
    clock = ManualClock()
    pace = Pace(Limits(max_real_time_factor=2, burst_ms=1_000), clock)
    pace.spend(16_000)
    clock.advance(3_600)
    assert pace.spend(16_000) == 0
    assert pace.spend(16_000) > 0


def job(start, end, *, last=False):
    return Job(0, start, end, last, np.zeros(0, np.float32), ())


def test_lag_is_from_arrival_to_the_first_reading_that_includes_it():
    arrivals = Arrivals()
    for second in range(1, 5):
        arrivals.arrived(100, float(second))
    arrivals.began(job(100, 300))
    assert arrivals.lag_s(5.0) == 3.0  # the chunk of second 2 is being read
    arrivals.read(job(100, 300), 6.0)
    assert list(arrivals.lags_s) == [4.0, 3.0]  # the first chunk was silence, the last waits
    assert arrivals.lag_s(60.0) == 3.0
    arrivals.skip(400)
    arrivals.read(job(100, 400), 9.0)
    assert len(arrivals.lags_s) == 2
    assert arrivals.received == 400


def test_first_captions_are_timed_from_the_arrival_of_the_first_sound():
    arrivals = Arrivals()
    arrivals.arrived(100, 1.0)
    arrivals.arrived(100, 2.0)
    arrivals.saw(SpeechStarted(0, 150), 2.5)
    arrivals.saw(caption(0, "de", 0, final=True), 2.6)  # closed without a word
    arrivals.saw(SpeechStarted(1, 100), 2.7)
    arrivals.saw(caption(1, "de", 1), 3.0)
    arrivals.saw(caption(1, "de", 2), 4.0)
    assert list(arrivals.first_captions_s) == [1.0]
    assert arrivals.segments == 2


def test_old_arrivals_are_forgotten():
    arrivals = Arrivals()
    for second in range(400):
        arrivals.arrived(16_000, float(second))
        arrivals.skip(arrivals.received)
    assert len(arrivals._history) < 130
    assert len(arrivals._unread) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 100))
def test_percentile_is_the_nearest_rank(values, percent):
    result = percentile(values, percent)
    assert result in values
    assert sum(value <= result for value in values) * 100 >= percent * len(values)
    assert sum(value < result for value in values) * 100 < percent * len(values)


def test_no_values_have_percentile_zero():
    assert percentile([], 50) == 0


@pytest.mark.parametrize("encoding", ["mulaw", "alaw", "pcm_s16le", "pcm_f32le"])
def test_silence_is_silent_in_every_encoding(encoding):
    intake = Intake(StreamOptions(("de",), encoding=encoding, channels=2), Limits())
    pieces = list(intake.silence(2_500))
    assert [len(piece) for piece in pieces] == [16_000, 16_000, 8_000]
    assert max(float(np.abs(piece).max()) for piece in pieces) < 3e-4


def test_refusals_are_found_in_groups():
    refusal = Refusal(grpc.StatusCode.ABORTED, "why")
    group = ExceptionGroup("", [ValueError(), ExceptionGroup("", [refusal])])
    assert refusal_in(group) is refusal
    assert refusal_in(ValueError()) is None
