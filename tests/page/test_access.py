"""Everybody can use the page: axe finds nothing, keys are enough, and a screen reader is told what is settled."""

from importlib import resources

import pytest

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


async def faults(page):
    """Return what axe finds on the page as it is."""
    await page.evaluate(AXE)  # by the debugger, which the page's own policy doesn't bind
    await page.wait_for_timeout(300)  # for what fades in
    found = await page.evaluate("(tags) => axe.run({ runOnly: tags })", list(RULES))
    assert len(found["passes"]) > 15
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]


@pytest.mark.parametrize(("scheme", "width", "height"), [("dark", 390, 844), ("light", 1920, 1080)])
async def test_axe_finds_nothing(hall, scheme, width, height):
    looks = {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server, **looks)
        await page.locator("#go:not(:disabled)").wait_for()
        assert await page.get_attribute("html", "data-theme") == scheme
        assert await faults(page) == []
        await page.select_option("#spoken", "en")
        await page.click("#go")
        await hall.rows(page, 1)
        await page.locator(".rows .tentative:not(:empty)").first.wait_for()
        assert await faults(page) == []
        await page.click("#theme")
        assert await page.get_attribute("html", "data-theme") != scheme
        assert await faults(page) == []
        for button, dialog in (("#share", "#sharing"), ("#take", "#taking"), ("#keeping", "#kept")):
            await page.click(button)
            await page.locator(f"{dialog}[open]").wait_for()
            assert await faults(page) == []
            if button == "#share":
                link = await page.get_attribute("#link", "href")
            await page.keyboard.press("Escape")
        viewer = await hall.opened(program, server, "watch.html#" + link.partition("#")[2], **looks)
        await hall.rows(viewer, 1)
        assert await faults(viewer) == []
        await hall.ended(page)
        await viewer.locator("#problem").wait_for()
        assert await faults(page) == []
        assert await faults(viewer) == []


async def test_axe_finds_nothing_where_something_is_in_the_way(hall, tmp_path):
    from streamtrans.server.keys import add_key

    add_key(tmp_path / "keys.toml", "speaker", {})
    config = hall.configured(http_port=0, keys=tmp_path / "keys.toml")
    async with hall.running(config=config) as (server, _), hall.browser(microphone=False) as program:
        page = await hall.opened(program, server)
        await page.fill("#key", "guess")
        await page.keyboard.press("Enter")
        await page.locator("#problem").wait_for()
        assert await faults(page) == []


async def test_a_screen_reader_is_told_settled_words_of_one_language_each_once(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.select_option("#spoken", "en")
        await page.evaluate(
            """() => {
              const log = document.getElementById("stage");
              window.said = [];
              const heard = (node) => {
                const quiet = node.parentElement?.closest("[aria-hidden=true], [aria-live=off]");
                if (!quiet && node.textContent) window.said.push(node.textContent);
              };
              new MutationObserver((changes) => {
                for (const { addedNodes, target } of changes) {
                  for (const node of addedNodes) if (node.nodeName === "SPAN") heard(node.firstChild ?? target);
                }
              }).observe(log, { subtree: true, childList: true });
            }"""
        )
        await page.click("#go")
        await hall.rows(page, 2)
        await page.locator(".rows .tentative:not(:empty)").first.wait_for()
        tree = await page.locator("#stage").aria_snapshot()
        hidden = await page.locator(".rows .tentative:not(:empty)").all_inner_texts()
        await hall.ended(page)
        said = "".join(await page.evaluate("window.said"))
        assert said.replace(" ", "") == "".join(await hall.shown(page, "de")).replace(" ", "")
        assert await page.get_attribute("#stage", "aria-live") == "polite"
        assert "w99" not in tree  # what is only believed
        assert any("w99" in text for text in hidden)
        assert {await each.get_attribute("lang") for each in await page.locator("[aria-live=off]").all()} == {"en"}


async def test_keys_are_enough(hall):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.locator("#go:not(:disabled)").wait_for()
        reached = []
        for _ in range(20):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.id || document.activeElement.name"))
        wanted = ["keeping", "calm", "smaller", "larger", "theme", "screen", "stage", "go", "source", "spoken", "add"]
        assert [each for each in reached[:11] if each in wanted] == wanted
        await page.focus("#go")
        await page.keyboard.press("Enter")
        await hall.rows(page, 1)
        await page.focus("#share")
        await page.keyboard.press("Space")
        await page.locator("#sharing[open]").wait_for()
        await page.keyboard.press("Escape")
        assert await page.evaluate("document.activeElement.id") == "share"
        await page.focus("#go")
        await page.keyboard.press("Enter")
        await hall.said(page, "Stopped")
