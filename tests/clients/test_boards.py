import io
import re
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from streamtrans_clients import FinalLines, GrowingLines, TerminalBoard, caption_text, clock, escaped, printable
from streamtrans_clients.boards import _footed

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
    levels = [_footed(decibels, "Built-in", 80).plain for decibels in (-90.0, -60.0, -30.0, 0.0)]
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


class Screen:
    """A terminal that knows what rich writes: text, line ends, cursor up, and erasing a line."""

    def __init__(self):
        self.lines, self.row, self.column = [""], 0, 0

    def write(self, text):
        for move, digits, letter in re.findall(r"(\x1b\[([?\d;]*)([A-Za-z])|[^\x1b])", text):
            if letter == "A":
                self.row -= int(digits or 1)
            elif letter == "K":
                self.lines[self.row] = ""
            elif move == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif move == "\r":
                self.column = 0
            elif not letter:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + move + line[self.column + 1 :]
                self.column += 1


@pytest.mark.parametrize("width", [80, 40])
def test_law_a_terminal_shows_every_final_once_and_in_order(width):
    screen = Screen()
    console = Console(
        file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None, legacy_windows=False
    )
    threads = threading.active_count()
    with TerminalBoard(console, "Built-in") as board:
        for number in range(40):
            for growing in ("eins", "eins zwei", f"Satz {number}"):
                board.level(-20.0)
                board.show(caption("", growing, segment=number))
                assert threading.active_count() == threads
            board.show(caption(f"Satz {number}.", final=True, segment=number))
    screen.write(console.file.getvalue())
    assert [line.rstrip() for line in screen.lines if line.strip()] == [f"00:01 de  Satz {n}." for n in range(40)]


def test_nothing_turns_the_terminal_or_the_line_around():
    assert printable("a\x1b[2J\u202eb\u2066c\u2069\u2028d\x9b1m") == "a [2Jbc d 1m"
    assert printable("می\u200cخواهم 👨\u200d👩") == "می\u200cخواهم 👨\u200d👩"


def test_names_show_what_cannot_be_seen():
    assert escaped("a\x1b[2J\u202eb\nc\udcff.wav") == r"a\x1b[2J\u202eb\nc\udcff.wav"
    assert escaped("/tmp/Grüße 你好.wav") == "/tmp/Grüße 你好.wav"


def test_a_narrow_terminal_has_a_narrow_meter():
    assert len(_footed(-20.0, "A very long name of a microphone · Ctrl-C ends", 40).plain) < 40
