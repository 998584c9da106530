"""What can't be taken back is shown once it is promised, each word once; a sink that fails holds up no other."""

import asyncio
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamtrans_clients import outlets as outlets_module
from streamtrans_clients.outlets import Outlets
from streamtrans_clients.sinks import SINKS, Place, Sink, SinkError, sinks_for
from streamtrans_clients.sinks.lines import Pieces, Roll

from streamtrans.client import Caption, subtitles


def caption(committed, tentative="", *, segment=0, final=False, language="de", start=0, end=16_000):
    return Caption(segment, 1, language, committed, tentative, final, start, end, end)


@st.composite
def talks(draw):
    """Captions of a few speakers at once: committed text that grows, tentative text that doesn't."""
    shown = []
    for speaker in draw(st.lists(st.sampled_from(["", "Anna", "Bob  Lee"]), min_size=1, max_size=3, unique=True)):
        for segment in range(draw(st.integers(1, 3))):
            words = draw(st.lists(st.sampled_from(["ein", "Hauptbahnhof", "是的", "a", "x" * 40]), max_size=12))
            cuts = sorted(draw(st.lists(st.integers(0, len(words)), max_size=4)))
            grown = [caption(" ".join(words[:cut]), " …", segment=segment) for cut in cuts]
            shown.append([(each, speaker) for each in [*grown, caption(" ".join(words), segment=segment, final=True)]])
    order = draw(st.permutations([at for at, each in enumerate(shown) for _ in each]))
    places = [iter(each) for each in shown]
    return [next(places[at]) for at in order]


@given(talks(), st.integers(16, 42))
def test_law_pieces_are_the_final_texts_each_word_once_and_in_order(talk, columns):
    pieces, given_out, speaker = Pieces(columns), {}, ""
    finals = {(name, each.segment): each.committed for each, name in talk if each.final}
    for each, name in talk:
        for piece in pieces.of(each, name):
            assert len(piece) <= max(columns, 40) or " " not in piece
            shown = " ".join(name.split())
            if shown and piece.startswith(f"{shown}:"):
                assert name != speaker  # said where somebody else goes on, and nowhere else
                given_out[name, each.segment] = given_out.get((name, each.segment), "") + piece[len(shown) + 1 :]
            else:
                given_out[name, each.segment] = given_out.get((name, each.segment), "") + piece
            speaker = name
    for key, text in finals.items():
        assert "".join(given_out.get(key, "").split()) == "".join(text.split())


def test_a_line_that_may_still_grow_waits_for_its_end():
    pieces = Pieces(12)
    assert pieces.of(caption("guten Tag", " meine"), "") == []
    assert pieces.of(caption("guten Tag meine", " Damen"), "") == ["guten Tag"]
    assert pieces.of(caption("guten Tag meine", "", final=True), "") == ["meine"]


def test_a_roll_shows_the_newest_lines_and_moves_none_that_is_broken():
    roll = Roll(2, 12)
    assert roll.show(caption("guten", " Tag"), "") == "guten Tag"
    assert roll.show(caption("guten Tag meine", " Da"), "") == "guten Tag\nmeine Da"
    assert roll.show(caption("guten Tag meine", " Damen und"), "") == "meine Damen\nund"
    assert roll.show(caption("guten Tag meine Damen", final=True), "") == "guten Tag\nmeine Damen"
    assert roll.show(caption("ja", segment=0), "Anna") == "meine Damen\nAnna: ja"


class Shown(Sink):
    """Keeps what it is shown; ``break`` in a text breaks it, and ``wait`` holds it up."""

    def __init__(self, language="de"):
        super().__init__(Place("shown", "here"), language)
        self.texts, self.times, self.left = [], [], False
        self.go = asyncio.Event()

    async def __aexit__(self, *_):
        self.left = True

    async def show(self, caption, speaker):
        if "break" in caption.text:
            raise SinkError("broken")
        if "wait" in caption.text:
            await self.go.wait()
        self.texts.append((speaker, caption.text))

    async def heard(self, milliseconds):
        self.times.append(milliseconds)


async def test_a_slow_sink_is_shown_the_newest_and_holds_up_no_other():
    slow, quick, french = Shown(), Shown(), Shown("fr")
    quick.go.set()
    async with Outlets([slow, quick, french], pytest.fail) as out:
        for at, text in enumerate(("wait", "eins", "eins zwei", "eins zwei drei")):
            out.show(caption(text, segment=min(at, 1)), "Anna")
            out.heard(at)
            await asyncio.sleep(0.01)
        slow.go.set()
    assert slow.texts == [("Anna", "wait"), ("Anna", "eins zwei drei")]
    assert [text for _, text in quick.texts] == ["wait", "eins", "eins zwei", "eins zwei drei"]
    assert (french.texts, french.times) == ([], [0, 1, 2, 3])
    assert slow.left
    assert out.failed == 0


async def test_a_sink_that_fails_is_told_once_and_left_and_the_last_one_ends_all():
    told, broken, fine = [], Shown(), Shown()
    async with Outlets([broken, fine], told.append) as out:
        out.show(caption("break"), "")
        await asyncio.sleep(0.01)
        assert told == ["shown in de: broken; nothing more is shown there"] * 2
        with pytest.raises(SinkError, match="nowhere left to show captions"):
            out.show(caption("eins"), "")
    assert broken.left
    assert fine.left
    assert out.failed == 2


async def test_a_sink_that_takes_too_long_at_the_end_is_left(monkeypatch):
    monkeypatch.setattr(outlets_module, "_DRAIN_S", 0.05)
    told = []
    async with Outlets([Shown()], told.append) as out:
        out.show(caption("wait"), "")
    assert told == ["shown in de: it took longer than 0.05 s for the last captions; nothing more is shown there"]
    assert out.failed == 1


async def test_who_cannot_get_ready_ends_all_and_the_others_leave():
    class Shy(Shown):
        async def __aenter__(self):
            raise SinkError("not today")

    ready = Shown()
    with pytest.raises(SinkError, match="not today"):
        async with Outlets([ready, Shy()], pytest.fail):
            pytest.fail("it isn't ready")
    assert ready.left


@pytest.mark.parametrize("kind", SINKS)
def test_every_kind_is_a_sink_of_one_language(kind, tmp_path):
    places = {"file": "talk.srt", "hls": str(tmp_path), "youtube": "https://a/b?cid=1", "zoom": "https://a/b?id=1"}
    [sink] = sinks_for(f"{kind}:{places.get(kind, 'localhost:4455/Captions')}", ["de"])
    assert isinstance(sink, Sink)
    assert (sink.language, sink.place.kind) == ("de", kind)


def test_a_place_names_its_language_or_holds_each_or_lies_in_a_file(tmp_path):
    (tmp_path / "address").write_text("https://a/b?cid=secret\n", encoding="utf-8")
    [german] = sinks_for(f"de=youtube:@{tmp_path / 'address'}", ["de", "fr"])
    assert (german.language, german.place.written) == ("de", "https://a/b?cid=secret")
    both = sinks_for("talk.{language}.vtt", ["de", "fr"])
    assert [(each.language, each.place.written) for each in both] == [("de", "talk.de.vtt"), ("fr", "talk.fr.vtt")]
    with pytest.raises(SinkError, match=r"file: say which language it shows, such as de=file:…; or write \{language\}"):
        sinks_for("talk.srt", ["de", "fr"])


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("talk.doc", r"nowhere to show captions: it is KIND:PLACE with a kind of obs, .*ends in \.srt"),
        ("youtub:http://a", "did you mean youtube:http://a"),
        ("youtube:a.b/c", "youtube needs the address that it gives for captions, which begins with https"),
        ("obs:localhost:4455", "obs needs the name of a text source behind the address: ws://localhost:4455/NAME"),
        ("obs:http://localhost/a", "an address such as ws://localhost:4455/Captions"),
        ("hls:live?second=4", "hls has no option 'second'; there are seconds, delay, keep, mpegts"),
        ("hls:live?seconds=-4", "hls: seconds is '-4'; give a number such as 6"),
        ("obs-captions:localhost?lines=2", "obs-captions has no option 'lines'; there are none"),
        ("hls:", "hls needs a folder"),
        ("hls:live?seconds=0", "hls: seconds is 0; a segment has one at least"),
        ("fr=hls:live", "nothing is written in 'fr' here; --to names de"),
        ("zoom:@/no/such/file", "/no/such/file can't be read"),
    ],
)
def test_what_is_asked_for_wrongly_is_told(asked, problem):
    with pytest.raises(SinkError, match=problem):
        sinks_for(asked, ["de"])


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    for name in [each for each in sys.modules if each.startswith("streamtrans_clients.sinks.obs")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SinkError, match="obs needs the package aiohttp: pip install aiohttp"):
        sinks_for("obs:localhost/Captions", ["de"])


@pytest.mark.parametrize("ending", ["srt", "vtt", "tsv", "txt"])
async def test_law_a_file_that_grows_ends_as_one_that_is_written_at_once(tmp_path, ending):
    """Also where what is settled and what is open meet, and where somebody's caption comes late."""
    texts = [
        "ja",
        "please add the meeting with my sister to the calendar for tomorrow at six and go home",
        "nein, danke",
    ]
    said = [
        caption(texts[at % 3], segment=at, final=True, start=at * 16_000 * 7, end=16_000 * (at * 7 + 5 - at % 2))
        for at in range(24)
    ]
    shown = [*said[:10], said[11], said[10], *said[12:]]
    [sink] = sinks_for(f"{tmp_path}/talk.{ending}", ["de"])
    async with sink:
        for each in shown:
            await sink.show(each, "Anna")
            assert len(sink._open) <= 6  # what is laid out anew
    expected = subtitles.FORMATS[ending]([replace(subtitles.cue(each), text=f"Anna: {each.text}") for each in said])
    assert (tmp_path / f"talk.{ending}").read_text() == expected


@pytest.mark.parametrize("ending", ["srt", "vtt", "tsv", "txt"])
async def test_a_file_is_whole_after_each_final_caption_and_never_over_another(tmp_path, ending):
    path = tmp_path / f"talk.{ending}"
    [sink] = sinks_for(str(path), ["de"])
    async with sink:
        await sink.show(caption("Guten Tag", " Welt"), "")
        assert "Guten" not in path.read_text()
        await sink.show(caption("Ja, bitte", segment=1, final=True, start=48_000, end=64_000), "Bob")
        await sink.show(caption("Guten Tag", final=True), "Anna")
        text = path.read_text()
    assert text.index("Anna: Guten Tag") < text.index("Bob: Ja, bitte")
    with pytest.raises(SinkError, match="is there already; give another name"):
        async with sinks_for(str(path), ["de"])[0]:
            pytest.fail("it is another's")
    with pytest.raises(SinkError, match="can't be written: No such file"):
        async with sinks_for(f"{tmp_path}/no/a.{ending}", ["de"])[0]:
            pytest.fail("there is no folder")
