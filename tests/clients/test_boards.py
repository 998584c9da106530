import io
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from streamtrans_clients import FinalLines, GrowingLines, TerminalBoard, caption_text, clock, printable
from streamtrans_clients.boards import _meter

from streamtrans.client import Caption, Notice, SpeechStarted


def caption(committed, tentative="", *, final=False, segment=0, language="de", start=16_000):
    return Caption(segment, 1, language, committed, tentative, final, start, start + 8_000, start + 8_000)


EVENTS = [
    SpeechStarted(0, 16_000),
    caption("", " guten"),
    caption(" guten", " tag"),
    caption("good", " day", language="en"),
    Notice("BEHIND_REALTIME", "it is slow"),
    caption(" guten Morgen", final=True),
    caption("good morning", final=True, language="en"),
]


def shown(make, events, **how):
    console = Console(file=io.StringIO(), width=80, **how)
    with make(console) as board:
        for event in events:
            board.level(-20.0)
            board.show(event)
    return console.file.getvalue()


def test_a_pipe_gets_final_lines():
    assert shown(FinalLines, EVENTS) == "notice: it is slow\n00:01 de  guten Morgen\n00:01 en  good morning\n"


def test_a_text_that_is_cut_off_says_so_everywhere():
    cut = replace(caption("guten Mor", final=True), complete=False)
    for make in (FinalLines, GrowingLines, TerminalBoard):
        assert "guten Mor […]" in shown(make, [cut])


def test_a_log_gets_every_revision_with_the_tail_in_quotes():
    assert shown(GrowingLines, EVENTS).splitlines() == [
        "00:01 de    ‹guten›",
        "00:01 de    guten ‹tag›",
        "00:01 en    good ‹day›",
        "notice: it is slow",
        "00:01 de  guten Morgen",
        "00:01 en  good morning",
    ]


def test_chinese_tails_join_without_a_space():
    assert "你好‹世界›" in shown(GrowingLines, [caption("你好", "世界", language="zh")])


def test_long_lines_are_not_wrapped_in_a_log():
    assert len(shown(FinalLines, [caption("x " * 200, final=True)]).splitlines()) == 1


def test_a_terminal_keeps_the_finals():
    out = shown(TerminalBoard, EVENTS, force_terminal=True, color_system=None)
    assert "00:01 de  guten Morgen" in out
    assert "00:01 en  good morning" in out
    assert "it is slow" in out


def test_the_meter_fills_with_the_level():
    levels = [_meter(decibels, "Built-in").plain for decibels in (-90.0, -60.0, -30.0, 0.0)]
    assert [level.count("█") for level in levels] == [0, 0, 12, 24]
    assert "-30 dB  Built-in" in levels[2]


def test_a_terminal_keeps_what_was_open_at_the_end():
    out = shown(TerminalBoard, [caption("guten", " tag")], force_terminal=True, color_system=None)
    assert "00:01 de  guten tag" in out


def test_only_the_tail_is_dim():
    text = caption_text(caption("guten", " tag"))
    dim = [text.plain[span.start : span.end] for span in text.spans if "dim" in str(span.style)]
    assert dim == [" tag"]


def test_clock():
    assert [clock(seconds * 16_000) for seconds in (0, 59, 61, 3_600)] == ["00:00", "00:59", "01:01", "60:00"]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_law_a_server_cannot_steer_the_terminal(committed, tentative):
    plain = caption_text(caption(committed, tentative)).plain
    assert plain == f"00:01 de  {(printable(committed) + printable(tentative)).lstrip()}"
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in plain)
