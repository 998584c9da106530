"""What a stream asked, and what it was answered, is let go at once: no garbage collector has to look for it."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

from streamtrans.client import StreamOptions
from streamtrans.core import Detect, Reading, Reply
from streamtrans.testing.engine import InstantEngine, Relay


class Marked(Reading):
    """An answer that can be watched; a real one holds tensors' worth of texts."""

    __slots__ = ("__weakref__",)
    __hash__ = object.__hash__


class Watched(Relay):
    """Answers from one other thread, as engines do; sees what is still alive of what it handed out.

    Of many threads each may still stand in the frame that gave its answer, however long a busy machine likes.
    """

    def __init__(self, inner):
        super().__init__(inner)
        self.seen = weakref.WeakSet()
        self.most = self.states = 0
        self.thread = ThreadPoolExecutor(1)

    def submit(self, request):
        future = Reply()
        self.thread.submit(self._answer, request, future)
        return future

    def _answer(self, request, future):
        answer = self.engine.submit(request).result()
        self.engine.requests.clear()
        if not isinstance(request, Detect):
            answer = Marked(answer.hypotheses, answer.state)
            self.seen.add(answer)
            self.states += 1
            self.most = max(self.most, len(self.seen))
        if future.set_running_or_notify_cancel():
            future.set_result(answer)


async def test_what_readings_brought_is_let_go_with_the_next_one(house):
    engine = Watched(InstantEngine(house.grow, house.Loud()))
    gc.collect()
    gc.disable()
    try:
        async with house.running(house.served(engine)) as (_, client), client.stream(StreamOptions(("de",))) as stream:
            speech = house.speech(*(0.8, 2.4) * 4, 0.8)
            reading = asyncio.create_task(_all(stream))
            for start in range(0, len(speech), 1_600):
                await stream.send(speech[start : start + 1_600])
                await asyncio.sleep(0.005)
            await stream.end()
            await reading
        assert engine.states > 15
        assert engine.most <= 4  # the newest, the one it replaces, and what the thread and frames still name
    finally:
        gc.enable()


async def _all(stream):
    return [event async for event in stream]
