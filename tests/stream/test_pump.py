import asyncio
import gc
from concurrent.futures import Future

import pytest

from streamtrans.core import Caption, Detect, EngineClosed, Job
from streamtrans.stream import drive, pump, replay


class SlowEngine:
    """Answers detections at once and holds back readings until told."""

    def __init__(self, engine):
        self.engine = engine
        self.held = []

    def submit(self, request):
        if isinstance(request, Detect):
            return self.engine.submit(request)
        future = Future()
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

    class Closing:
        def submit(self, request):
            """Answer as ``slow``, but hold the detection that comes while a reading is under way."""
            if not (isinstance(request, Detect) and slow.held):
                return slow.submit(request)
            detections.append(Future())
            return detections[-1]

    async def emit(news):
        pass

    task = asyncio.create_task(pump(session, Closing(), changed=changed, emit=emit))
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


def test_a_withdrawn_request_ends_the_replay(stage):
    class Withdrawing:
        def submit(self, request):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    session, _ = stage.make([])
    with pytest.raises(EngineClosed, match="withdrew"):
        drive(session, Withdrawing(), stage.say(1))


def test_replay_tells_when(stage):
    session, engine = stage.make([(0.5, 2)])
    steps = list(replay(session, engine, stage.say(3), chunk=1_000))
    assert [heard for heard, _ in steps] == [*range(1_000, 48_001, 1_000), 48_000]
    for heard, events in steps:
        for event in events:
            assert getattr(event, "heard", getattr(event, "start", 0)) <= heard
    with pytest.raises(ValueError, match="chunk is 0"):
        next(replay(session, engine, stage.say(1), chunk=0))


async def test_after_the_end_of_speech_a_viewer_waits_for_a_bounded_time(stage):
    """The engine owes the last reading for ever: what was believed before is final."""
    session, engine = stage.make([(0.5, 2)])

    class Stuck:
        def __init__(self):
            self.owed = []

        def submit(self, request):
            if isinstance(request, Job) and request.last:
                self.owed.append(Future())
                return self.owed[-1]
            return engine.submit(request)

    stuck, events, changed = Stuck(), [], asyncio.Event()

    async def emit(new):
        events.extend(new)

    session.hear(stage.say(4))
    session.end()
    await asyncio.wait_for(pump(session, stuck, changed=changed, emit=emit, patience_s=0.05), 5)
    [final] = [event for event in events if isinstance(event, Caption) and event.final]
    assert final.text == [event for event in events if isinstance(event, Caption)][-2].text
    assert [future.cancelled() for future in stuck.owed] == [True]
