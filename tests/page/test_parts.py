"""The parts of the page, each by itself, in the browser that runs them."""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soxr
import zxingcpp
from PIL import Image

import streamtrans.server

PAGE = Path(streamtrans.server.__file__).with_name("page")


@pytest.fixture
def bench(hall):
    """Run what is given, with the exports of a module, in a page of a server."""

    async def run(module, code, *said):
        async with hall.running(config=hall.configured(http_port=0)) as (server, _), hall.browser() as program:
            page = await hall.opened(program, server)
            asked = f"async (said) => {{ const m = await import('/{module}'); return await ({code})(m, ...said); }}"
            return await page.evaluate(asked, list(said))

    return run


RESAMPLE = """(m, rate, samples, cuts) => {
  const resampler = new m.Resampler(rate);
  const told = [];
  let at = 0;
  for (const cut of [...cuts, samples.length]) {
    told.push(...resampler.push(Float32Array.from(samples.slice(at, cut))));
    at = cut;
  }
  told.push(...resampler.flush());
  return told;
}"""


def decibels(values):
    return 20 * np.log10(np.sqrt(np.mean(np.square(values))) + 1e-12)


@pytest.mark.parametrize("rate", [48_000, 44_100, 8_000])
async def test_resampling_keeps_speech_folds_nothing_back_and_needs_no_certain_pieces(bench, rate):
    time = np.arange(rate // 4) / rate
    low = sum(np.sin(2 * np.pi * f * time + f) for f in (110, 440, 1_700, 3_300)) / 8
    there = await bench("resample.js", RESAMPLE, rate, low.tolist(), [])
    cut = await bench("resample.js", RESAMPLE, rate, low.tolist(), [7, 8, 1_000, 1_000, 3_001])
    assert len(there) == pytest.approx(len(low) * 16_000 / rate, abs=2)
    assert there == cut
    ideal = soxr.resample(low, rate, 16_000, "VHQ")
    inner = slice(500, 3_500)
    assert decibels((np.array(there)[: len(ideal)] - ideal[: len(there)])[inner]) < decibels(ideal) - 60
    if rate > 16_000:
        high = np.sin(2 * np.pi * 9_500 * time) + np.sin(2 * np.pi * 13_000 * time)  # would be at 6.5 and 3 kHz
        folded = await bench("resample.js", RESAMPLE, rate, high.tolist(), [])
        assert decibels(np.array(folded)[inner]) < decibels(high) - 80


CODES = """(m, texts) => texts.map((text) => m.picture(text, "a code").outerHTML)"""


async def test_codes_of_every_size_are_read_by_a_scanner(bench):
    dice = np.random.default_rng(5)
    signs = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_#=&/:.é語")
    texts = [
        "http://" + "".join(dice.choice(signs, size))
        for size in (1, 8, 20, 35, 55, 80, 100, 120, 150, 170, 200, 240, 280, 300)
    ]
    for text, picture in zip(texts, await bench("qr.js", CODES, texts), strict=True):
        side = int(re.search(r'viewBox="0 0 (\d+) ', picture)[1])
        light = np.full((side, side), 255, np.uint8)
        for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", picture):
            light[int(y), int(x)] = 0
        [found] = zxingcpp.read_barcodes(np.kron(light, np.ones((4, 4), np.uint8)))
        assert found.text == text
        assert found.format == zxingcpp.BarcodeFormat.QRCode
        assert found.ec_level in "MQH"


def test_what_others_wrote_is_as_they_published_it():
    written = (PAGE / "lean-qr.js").read_bytes().split(b"\n", 1)[1]
    assert hashlib.sha256(written).hexdigest() == "9f064e870e3ab537ca1f87fadbaa45dd7fa56d8c32440bbddb8b893201b951d7"


CAPTIONS = """(m, captions) => {
  const transcript = new m.Transcript();
  transcript.begin();
  for (const caption of captions) caption === null ? transcript.begin() : transcript.take(caption);
  return [transcript.languages, ...["txt", "srt", "vtt"].map((form) => transcript.file("de", form))];
}"""


async def test_files_hold_what_was_promised_at_its_place_in_all_that_was_said(bench):
    def caption(segment, text, start, end, **more):
        return {"segmentId": str(segment), "language": "de", "committedAppend": text, "startMs": str(start),
                "endMs": str(end), "heardMs": str(end)} | more  # fmt: skip

    told = [
        caption(0, "Tag <b>", 500, 1_200, tentative=" oder"),
        caption(0, " & Nacht", 500, 2_000, final=True),
        caption(1, "", 2_500, 2_600, final=True),
        caption(2, "nur geglaubt", 3_000, 4_000, snapshot=True, tentative=" mehr"),
        None,  # a new stream
        caption(0, "neu", 0, 3_596_000, final=True),
        caption(0, "new", 0, 3_596_000, language="en", final=True),
    ]
    languages, txt, srt, vtt = await bench("transcript.js", CAPTIONS, told)
    assert languages == ["de", "en"]
    assert txt == "Tag <b> & Nacht\nnur geglaubt\nneu\n"
    assert srt == (
        "1\n00:00:00,500 --> 00:00:02,000\nTag <b> & Nacht\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\nnur geglaubt\n\n"
        "3\n00:00:04,000 --> 01:00:00,000\nneu\n\n"
    )
    assert vtt == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nTag &lt;b&gt; &amp; Nacht\n\n"
        "00:00:03.000 --> 00:00:04.000\nnur geglaubt\n\n"
        "00:00:04.000 --> 01:00:00.000\nneu\n\n"
    )


def test_the_page_is_small_and_takes_nothing_from_elsewhere():
    files = {path.name: path.read_text(encoding="utf-8") for path in PAGE.iterdir()}
    assert sum(map(len, files.values())) < 80_000
    for name, text in files.items():
        foreign = re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]+[^\s\"'`)]*", text)
        assert {each.partition("//")[2].split("/")[0] for each in foreign} <= {"www.w3.org"}, name
        assert "innerHTML" not in text
        assert "eval(" not in text
        if name.endswith(".html"):
            assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*src=)", text), name
        for module in re.findall(r'(?:from|import|addModule)\(?\s*"([^"]+)"', text):
            assert (PAGE / module).exists(), module


def test_pictures_in_the_documents_are_small():
    for path in (Path(__file__).parents[2] / "docs").rglob("*.png"):
        assert path.stat().st_size < 300_000
        assert Image.open(io.BytesIO(path.read_bytes())).width <= 1_920
