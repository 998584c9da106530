"""The pieces of a call: what waits, how fast audio may come, how long it took."""

import asyncio
import math
import tracemalloc
from collections import Counter

import grpc
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from streamtrans.core import Caption, Job, SpeechEnded, SpeechStarted
from streamtrans.server import Limits
from streamtrans.server.arrivals import Arrivals, Delays
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
        box, taken, pace = Outbox(100), [], iter(reads)
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
    box = Outbox(100)
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


CELL = 320
"""Samples that share one time of arrival."""


def test_lag_is_from_arrival_to_the_first_reading_that_includes_it():
    arrivals = Arrivals()
    for second in range(1, 5):
        arrivals.arrived(CELL, float(second))
    arrivals.began(job(CELL, 3 * CELL))
    assert arrivals.lag_s(5.0) == 3.0  # the audio of second 2 is being read
    arrivals.read(job(CELL, 3 * CELL), 6.0)
    assert len(arrivals.lags) == 2  # the first was silence, the last waits
    assert arrivals.lags.percentile_s(50) == pytest.approx(3.0, rel=0.01)
    assert arrivals.lags.percentile_s(95) == pytest.approx(4.0, rel=0.01)
    assert arrivals.lag_s(60.0) == 3.0
    arrivals.skip(4 * CELL)
    arrivals.read(job(CELL, 4 * CELL), 9.0)
    assert len(arrivals.lags) == 2
    assert arrivals.received == 4 * CELL


def test_first_captions_are_timed_from_the_arrival_of_the_first_sound():
    arrivals = Arrivals()
    arrivals.arrived(CELL, 1.0)
    arrivals.arrived(CELL, 2.0)
    arrivals.saw(SpeechStarted(0, CELL + 50), 2.5)
    arrivals.saw(caption(0, "de", 0, final=True), 2.6)  # closed without a word
    arrivals.saw(SpeechStarted(1, CELL), 2.7)
    arrivals.saw(caption(1, "de", 1), 3.0)
    arrivals.saw(caption(1, "de", 2), 4.0)
    assert list(arrivals.first_captions_s) == [1.0]
    assert arrivals.segments == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3 * CELL), max_size=60), st.integers(0, 40), st.integers(1, 40))
def test_lags_are_those_of_the_audio_and_not_of_its_chunks(cuts, start, length):
    """However audio is cut, what is known of a stretch is when its last sample came."""
    cut, whole = Arrivals(), Arrivals()
    for count in cuts:
        cut.arrived(count, (cut.received + count) // CELL / 50)
    for _ in range(cut.received // CELL):
        whole.arrived(CELL, (whole.received + CELL) // CELL / 50)
    for book in (cut, whole):
        book.read(job(start * CELL, (start + length) * CELL), 10.0)
    assert len(cut.lags) == len(whole.lags) == max(0, min(start + length, cut.received // CELL) - start)
    if max(cuts, default=0) <= CELL:
        assert cut.lags._counts == whole.lags._counts


def test_what_is_kept_grows_neither_with_chunks_nor_with_hours():
    def weigh(chunks, step):
        arrivals = Arrivals()
        tracemalloc.start()
        for number in range(chunks):
            arrivals.arrived(step, number / 100)
            if number % 100 == 99:
                end = arrivals.received
                arrivals.saw(SpeechStarted(number, end - 50 * step), number / 100)
                arrivals.saw(caption(number, "de", 1, final=True), number / 100)
                arrivals.read(job(end - 50 * step, end), number / 100 + 0.3)
        weight = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return weight

    assert weigh(10_000, 1) < 100_000
    assert weigh(3_000, 16_000) < 100_000  # nearly an hour


def test_an_arrival_long_ago_is_found_at_once_or_known_to_be_older():
    arrivals = Arrivals()
    for second in range(400):
        arrivals.arrived(16_000, float(second))
    arrivals.began(job(0, 16_000))
    assert 119 <= arrivals.lag_s(400.0) <= 121  # of what is remembered the oldest: two minutes
    arrivals.read(job(0, 400 * 16_000), 400.0)
    assert len(arrivals.lags) == 120 * 50
    assert arrivals.lag_s(500.0) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 1e4), min_size=1), st.integers(1, 100))
def test_percentile_is_the_nearest_rank(values, percent):
    delays = Delays()
    for value in values:
        delays.add(value)
    ranked = sorted(values)
    assert delays.percentile_s(percent) == pytest.approx(ranked[math.ceil(len(ranked) * percent / 100) - 1], rel=0.011)


def test_no_delays_have_percentile_zero():
    delays = Delays()
    assert delays.percentile_s(50) == 0
    delays.add(0.0)
    assert delays.percentile_s(95) == 0


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
