"""What is kept is said, and goes when one says so: from the page, the server's memory, its store and its recordings."""

from pathlib import Path


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file() and path.stat().st_size > 100]


async def facts(page):
    await page.click("#keeping")
    await page.locator("#kept[open]").wait_for()
    return await page.locator("#facts").inner_text()


async def test_a_server_that_keeps_nothing_says_so(hall):
    async with hall.running(config=hall.configured(http_port=0)) as (server, _), hall.browser() as program:
        page = await hall.opened(program, server)
        await hall.said(page, "Ready")
        told = await facts(page)
        assert "records nothing" in told
        assert "waits 30 seconds" in told
        assert "in this tab alone" in told


async def test_one_button_deletes_all_of_it_while_it_runs_and_afterwards(hall, tmp_path):
    store, tapes = tmp_path / "store", tmp_path / "tapes"
    tapes.mkdir()
    config = hall.configured(http_port=0, store=str(store), record=tapes)
    async with hall.running(config=config) as (server, _), hall.browser() as program:
        page = await hall.opened(program, server)
        for running in (False, True):
            await page.click("#go")
            await hall.rows(page, 1)
            if not running:
                await hall.ended(page)
                await page.click("#go")
                await hall.said(page, "Listening")
                await hall.ended(page)  # two streams, both are to go
            assert files(tapes)
            assert await page.locator("#take:not(:disabled)").count()
            told = await facts(page)
            assert "This server records" in told
            assert "up to 60 seconds" in told
            await page.get_by_role("button", name="Delete all of it now").click()
            await page.locator("#deleted", has_text="All of it is deleted.").wait_for()
            await page.keyboard.press("Escape")
            assert await page.locator(".rows li").count() == 0
            assert await page.locator("#take:disabled").count()
            await hall.until(lambda: not files(tapes) and not files(store) and not server.active_sessions)
            assert len(server._service.registry) == 0
        assert not page.problems


async def test_what_could_not_be_deleted_is_not_called_deleted(hall, tmp_path):
    tapes = tmp_path / "tapes"
    tapes.mkdir()
    config = hall.configured(http_port=0, record=tapes)
    async with hall.running(config=config) as (server, _), hall.browser() as program:
        page = await hall.opened(program, server)
        await page.click("#go")
        await hall.rows(page, 1)
        await hall.ended(page)
        await page.route("**/v1/forget", lambda route: route.abort())
        await facts(page)
        await page.get_by_role("button", name="Delete all of it now").click()
        await page.locator("#deleted", has_text="Try again").wait_for()
        assert files(tapes)
        await page.unroute("**/v1/forget")
        await page.get_by_role("button", name="Delete all of it now").click()
        await page.locator("#deleted", has_text="All of it is deleted.").wait_for()
        assert not files(tapes)


async def test_subtitles_are_taken_away_by_language(hall, tmp_path):
    async with (
        hall.running(config=hall.configured(http_port=0)) as (server, _),
        hall.browser() as program,
    ):
        page = await hall.opened(program, server)
        await page.select_option("#spoken", "en")
        await page.click("#go")
        await hall.rows(page, 2)
        await hall.ended(page)
        await page.click("#take")
        for language, name in (("de", "Deutsch"), ("en", "English")):
            shown = await hall.shown(page, language)
            for form in ("txt", "srt", "vtt"):
                async with page.expect_download() as download:
                    await page.get_by_role("button", name=f"{name} as {form}").click()
                file = await download.value
                assert file.suggested_filename.endswith(f".{language}.{form}")
                await file.save_as(tmp_path / form)
                text = (tmp_path / form).read_text(encoding="utf-8")
                lines = [line for line in text.splitlines() if line.startswith("w")]
                assert lines == shown
                assert text.count(" --> ") == (0 if form == "txt" else len(shown))
