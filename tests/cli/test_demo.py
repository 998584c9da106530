import asyncio
import io
import sys

import pytest
from rich.console import Console

from streamtrans.cli.demo import Sentence, _print_scores, aligned, read_sentences
from streamtrans.core import Caption, samples


def caption(start_ms, end_ms, text, language="de"):
    start, end = samples(start_ms), samples(end_ms)
    return Caption(0, 1, language, text, "", True, start, end, end)


SENTENCES = [Sentence("en", 1_000, 3_000, {"de": "eins"}), Sentence("es", 4_500, 7_000, {"de": "zwei"})]


def test_captions_go_to_the_sentence_they_share_time_with():
    captions = [
        caption(900, 3_100, " eins"),
        caption(900, 3_100, "one", "en"),
        caption(4_400, 5_500, "zw"),
        caption(5_500, 7_200, "ei "),
    ]
    assert aligned(SENTENCES, captions, "de") == ["eins", "zw ei"]
    assert aligned(SENTENCES, captions, "en") == ["one", ""]


def test_chinese_pieces_are_joined_without_spaces():
    captions = [caption(900, 2_000, "你", "zh"), caption(2_000, 3_000, "好", "zh")]
    assert aligned(SENTENCES, captions, "zh") == ["你好", ""]


def test_a_segment_over_two_sentences_counts_once():
    assert aligned(SENTENCES, [caption(1_000, 5_000, "beide")], "de") == ["beide", ""]


def test_there_are_eight_sentences_in_six_languages():
    sentences = read_sentences()
    assert len(sentences) == 8
    assert all(len(sentence.texts) == 6 for sentence in sentences)


def test_without_scores_the_remedy_is_said_whole(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    console = Console(file=io.StringIO(), width=200)
    _print_scores(console, ("de",), SENTENCES, [caption(900, 3_100, "eins")])
    said = console.file.getvalue()
    assert "needs the package sacrebleu: pip install sacrebleu (in a clone: pip install '.[eval]')" in said


@pytest.mark.slow
async def test_the_server_of_the_demo_comes_and_goes(checkpoint):
    from streamtrans.cli.demo import _server
    from streamtrans.client import TranslationClient, Unavailable
    from streamtrans.runtime import ModelChoice

    async with _server(ModelChoice(str(checkpoint), threads=1)) as address, TranslationClient(address) as client:
        assert (await client.capabilities()).languages == ("en", "de", "zh")
    async with TranslationClient(address) as client:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.capabilities(), 10)
