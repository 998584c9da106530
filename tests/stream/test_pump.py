import asyncio
import gc
import time
from collections import Counter

import pytest

from streamtrans.core import BadConfig, Caption, Detect, EngineClosed, Health, Job, Lost, Reply
from streamtrans.stream import Patience, drive, pump, replay
from streamtrans.testing.engine import Relay


class SlowEngine(Relay):
    """Answers detections at once and holds back readings until told."""

    def __init__(self, engine):
        super().__init__(engine)
        self.held = []

    def submit(self, request):
        if isinstance(request, Detect):
            return super().submit(request)
        future = Reply()
        self.held.append((request, future))
        return future

    def let_go(self):
        request, future = self.held.pop()
        future.set_result(self.engine.submit(request).result())


async def feed(session, audio, changed, chunk=1_600):
    for start in range(0, len(audio), chunk):
        session.hear(audio[start : start + chunk])
        changed.set()
        for _ in range(20):
            await asyncio.sleep(0)
    session.end()
    changed.set()


async def test_live_captions_are_the_recordings_captions(stage):
    audio, spans = stage.say(5), [(0.5, 2), (3, 4.2)]
    expected = drive(*stage.make(spans), audio)
    session, engine = stage.make(spans)
    changed, events = asyncio.Event(), []

    async def emit(news):
        events.extend(news)

    await asyncio.gather(pump(session, engine, changed=changed, emit=emit), feed(session, audio, changed))
    assert session.finished
    assert events == expected


async def test_hearing_goes_on_while_the_engine_works(stage):
    session, engine = stage.make([(0.2, 9)])
    slow = SlowEngine(engine)
    changed, events = asyncio.Event(), []

    async def emit(news):
        events.extend(news)

    task = asyncio.create_task(pump(session, slow, changed=changed, emit=emit))
    await feed(session, stage.say(4), changed)
    assert session.cursors.received == 4 * 16_000
    assert len(slow.held) == 1
    for _ in range(3):
        while not slow.held and not task.done():
            await asyncio.sleep(0)
        if task.done():
            break
        slow.let_go()
        for _ in range(20):
            await asyncio.sleep(0)
    await task
    assert [job.last for job in engine.jobs] == [False, True]
    assert events[-1].final


async def test_a_cancelled_pump_withdraws_its_requests(stage):
    session, engine = stage.make([(0.2, 9)])
    slow = SlowEngine(engine)
    changed = asyncio.Event()

    async def emit(news):
        pass

    task = asyncio.create_task(pump(session, slow, changed=changed, emit=emit))
    await feed(session, stage.say(2), changed)
    [(job, future)] = slow.held
    assert isinstance(job, Job)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert future.cancelled()


async def test_a_closed_engine_ends_the_pump(stage):
    session, engine = stage.make([(0.2, 9)])
    engine.close()
    changed = asyncio.Event()

    async def emit(news):
        pass

    session.hear(stage.say(1))
    with pytest.raises(EngineClosed):
        await pump(session, engine, changed=changed, emit=emit)


def test_of_two_requests_that_a_closed_engine_fails_none_is_left_behind(stage):
    reports = []
    asyncio.run(_fail_two(stage, reports))
    gc.collect()  # asyncio reports an exception that nobody looked at when its future is thrown away
    assert reports == []


async def _fail_two(stage, reports):
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
    session, engine = stage.make([(0.2, 9)])
    slow, changed = SlowEngine(engine), asyncio.Event()
    detections = []

    class Closing(Relay):
        def submit(self, request):
            """Answer as ``slow``, but hold the detection that comes while a reading is under way."""
            if not (isinstance(request, Detect) and slow.held):
                return slow.submit(request)
            detections.append(Reply())
            return detections[-1]

    async def emit(news):
        pass

    task = asyncio.create_task(pump(session, Closing(slow), changed=changed, emit=emit))
    await feed(session, stage.say(2), changed)
    for future in (*detections, *(future for _, future in slow.held)):
        future.set_exception(EngineClosed("closed"))
    assert len(detections) == len(slow.held) == 1
    with pytest.raises(EngineClosed):
        await task


def test_a_closed_engine_ends_the_replay(stage):
    session, engine = stage.make([(0.2, 9)])
    engine.close()
    with pytest.raises(EngineClosed):
        drive(session, engine, stage.say(1))


class Losing(Relay):
    """Loses every request the first ``times`` times that it is asked: withdraws it, or says that it is lost."""

    def __init__(self, engine, times, how):
        super().__init__(engine)
        self.times, self.how, self.asked = times, how, Counter()

    def submit(self, request):
        self.asked[what := describe(request)] += 1
        if self.asked[what] > self.times:
            return super().submit(request)
        reply = Reply()
        if self.how == "withdrawn":
            reply.cancel()
            reply.set_running_or_notify_cancel()
        else:
            reply.set_exception(Lost("gone"))
        return reply


def describe(request):
    if isinstance(request, Detect):
        return request.windows.tobytes(), request.state
    return request.segment, request.end, request.last


async def pumped(session, engine, audio, **options):
    changed, events = asyncio.Event(), []

    async def emit(news):
        events.extend(news)

    await asyncio.gather(pump(session, engine, changed=changed, emit=emit, **options), feed(session, audio, changed))
    return events


@pytest.mark.parametrize("how", ["withdrawn", "lost"])
@pytest.mark.parametrize("live", [False, True])
def test_what_is_lost_is_asked_again(stage, how, live):
    spans, audio = [(0.5, 2), (3, 4.2)], stage.say(5)
    expected = drive(*stage.make(spans), audio)
    session, engine = stage.make(spans)
    losing = Losing(engine, 2, how)
    events = asyncio.run(pumped(session, losing, audio)) if live else drive(session, losing, audio)
    assert events == expected
    assert session.stats.failures == 0
    assert set(losing.asked.values()) == {3}


@pytest.mark.parametrize("live", [False, True])
def test_what_is_always_lost_is_asked_a_bounded_number_of_times(stage, live):
    session, engine = stage.make([(0.5, 2)])
    losing = Losing(engine, 10**9, "lost")
    audio = stage.say(3)
    assert asyncio.run(pumped(session, losing, audio)) == [] if live else drive(session, losing, audio) == []
    assert session.finished
    assert set(losing.asked.values()) == {3}
    assert session.stats.in_vain


@pytest.mark.parametrize("live", [False, True])
def test_more_languages_than_the_engine_decodes_at_once_are_refused_at_the_door(stage, live):
    session, engine = stage.make([(0.5, 2)], targets=("de", "fr", "es"))
    engine.capacity = 2
    with pytest.raises(BadConfig, match="3 languages were asked for, and this engine decodes 2 texts at once"):
        asyncio.run(pumped(session, engine, stage.say(1))) if live else drive(session, engine, stage.say(1))


def test_replay_tells_when(stage):
    session, engine = stage.make([(0.5, 2)])
    steps = list(replay(session, engine, stage.say(3), chunk=1_000))
    assert [heard for heard, _ in steps] == [*range(1_000, 48_001, 1_000), 48_000]
    for heard, events in steps:
        for event in events:
            assert getattr(event, "heard", getattr(event, "start", 0)) <= heard
    with pytest.raises(ValueError, match="chunk is 0"):
        next(replay(session, engine, stage.say(1), chunk=0))


class Owing(Relay):
    """Owes the readings that ``owes`` names; it has begun them, unless it is ``busy`` with others."""

    def __init__(self, engine, owes, *, busy=False, health=Health.SERVING):
        super().__init__(engine)
        self.owes, self.busy, self._health = owes, busy, health
        self.owed, self.jobs = [], []

    @property
    def health(self):
        return self._health

    def submit(self, request):
        if not (isinstance(request, Job) and self.owes(request)):
            return super().submit(request)
        reply = Reply()
        reply.begun_at = None if self.busy else time.monotonic()
        self.owed.append(reply)
        self.jobs.append(request)
        return reply


def heard_out(stage, owing, patience):
    """Pump two seconds of speech to the end, and return the captions."""
    session, engine = stage.make([(0.5, 2)])
    owing.engine = engine
    events = asyncio.run(asyncio.wait_for(pumped(session, owing, stage.say(4), patience=patience), 10))
    return session, [event for event in events if isinstance(event, Caption)]


def quick(**changes):
    return Patience(**({"least_s": 0.05, "seconds": 0.05, "stalled_s": 0.05} | changes))


@pytest.mark.parametrize(("busy", "health"), [(False, Health.SERVING), (True, Health.STALLED)])
def test_after_the_end_of_speech_a_viewer_waits_for_a_bounded_time(stage, busy, health):
    """The engine owes the last reading for ever: what was believed before is final."""
    owing = Owing(None, lambda job: job.last, busy=busy, health=health)
    session, captions = heard_out(stage, owing, quick())
    assert captions[-1].final
    assert captions[-1].text == captions[-2].text
    assert [reply.cancelled() for reply in owing.owed] == [True] * 3
    assert session.stats.failures == 1


async def test_a_reading_that_waits_for_its_turn_is_waited_for(stage):
    """Patience counts from when the engine begins: the last reading comes after ten times of it."""
    session, engine = stage.make([(0.5, 2)])
    owing = Owing(engine, lambda job: job.last, busy=True)

    async def answer():
        while not owing.owed:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        owing.owed[0].set_result(engine.submit(owing.jobs[0]).result())

    events, _ = await asyncio.gather(pumped(session, owing, stage.say(4), patience=quick()), answer())
    expected = [event for event in drive(*stage.make([(0.5, 2)]), stage.say(4)) if isinstance(event, Caption)]
    assert [event for event in events if isinstance(event, Caption)][-1] == expected[-1]
    assert (len(owing.owed), session.stats.failures) == (1, 0)


def test_a_partial_that_never_returns_does_not_block_the_last_reading(stage):
    owing = Owing(None, lambda job: not job.last)
    session, captions = heard_out(stage, owing, quick())
    expected = [event for event in drive(*stage.make([(0.5, 2)]), stage.say(4)) if isinstance(event, Caption)]
    assert [caption.text for caption in captions] == [expected[-1].text]
    assert all(reply.cancelled() for reply in owing.owed)
    assert session.stats.failures == len(owing.owed) >= 1


def test_a_last_reading_that_took_too_long_is_asked_again(stage):
    owing = Owing(None, lambda job: job.last and len(owing.owed) < 2)
    session, captions = heard_out(stage, owing, quick())
    expected = [event for event in drive(*stage.make([(0.5, 2)]), stage.say(4)) if isinstance(event, Caption)]
    assert captions == expected
    assert session.stats.failures == 0


def test_patience_follows_what_readings_take():
    patience = Patience()
    first = patience.seconds
    patience.took(3.0)
    assert patience.seconds == 12.0 < first
    for _ in range(60):
        patience.took(0.1)
    assert patience.seconds == patience.least_s
    patience.ran_out()
    patience.ran_out()
    assert patience.seconds == 4 * patience.least_s


async def test_a_slow_engine_loses_no_final(stage):
    """Every reading takes longer than the least patience: once one is known to, the last is waited for."""
    session, engine = stage.make([(0.5, 2)])

    class Slow(Relay):
        def submit(self, request):
            if isinstance(request, Detect):
                return super().submit(request)
            reply, loop = Reply(), asyncio.get_running_loop()
            reply.begun_at = time.monotonic()
            loop.call_later(0.3, lambda: reply.cancelled() or reply.set_result(engine.submit(request).result()))
            return reply

    expected = [event for event in drive(*stage.make([(0.5, 2)]), stage.say(4)) if isinstance(event, Caption)]
    events = await pumped(session, Slow(engine), stage.say(4), patience=quick(seconds=5.0))
    assert [event for event in events if isinstance(event, Caption)][-1].text == expected[-1].text
    assert session.stats.failures == 0


def sent(engine):
    return [request for request in engine.requests if isinstance(request, Job)]


@pytest.mark.parametrize("carry", [False, True])
def test_audio_is_sent_once(stage, carry):
    session, engine = stage.make([(0.5, 3), (3.6, 5)], carry_state=carry)
    drive(session, engine, stage.say(6))
    spans = {job.segment: (job.start, job.end) for job in sent(engine) if job.last}
    assert len(sent(engine)) > 5
    for segment, (start, end) in spans.items():
        assert sum(len(job.audio) for job in sent(engine) if job.segment == segment) == end - start
    assert len(engine.states) == carry  # what the next stretch of speech might go on from


@pytest.mark.parametrize("live", [False, True])
def test_an_engine_that_was_started_anew_is_asked_again_with_all_of_the_audio(stage, live):
    class Restarting(Relay):
        asked = 0

        def submit(self, request):
            if isinstance(request, Job):
                self.asked += 1
                if self.asked % 3 == 0:
                    self.engine.states = type(self.engine.states)(1e9)
            return super().submit(request)

    spans, audio = [(0.5, 3), (3.6, 5)], stage.say(6)
    expected = drive(*stage.make(spans), audio)
    session, engine = stage.make(spans)
    restarting = Restarting(engine)
    events = asyncio.run(pumped(session, restarting, audio)) if live else drive(session, restarting, audio)
    assert events == expected
    assert session.stats.failures == 0
    assert restarting.asked > session.stats.readings


async def test_a_pump_that_is_left_gives_back_what_the_engine_keeps(stage):
    session, engine = stage.make([(0.2, 9)])
    changed = asyncio.Event()

    async def emit(news):
        pass

    task = asyncio.create_task(pump(session, engine, changed=changed, emit=emit))
    for start in range(0, 3 * 16_000, 1_600):
        session.hear(stage.say(3)[start : start + 1_600])
        changed.set()
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(engine.states) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(engine.states) == 0
