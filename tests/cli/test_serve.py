import asyncio
import threading

import numpy as np

import streamtrans.cli.serve
from streamtrans.client import StreamOptions, TranslationClient, Unavailable


def test_an_engine_that_stops_ends_the_process_with_1(run, checkpoint, monkeypatch):
    told = []

    async def call(port, engine):
        async with TranslationClient(f"127.0.0.1:{port}") as client:
            await client.capabilities()  # connected before the server notices
            engine.close()  # as seen from outside, what a device thread that died leaves behind
            try:
                async with client.stream(StreamOptions(("de",))) as stream:
                    await stream.send(np.zeros(16_000, np.float32))
                    [event async for event in stream]
            except Unavailable as error:
                told.append(error.message)

    def announce(server, served):
        calls.append(threading.Thread(target=lambda: asyncio.run(call(server.port, served.engine))))
        calls[0].start()

    calls = []
    monkeypatch.setattr(streamtrans.cli.serve, "_announce", announce)
    status, _, err = run("serve", "--model", checkpoint, "--port", "0", "--threads", "1", "--vad", "energy")
    calls[0].join(10)
    assert status == 1
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        "error: the engine has stopped by itself, so nothing can be served: start the server again"
    ]
    assert "Traceback" not in err
    assert "the engine has stopped" in told[0]
