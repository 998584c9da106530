"""Whatever keeps captions from coming, the page says what it is and what to do."""

import json

import pytest

from streamtrans.server import Limits
from tests.page.test_viewing import NAME


async def told(page, *words):
    """Wait for a sentence with these words, and return it."""
    await page.locator("#problem", has_text=words[0]).wait_for()
    text = await page.locator("#problem").inner_text()
    assert all(word in text for word in words), text
    assert text[0].isupper()
    assert text.endswith(".")
    return text


async def started(page):
    await page.locator("#go:not(:disabled)").wait_for()
    await page.click("#go")


async def test_no_microphone(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser(microphone=False) as program,
    ):
        page = await hall.opened(program, server, permissions=["microphone"])
        await started(page)
        await told(page, "There is no microphone", "Plug one in")
        assert await page.locator("#go:not(:disabled)").inner_text() == "Start captions"


async def test_no_permission(hall):
    arguments = ("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser(microphone=False, arguments=arguments) as program,
    ):
        page = await hall.opened(program, server)
        await started(page)
        await told(page, "may not use the microphone", "Allow it")


async def test_neither_encrypted_nor_of_this_machine(hall):
    arguments = (f"--host-resolver-rules=MAP {NAME} 127.0.0.1",)
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser(arguments=arguments) as program,
    ):
        page = await hall.opened(program, server)
        await page.goto(f"http://{NAME}:{server.http_port}/")
        await started(page)
        await told(page, "only to pages that came encrypted", "--tls-cert", f"http://localhost:{server.http_port}")


async def test_no_server(hall):
    async with hall.browser() as program:
        async with hall.running(config=hall.configured(http_port=0)) as (server, _):
            port = server.http_port
            page = await hall.opened(program, server)
            await page.locator("#go:not(:disabled)").wait_for()
        await page.click("#go")
        await told(page, "doesn't answer", "streamtrans serve --page")
        async with hall.running(config=hall.configured(http_port=port)):
            await page.click("#go")
            await hall.rows(page, 1)
        await told(page, "doesn't answer", "kept here")


async def test_a_server_that_is_gone_when_the_page_asks(hall):
    async with hall.running(config=hall.configured(http_port=0)) as (server, _), hall.browser() as program:
        context = await program.new_context()
        page = await context.new_page()
        gone = True
        await page.route("**/v1/capabilities", lambda route: route.abort() if gone else route.continue_())
        await page.goto(f"http://localhost:{server.http_port}/")
        await told(page, "doesn't answer", "streamtrans serve --page")
        gone = False
        await hall.said(page, "Ready")
        assert not await page.locator("#problem").is_visible()


async def test_a_language_that_the_server_does_not_write_names_those_it_does(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await (await program.new_context(locale="sw")).new_page()

        async def boast(route):
            answer = await route.fetch()
            offered = await answer.json()
            await route.fulfill(
                response=answer, body=json.dumps(offered | {"languages": [*offered["languages"], "sw"]})
            )

        await page.route("**/v1/capabilities", boast)
        await page.goto(f"http://localhost:{server.http_port}/")
        await started(page)
        await told(page, "toy doesn't know 'sw'", "en, de, zh, fr, it, es")
        assert await page.locator("#go").inner_text() == "Start captions"


async def test_a_full_server_says_when_and_lets_in_later(hall):
    config = hall.configured(http_port=0, max_sessions=1, retry_after_ms=300)
    async with hall.running(config=config) as (server, client), hall.browser() as program:
        from streamtrans.client import StreamOptions

        page = await hall.opened(program, server)
        async with client.stream(StreamOptions(("de",))):
            await started(page)
            await told(page, "All 1 sessions are taken", "tries again by itself")
        await hall.rows(page, 1)
        await hall.ended(page)


async def test_a_stream_without_sound_that_is_ended_says_why(hall):
    limits = Limits(idle_ms=400)
    async with hall.running(config=hall.configured(limits, http_port=0)) as (server, _), hall.browser() as program:
        page = await hall.opened(program, server)
        await page.evaluate(
            "() => { window.AudioWorkletNode = class { port = {}; }; AudioNode.prototype.connect = () => {}; }"
        )
        await started(page)
        await told(page, "No sound came")


async def test_what_is_in_the_way_is_gone_from_the_page_once_it_is_gone(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.evaluate(
            "() => { const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices); let first = true;"
            "navigator.mediaDevices.getUserMedia = (...said) => { if (!first) return real(...said); first = false;"
            "return Promise.reject(new DOMException('x', 'NotReadableError')); }; }"
        )
        await started(page)
        await told(page, "another program may be using it")
        await page.click("#go")
        await hall.said(page, "Listening")
        assert not await page.locator("#problem").is_visible()
        await hall.ended(page)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("getDisplayMedia", "Chrome or Edge on a computer"),
        ("refused", "Nothing was shared"),
        ("mute", "Also share tab audio"),
    ],
)
async def test_a_tab_that_is_not_shared_with_its_sound(hall, name, words):
    async with hall.running(config=hall.configured(http_port=0)) as (server, _), hall.browser() as program:
        page = await hall.opened(program, server)
        await page.evaluate(
            "(name) => { const devices = navigator.mediaDevices; const answer = {"
            "refused: () => Promise.reject(new DOMException('x', 'NotAllowedError')),"
            "mute: () => Promise.resolve(new MediaStream()) }[name];"
            "Object.defineProperty(devices, 'getDisplayMedia', { value: answer }); }",
            name,
        )
        await page.check("input[value=tab]")
        await started(page)
        await told(page, words)
