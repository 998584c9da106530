"""What a thread answers arrives on the loop, and nothing of it stays behind."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Future

import pytest

from streamtrans.stream.bridge import awaitable


class Brought:
    """Something that can be watched."""


def later(call, *arguments):
    thread = threading.Timer(0.02, call, arguments)
    thread.start()
    return thread


async def test_results_and_errors_of_a_thread_arrive():
    good, bad, withdrawn, ready = (Future() for _ in range(4))
    ready.set_result(1)
    threads = [later(good.set_result, 2), later(bad.set_exception, OSError("broken")), later(withdrawn.cancel)]
    assert await awaitable(ready) == 1
    assert await awaitable(good) == 2
    with pytest.raises(OSError, match="broken"):
        await awaitable(bad)
    with pytest.raises(asyncio.CancelledError):
        await awaitable(withdrawn)
    for thread in threads:
        thread.join()


async def test_cancelling_withdraws_what_was_asked():
    source = Future()
    here = awaitable(source)
    here.cancel()
    await asyncio.sleep(0)
    assert source.cancelled()


async def test_an_answer_that_comes_after_all_is_passed_over():
    source = Future()
    source.set_running_or_notify_cancel()
    here = awaitable(source)
    here.cancel()
    await asyncio.sleep(0)
    source.set_result(1)
    await asyncio.sleep(0.01)
    assert here.cancelled()


def test_a_loop_that_is_gone_is_told_nothing():
    source = Future()

    async def ask():
        return awaitable(source)

    asyncio.run(ask())
    source.set_result(1)


async def test_an_answer_is_let_go_with_its_last_owner():
    gc.collect()
    gc.disable()
    try:
        source, brought = Future(), Brought()
        seen = weakref.ref(brought)
        here = awaitable(source)
        thread = later(source.set_result, brought)
        await here
        thread.join()
        del source, brought, here, thread
        await asyncio.sleep(0)
        assert seen() is None
    finally:
        gc.enable()
