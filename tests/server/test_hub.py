"""Any number of readers of one session, each at a pace of its own."""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from streamtrans.core import Caption, EngineClosed, SpeechEnded, SpeechStarted
from streamtrans.server.hub import KEPT_SEGMENTS, Hub
from streamtrans.server.outbox import Overflow
from streamtrans.wire import Encoder, Notice, Reducer


@st.composite
def talks(draw, most=14):
    """Events of a session with up to two open segments, as one that divides has them."""
    events, revisions, pending = [], {}, []

    def say(segment, language, *, final=False):
        revision = revisions[segment, language] = revisions.get((segment, language), 0) + 1
        text = "".join(f" {number}" for number in range(revision))
        events.append(Caption(segment, revision, language, text, "" if final else " ?", final, 0, 16, 16))

    def close():
        segment = pending.pop(0)
        for language in ("de", "fr"):
            say(segment, language, final=True)

    for segment in range(draw(st.integers(1, most))):
        events.append(SpeechStarted(segment, 0))
        for language in draw(st.lists(st.sampled_from(["de", "fr"]), max_size=4)):
            say(segment, language)
        events.append(SpeechEnded(segment, 16))
        pending.append(segment)
        if draw(st.booleans()):
            close()
    while pending:
        close()
    return events


async def read_all(outbox):
    """Return, per segment and language, what a client of ``outbox`` holds in the end, and all that it was told."""
    encoder, reducer, held, told = Encoder(), Reducer(), {}, []
    while (item := await outbox.take()) is not None:
        told.append(item)
        event = reducer.reduce(encoder.encode(item))
        if isinstance(event, Caption):
            held[event.segment, event.language] = (event.text, event.final)
    return held, told


@settings(max_examples=80, deadline=None)
@given(talks(), st.data())
def test_whoever_comes_late_holds_what_the_others_hold(events, data):
    late = data.draw(st.integers(0, len(events)))

    async def run():
        hub = Hub(1_000)
        early = hub.join()
        for at, event in enumerate(events):
            if at == late:
                later = hub.join()
            hub.post(event)
        if late == len(events):
            later = hub.join()
        hub.close()
        return await read_all(early), await read_all(later)

    (held, _), (held_late, told_late) = asyncio.run(run())
    closed = {e.segment for e in events[:late] if isinstance(e, Caption) and e.final}
    missed = sorted(closed)[:-KEPT_SEGMENTS]
    assert {key for key in held if key not in held_late} <= {(n, language) for n in missed for language in ("de", "fr")}
    assert all(held[key] == value for key, value in held_late.items())
    for segment in {segment for segment, _ in held_late}:
        mine = [event for event in told_late if event.segment == segment]
        assert isinstance(mine[0], SpeechStarted)
        ended = next(i for i, event in enumerate(mine) if isinstance(event, SpeechEnded))
        assert all(i > ended for i, event in enumerate(mine) if isinstance(event, Caption) and event.final)


async def test_what_is_kept_for_late_readers_is_bounded():
    hub = Hub(1_000)
    for segment in range(500):
        hub.post(SpeechStarted(segment, 0))
        hub.post(Caption(segment, 1, "de", " a", " b", False, 0, 16, 16))
        hub.post(SpeechEnded(segment, 16))
        hub.post(Caption(segment, 2, "de", " a b", "", True, 0, 16, 16))
    assert len(hub.join()) == 3 * (KEPT_SEGMENTS + 1)


async def test_a_reader_that_does_not_read_harms_no_other():
    hub = Hub(3)
    lazy, quick = hub.join(), hub.join()
    for number in range(5):
        hub.post(Notice("QUALITY_DEGRADED", str(number)))
        assert (await quick.take()).message == str(number)
    with pytest.raises(Overflow, match="read while you send"):
        await lazy.take()
    assert len(lazy) == 0


async def test_what_stops_a_session_is_told_to_all_now_and_later():
    hub = Hub(10)
    reader = hub.join()
    hub.close(EngineClosed("gone"))
    for outbox in (reader, hub.join()):
        with pytest.raises(EngineClosed, match="gone"):
            await outbox.take()


async def test_who_has_left_is_told_nothing_more():
    hub = Hub(10)
    reader = hub.join()
    hub.leave(reader)
    hub.post(SpeechStarted(0, 0))
    hub.close()
    assert len(reader) == 0
