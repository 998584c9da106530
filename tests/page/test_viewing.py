"""Who has the link reads along in a language of his own; the right to it is in the fragment and goes nowhere else."""

import socket
from dataclasses import replace

import numpy as np
import pytest
import zxingcpp

from streamtrans.server.keys import add_key
from streamtrans.server.listening import found_at
from tests.proxy import Proxy

NAME = "hall.example"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def named(port):
    """Let a name lead here, as a secure one, which the microphone asks for."""
    secure = f"--unsafely-treat-insecure-origin-as-secure=http://{NAME}:{port}"
    return (f"--host-resolver-rules=MAP {NAME} 127.0.0.1", secure)


async def link_of(page):
    await page.click("#share")
    await page.locator("#sharing[open]").wait_for()
    link = await page.get_attribute("#link", "href")
    await page.get_by_role("button", name="Close").click()
    return link


def scanned(picture):
    """Return what a scanner reads on a screenshot."""
    import io

    from PIL import Image

    return [found.text for found in zxingcpp.read_barcodes(np.asarray(Image.open(io.BytesIO(picture)).convert("L")))]


async def test_a_phone_scans_the_code_and_reads_along_in_its_own_language(hall):
    port = free_port()
    config = hall.configured(http_port=port, http_host="0.0.0.0")
    async with (
        hall.running(config=config) as (server, _),
        hall.browser(arguments=named(port)) as program,
    ):
        page = await hall.opened(program, server)
        await page.goto(f"http://{NAME}:{port}/")
        await page.click("#go")
        await hall.said(page, "Listening")
        await page.click("#share")
        await page.locator("#sharing[open] .qr").wait_for()
        picture = await page.screenshot()
        link = await page.get_attribute("#link", "href")
        assert not await page.locator("#reach").is_visible()
        assert scanned(picture) == [link]
        before, _, right = link.partition("#")
        assert before == f"http://{NAME}:{port}/watch.html"
        assert right.startswith("token=")
        await page.keyboard.press("Escape")

        phone = await (await program.new_context(locale="fr-FR", viewport={"width": 390, "height": 844})).new_page()
        asked = []
        phone.on("request", lambda request: asked.append((request.url, request.headers)))
        ears = hall.Ears(phone, "/v1/watch")
        phone.on("websocket", lambda socket: asked.append((socket.url, {})))
        await phone.goto(link)
        await hall.said(phone, "Reading along")
        await hall.rows(phone, 2, "fr")
        [live] = server._service._viewable.values()
        await hall.ended(page)
        await phone.locator("#problem", has_text="The speaker has stopped").wait_for()
        french = [text for (_, language), text in hall.committed(live).items() if language == "fr"]
        shown = await hall.shown(phone, "fr")
        assert shown == french[-len(shown) :]
        assert len(shown) >= 2
        assert await hall.shown(page, "de") == [t for (_, code), t in hall.committed(live).items() if code == "de"]
        token = live.viewer_token
        assert asked
        assert not [each for each in asked if token in each[0].partition("#")[0] or token in str(each[1])]
        assert ears.sockets == 1


async def test_a_viewer_changes_the_language_and_outlasts_a_break(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        Proxy(server.http_port) as proxy,
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.click("#go")
        await hall.rows(page, 1)
        link = await link_of(page)
        way = int(proxy.address.rpartition(":")[2])
        viewer = await hall.opened(program, way, "watch.html#" + link.partition("#")[2], locale="it-IT")
        await hall.rows(viewer, 1, "it")
        names = await viewer.locator("#language option").all_inner_texts()
        assert names == ["Deutsch", "English", "Español", "Français", "Italiano", "中文"]
        await viewer.select_option("#language", "es")
        await hall.rows(viewer, 1, "es")
        assert not await hall.shown(viewer, "it")
        await viewer.reload()
        await hall.rows(viewer, 1, "es")  # it is remembered
        proxy.cut()
        await hall.rows(viewer, len(await hall.shown(viewer, "es")) + 1, "es")
        [live] = server._service._viewable.values()
        await hall.ended(page)
        await hall.said(viewer, "Over")
        shown = await hall.shown(viewer, "es")
        assert shown == [text for (_, code), text in hall.committed(live).items() if code == "es"][-len(shown) :]
        assert not viewer.problems


DOINGS = """() => {
  window.doings = [];
  new MutationObserver(() => doings.push(document.getElementById("doing").textContent))
    .observe(document.getElementById("doing"), { childList: true, characterData: true, subtree: true });
}"""


async def test_a_viewers_call_that_grows_old_is_left_in_time_and_nobody_notices(hall):
    limits = replace(hall.configured().limits, max_connection_ms=4_000)
    async with (
        hall.running(config=hall.configured(limits, http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.click("#go")
        await hall.rows(page, 1)
        viewer = await hall.opened(program, server, "watch.html", locale="de-DE")
        ears = hall.Ears(viewer, "/v1/watch")
        await viewer.goto(await link_of(page))
        await hall.said(viewer, "Reading along")
        await viewer.evaluate(DOINGS)
        await hall.until(lambda: ears.sockets >= 3)
        [live] = server._service._viewable.values()
        await hall.ended(page)
        await hall.said(viewer, "Over")
        assert not [each for each in await viewer.evaluate("doings") if "Looking" in each]
        shown = await hall.shown(viewer, "de")
        assert shown == [text for (_, code), text in hall.committed(live).items() if code == "de"][-len(shown) :]


async def test_where_keys_are_asked_for_the_link_alone_opens_and_nothing_else(hall, tmp_path):
    path = tmp_path / "keys.toml"
    key = add_key(path, "speaker", {})
    async with (
        hall.running(config=hall.configured(http_port=0, keys=path)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        for typed in ("st_guess", key):
            await page.get_by_label("This server asks for a key").fill(typed)
            await page.get_by_role("button", name="Use it").click()
            await hall.said(page, "Needs a key" if typed != key else "Ready")
        await page.click("#go")
        await hall.rows(page, 1)
        link = await link_of(page)
        assert key not in link
        viewer = await hall.opened(program, server, "watch.html#" + link.partition("#")[2], locale="it-IT")
        await hall.rows(viewer, 1)  # without a key nothing is known of languages but what the link says
        assert len(await viewer.locator("#language option").all_inner_texts()) == 6
        await viewer.select_option("#language", "it")
        await hall.rows(viewer, 1, "it")
        await hall.ended(page)


@pytest.mark.parametrize("fragment", ["", "#token=guess", "#token=guess&to=xx"])
async def test_a_link_that_opens_nothing_says_so(hall, fragment):
    async with hall.running(config=hall.configured(http_port=0)) as (server, _), hall.browser() as program:
        viewer = await hall.opened(program, server, f"watch.html{fragment}")
        await viewer.locator("#problem", has_text="Ask the speaker for a new one").wait_for()


async def test_on_a_loopback_address_the_page_says_that_no_phone_gets_there(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.click("#go")
        await hall.said(page, "Listening")
        await page.click("#share")
        await page.locator("#sharing[open]").wait_for()
        assert "no phone can reach that address" in await page.locator("#reach").inner_text()
        assert await page.locator(".qr").count() == 0
        await page.keyboard.press("Escape")
        await hall.ended(page)


def test_what_listens_everywhere_is_found_at_an_address_of_the_machine():
    assert found_at("127.0.0.1") is None
    assert found_at("localhost") is None
    assert found_at("10.1.2.3") == "10.1.2.3"
    assert found_at("0.0.0.0") not in ("0.0.0.0", "127.0.0.1")
