"""The page's stream by itself, in a browser, before real servers: each message is heard once, whatever breaks."""

import asyncio
from contextlib import asynccontextmanager

from streamtrans.server import TranslationServer
from tests.proxy import Proxy

CHUNK_MS = 80

LOSING = """() => {
  const Plain = WebSocket;
  window.sockets = [];
  window.WebSocket = class extends Plain {
    constructor(...given) {
      super(...given);
      this.loses = sockets.push(this) === 2; // it breaks before its answer has arrived
    }
    set onmessage(hear) {
      super.onmessage = (event) => (this.loses && event.data.includes('"started"') ? this.close() : hear?.(event));
    }
  };
}"""

BEGIN = """async () => {
  const { Stream } = await import("/stream.js");
  window.seen = { started: [], told: [], away: 0, ended: null };
  const audioFormat = { encoding: "AUDIO_ENCODING_PCM_S16LE", sampleRateHertz: 16_000 };
  window.stream = new Stream({ audioFormat, targets: [{ language: "de" }] }, {
    started: (_, anew) => seen.started.push(anew),
    told: (event) => seen.told.push(event),
    away: () => (seen.away += 1),
    ended: ({ kind }) => (seen.ended = kind),
  });
}"""

HEAR = "(count) => { for (let left = count; left; left -= 1) stream.hear(new Int16Array(1_280)); }"


async def holds(page, condition):
    """Wait until it does; the page's policy forbids it to be asked there."""
    async with asyncio.timeout(20):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.02)


async def heard_ms(page):
    """Return how much sound the server had heard at the end."""
    [told] = await page.evaluate("seen.told.filter((event) => event.summary)")
    return int(told["summary"]["audioMs"])


@asynccontextmanager
async def broken(hall, after):
    """A page whose stream has heard three chunks, whose server is gone, and another one that takes the same place."""
    config = hall.configured(http_port=0)  # keeps nothing elsewhere
    async with Proxy(0) as proxy, hall.browser(microphone=False, arguments=("--mute-audio",)) as program:
        async with hall.running(config=config) as (server, _):
            proxy.port = server.http_port
            page = await hall.opened(program, int(proxy.address.rpartition(":")[2]))
            await page.evaluate(BEGIN)
            await holds(page, "seen.started.length === 1")
            await page.evaluate(HEAR, 3)
            proxy.refusing = True
            proxy.cut()
            await holds(page, "seen.away > 0")
            await page.evaluate(after)
        async with TranslationServer(config, hall.served) as server:
            await server.ready()
            proxy.port, proxy.refusing = server.http_port, False
            yield page


async def test_an_answer_that_is_lost_and_comes_again_with_the_next_has_nothing_said_twice(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser(microphone=False, arguments=("--mute-audio",)) as program,
    ):
        page = await hall.opened(program, server)
        await page.evaluate(LOSING)
        await page.evaluate(BEGIN)
        await holds(page, "seen.started.length === 1")
        await page.evaluate(HEAR, 5)
        await page.evaluate("sockets[0].close()")
        await holds(page, "seen.away === 1")
        await page.evaluate(HEAR, 10)
        await holds(page, "sockets.length === 3 && seen.started.length > 1")
        await page.evaluate(HEAR, 5)
        await page.evaluate("stream.end()")
        await holds(page, "seen.ended")
        assert await heard_ms(page) == 20 * CHUNK_MS
        assert await page.evaluate("[seen.started, seen.ended]") == [[True, False], "done"]


async def test_what_nobody_was_sent_is_heard_by_a_server_that_knows_nothing_of_the_stream(hall):
    async with broken(hall, f"({HEAR})(10)") as page:
        await holds(page, "seen.started.length === 2")
        await page.evaluate(HEAR, 5)
        await page.evaluate("stream.end()")
        await holds(page, "seen.ended")
        assert await heard_ms(page) == 15 * CHUNK_MS
        assert await page.evaluate("[seen.started, seen.ended]") == [[True, True], "done"]


async def test_so_it_is_where_the_end_was_said_meanwhile_and_the_lost_end_is_told(hall):
    async with broken(hall, f"({HEAR})(10); stream.end()") as page:
        await holds(page, "seen.ended")
        assert await heard_ms(page) == 10 * CHUNK_MS
        assert await page.evaluate("[seen.started, seen.ended]") == [[True, True], "cut"]


async def test_an_end_that_nobody_can_answer_any_more_is_no_good_one(hall):
    async with broken(hall, "stream.end()") as page:
        await holds(page, "seen.ended")
        assert await page.evaluate("[seen.started, seen.ended]") == [[True], "cut"]
