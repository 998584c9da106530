"""The page in a real browser: what one reads there is what the server committed, whatever breaks."""

import numpy as np

from streamtrans.client import StreamOptions
from streamtrans.core import Caption
from streamtrans.server import TranslationServer
from tests.proxy import Proxy
from tests.server.conftest import collect


async def test_one_click_and_what_is_read_is_what_was_committed_and_what_grpc_says(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, client),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        ears = hall.Ears(page)
        await page.click("#go")
        await hall.said(page, "Listening")
        await hall.rows(page, 3)
        await hall.ended(page)
        finals = ears.finals()
        assert len(finals) >= 3
        assert {language for _, language in finals} == {"de"}  # the browser's own
        assert await hall.shown(page, "de") == list(finals.values())
        assert not page.problems
        same = await collect(client, b"".join(ears.audio), StreamOptions(("de",)))
        assert [e.committed for e in same if isinstance(e, Caption) and e.final] == list(finals.values())


async def test_the_original_stands_beside_translations_that_come_and_go_while_it_runs(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        ears = hall.Ears(page)
        await page.select_option("#spoken", "en")
        await page.click("#go")
        await hall.rows(page, 1)
        await page.select_option("#add", "fr")
        await hall.rows(page, 1, "fr")
        await page.get_by_role("button", name="Deutsch").click()
        await hall.until(
            lambda: [m.config_applied.update_id for m in ears.told if m.HasField("config_applied")] == [1, 2]
        )
        before = len(await hall.shown(page, "fr"))
        await hall.rows(page, before + 2, "fr")
        await hall.ended(page)
        finals = ears.finals()
        for language in ("en", "de", "fr"):
            assert await hall.shown(page, language) == [text for (_, each), text in finals.items() if each == language]
        assert await page.locator(".heads p").all_inner_texts() == ["English · original", "Français"]
        assert len(await hall.shown(page, "en")) > len(await hall.shown(page, "de"))
        assert not page.problems


async def test_a_server_that_is_killed_and_started_anew_goes_on_nothing_lost_nothing_twice(hall, tmp_path):
    config = hall.configured(http_port=0, store=str(tmp_path / "store"))
    async with Proxy(0) as proxy, hall.browser() as program:
        async with hall.running(config=config) as (server, _):
            proxy.port = server.http_port
            page = await hall.opened(program, int(proxy.address.rpartition(":")[2]))
            ears = hall.Ears(page)
            await page.click("#go")
            await page.locator(".rows .open .committed").first.wait_for()  # in the middle of a sentence
            proxy.refusing = True
            proxy.cut()
            await hall.said(page, "Looking for the server")
            assert "kept here" in await page.locator("#problem").inner_text()
        async with TranslationServer(config, hall.served) as server:
            await server.ready()
            proxy.port, proxy.refusing = server.http_port, False
            await hall.said(page, "Listening")
            await hall.rows(page, 4)
            [live] = server._service._viewable.values()
            await hall.ended(page)
            assert not await page.locator("#problem").is_visible()
            finals = ears.finals()
            assert finals == hall.committed(live)  # also of what was said before it was killed
            assert await hall.shown(page, "de") == list(finals.values())
            assert [message.event_sequence for message in ears.told] == list(range(1, len(ears.told) + 1))
            assert ears.sockets > 1
            assert not page.problems


async def test_a_connection_that_breaks_anywhere_costs_no_word(hall):
    dice = np.random.default_rng()  # wherever it falls
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        Proxy(server.http_port) as proxy,
        hall.browser() as program,
    ):
        page = await hall.opened(program, int(proxy.address.rpartition(":")[2]))
        ears = hall.Ears(page)
        await page.click("#go")
        await hall.said(page, "Listening")
        for _ in range(8):
            await page.wait_for_timeout(int(dice.integers(50, 900)))
            proxy.cut()
        await hall.rows(page, 4)
        [live] = server._service._viewable.values()
        await hall.ended(page)
        finals = ears.finals()
        assert await hall.shown(page, "de") == list(finals.values())
        assert finals == hall.committed(live)
        assert ears.sockets > 4
        assert not page.problems


async def test_a_server_that_has_forgotten_the_stream_is_told_and_what_was_said_stays(hall):
    config = hall.configured(http_port=0)  # keeps nothing elsewhere
    async with Proxy(0) as proxy, hall.browser() as program:
        async with hall.running(config=config) as (server, _):
            proxy.port = server.http_port
            page = await hall.opened(program, int(proxy.address.rpartition(":")[2]))
            await page.click("#go")
            await hall.rows(page, 1)
            before = await hall.shown(page, "de")
            proxy.cut()
        async with TranslationServer(config, hall.served) as server:
            await server.ready()
            proxy.port = server.http_port
            await page.locator("#problem", has_text="new ones have begun").wait_for()
            await hall.rows(page, len(before) + 2)
            await hall.ended(page)
            assert (await hall.shown(page, "de"))[: len(before) - 1] == before[:-1]
            assert not page.problems


async def test_who_stops_while_the_server_is_started_anew_reads_what_was_said_and_that_some_is_missing(hall):
    config = hall.configured(http_port=0)
    async with Proxy(0) as proxy, hall.browser() as program:
        async with hall.running(config=config) as (server, _):
            proxy.port = server.http_port
            page = await hall.opened(program, int(proxy.address.rpartition(":")[2]))
            await page.click("#go")
            await hall.rows(page, 1)
            proxy.refusing = True
            proxy.cut()
            await hall.said(page, "Looking for the server")
            await page.wait_for_timeout(4_000)  # at least one sentence
            await page.click("#go")
        before = len(await hall.shown(page, "de"))
        async with TranslationServer(config, hall.served) as server:
            await server.ready()
            proxy.port, proxy.refusing = server.http_port, False
            await hall.said(page, "Stopped")
            assert "last words may be missing" in await page.locator("#problem").inner_text()
            assert len(await hall.shown(page, "de")) > before
            assert not page.problems


CLOSES_LATE = """() => {
  const Plain = WebSocket;
  window.WebSocket = class extends Plain {
    set onclose(closed) {
      this.told = closed;
      super.onclose = (event) => setTimeout(() => this.told?.(event), 1_500);
    }
  };
}"""


async def test_a_sitting_that_was_deleted_ends_none_that_was_begun_since(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.evaluate(CLOSES_LATE)
        await page.click("#go")
        await hall.rows(page, 1)
        await page.click("#keeping")
        await page.get_by_role("button", name="Delete all of it now").click()
        await page.locator("#deleted", has_text="All of it is deleted.").wait_for()
        await page.keyboard.press("Escape")
        await page.click("#go")
        await hall.rows(page, 2)  # longer than the other one takes to close
        assert await page.locator("#verb").inner_text() == "Stop"
        await page.wait_for_timeout(1_000)
        await hall.ended(page)
        await hall.until(lambda: not server.active_sessions)
        assert not page.problems
