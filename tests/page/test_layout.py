"""No line jumps: what has been promised stays where it is, however what follows it changes."""

import numpy as np

from streamtrans.testing.engine import hypothesis

WATCH = """() => {
  window.moves = [];
  const stage = document.getElementById("stage");
  const places = new Map(); // of each settled piece: its place within the captions, and in its line
  const look = () => {
    for (const piece of stage.querySelectorAll(".rows .committed")) {
      const box = piece.getClientRects()[0];
      const here = { x: Math.round(box.left), y: Math.round(box.top + stage.scrollTop) };
      const before = places.get(piece);
      if (before && (before.x !== here.x || before.y !== here.y)) window.moves.push([piece.textContent, before, here]);
      places.set(piece, here);
    }
    window.pieces = places.size;
    requestAnimationFrame(look);
  };
  let height = 0;
  new MutationObserver(() => {
    if (stage.scrollHeight < height) window.moves.push(["shorter", height, stage.scrollHeight]);
    height = stage.scrollHeight;
  }).observe(stage, { subtree: true, childList: true, characterData: true });
  look();
}"""


def restless(job, target):
    """Settle a word every 240 ms; what follows is a line longer at every other reading."""
    whole = len(job.audio) // 3_840
    known = [*target.prefix, *range(100 + len(target.prefix), 100 + whole)]
    tail = [] if job.last else list(range(200, 200 + (25 if (len(job.audio) // 1_600) % 2 else 2)))
    return hypothesis((*known, *tail), 0.5)


async def test_settled_words_never_move_while_what_follows_comes_and_goes(hall):
    served = hall.served(hall.instant(restless))
    async with (
        hall.running(served, hall.configured(http_port=0)) as (server, _),
        hall.browser(hall.speech(0.4, 4.0, 0.6, 3.5, 0.6)) as program,
    ):
        page = await hall.opened(program, server, viewport={"width": 1280, "height": 560})
        await page.select_option("#spoken", "en")
        await page.evaluate(WATCH)
        await page.click("#go")
        await hall.rows(page, 3)
        assert await page.evaluate("window.moves") == []
        assert await page.evaluate("window.pieces") > 20
        assert await page.evaluate("document.getElementById('stage').scrollTop") > 100  # it went on, step by step
        await hall.ended(page)
        assert await page.evaluate("window.moves") == []


async def test_who_reads_further_up_is_left_there(hall):
    served = hall.served(hall.instant(restless))
    async with (
        hall.running(served, hall.configured(http_port=0)) as (server, _),
        hall.browser(hall.speech(0.3, 1.6, 0.5)) as program,
    ):
        page = await hall.opened(program, server, viewport={"width": 700, "height": 330})
        await page.click("#go")
        await hall.rows(page, 2)
        stage = page.locator("#stage")
        await stage.evaluate("(stage) => stage.scrollTo({ top: 0, behavior: 'instant' })")
        await page.locator("#later").wait_for()
        await hall.rows(page, len(await hall.shown(page, "de")) + 1)
        assert await stage.evaluate("(stage) => stage.scrollTop") == 0
        await page.click("#later")
        await page.locator("#later").wait_for(state="hidden")
        end = await stage.evaluate("(stage) => stage.scrollHeight - stage.scrollTop - stage.clientHeight")
        assert end < 400
        await hall.ended(page)


async def test_only_settled_words_where_one_wants_them_calm(hall):
    served = hall.served(hall.instant(restless))
    async with (
        hall.running(served, hall.configured(http_port=0)) as (server, _),
        hall.browser(hall.speech(0.3, 1.6, 0.5)) as program,
    ):
        page = await hall.opened(program, server)
        ears = hall.Ears(page)
        await page.click("#calm")
        await page.click("#go")
        await hall.rows(page, 2)
        assert ears.told[0].started.config.mode == 1  # CAPTION_MODE_STABLE
        assert not any(message.caption.tentative for message in ears.told)
        await page.click("#larger")
        sizes = [await page.locator(".rows").evaluate("(rows) => parseFloat(getComputedStyle(rows).fontSize)")]
        await page.reload()
        sizes.append(await page.locator(".rows").evaluate("(rows) => parseFloat(getComputedStyle(rows).fontSize)"))
        assert sizes[0] == sizes[1]
        assert await page.get_attribute("#calm", "aria-pressed") == "true"
        assert not np.isnan(sizes[0])
