"""What is saved is what was promised, once, where it was said; what was taken back is counted."""

import pytest
from streamtrans_clients.transcript import SaveError, Transcript

from streamtrans.client import Caption


def caption(text, *, segment=0, language="de", final=True, start=0, tentative="", complete=True):
    return Caption(
        segment, 1, language, text, tentative, final, start, start + 16_000, start + 16_000, complete=complete
    )


def test_each_language_has_a_file_of_its_own(tmp_path):
    said = Transcript()
    said.take(caption("Guten Tag", start=9_600))
    said.take(caption("Hallo & <auf> Wiedersehen", segment=1, start=16_000 * 3_725, complete=False))
    said.take(caption("Bonjour", language="fr"))
    files = said.save(tmp_path / "talk.srt")
    assert [file.name for file in files] == ["talk.de.srt", "talk.fr.srt"]
    assert files[0].read_text(encoding="utf-8") == (
        "1\n00:00:00,600 --> 00:00:01,600\nGuten Tag\n\n"
        "2\n01:02:05,000 --> 01:02:06,705\nHallo & <auf> Wiedersehen […]\n\n"
    )
    vtt = said.save(tmp_path / "talk.vtt")[0].read_text(encoding="utf-8")
    assert vtt.startswith("WEBVTT\n\n00:00:00.600 --> 00:00:01.600\nGuten Tag\n\n")
    assert "Hallo &amp; &lt;auf&gt; Wiedersehen" in vtt
    assert said.save(tmp_path / "talk.txt")[1].read_text(encoding="utf-8") == "Bonjour\n"


def test_one_language_is_saved_under_the_name_itself_and_nothing_is_overwritten(tmp_path):
    said = Transcript()
    said.take(caption("eins"))
    assert said.save(tmp_path / "a.txt") == [tmp_path / "a.txt"]
    with pytest.raises(SaveError, match=r"a\.txt is there already; give another name"):
        said.save(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "eins\n"


@pytest.mark.parametrize(("name", "problem"), [("a.doc", r"ends in \.srt"), ("no/a.srt", "No such file")])
def test_what_cannot_be_saved_is_said(tmp_path, name, problem):
    said = Transcript()
    with pytest.raises(SaveError, match=r"nothing was said|ends in"):
        said.save(tmp_path / name)
    said.take(caption("eins"))
    with pytest.raises(SaveError, match=problem):
        said.save(tmp_path / name)


def test_law_streams_that_follow_each_other_are_one_recording():
    said = Transcript()
    said.begin()
    said.take(caption("eins", start=16_000))
    said.begin()  # another device, another stream: its segments and times begin anew
    said.take(caption("zwei", start=1_600))
    assert [(each.committed, each.start) for each in said.finals("de")] == [("eins", 16_000), ("zwei", 33_600)]


def test_words_taken_back_are_counted_against_those_that_stay():
    said = Transcript()
    said.begin(("zh",))
    said.take(caption("wir", tentative=" gehen nach Rom", final=False))
    said.take(caption("wir", tentative=" gehen heim", final=False))  # two words
    said.take(caption("wir gehen heim jetzt"))
    assert said.erasure == pytest.approx(2 / 4)
    said.take(caption("", language="zh", tentative="你好吗", final=False))
    said.take(caption("你好", language="zh"))  # one character
    assert said.erasure == pytest.approx(3 / 6)
