import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, Caption, SpeechEnded, SpeechStarted
from streamtrans.evaluate.logs import Header, Log, Logged, LogWriter, read_log, write_log
from streamtrans.metrics import ReferenceSegment

NUMBER, TEXT = st.integers(0, 2**40), st.text(max_size=12)
EVENT = st.one_of(
    st.builds(SpeechStarted, NUMBER, NUMBER),
    st.builds(SpeechEnded, NUMBER, NUMBER),
    st.builds(Caption, NUMBER, NUMBER, TEXT, TEXT, TEXT, st.booleans(), NUMBER, NUMBER, NUMBER, st.floats(0, 1)),
)
EVENTS = st.lists(st.builds(Logged, NUMBER, EVENT, st.none() | st.floats(0, 1e9)), max_size=6)
HEADER = Header(
    "talks/eins.wav",
    "en",
    ("de", "zh"),
    160_000,
    {"audio": "eins.wav", "de": "ein\tSatz"},
    {"de": (ReferenceSegment(0.5, 1000, "ein Satz"), ReferenceSegment(2000, 900.25, ""))},
    {"mode": "live", "beta": 0.2, "policies": ["hold"]},
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("logs") / "talk.log"


@settings(max_examples=50, deadline=None)
@given(events=EVENTS)
def test_what_was_written_is_read_back(path, events):
    write_log(path, HEADER, events, {"passes": 3})
    assert read_log(path) == Log(HEADER, tuple(events), {"passes": 3})


@settings(max_examples=50, deadline=None)
@given(events=EVENTS, part=st.floats(0, 1))
def test_a_log_cut_off_anywhere_is_read_up_to_there(path, events, part):
    write_log(path, HEADER, events)
    whole = path.read_bytes()
    kept = whole[: int(len(whole) * part)]
    path.write_bytes(kept)
    log = read_log(path)
    lines = kept.count(b"\n")
    assert log.events == tuple(events[: max(0, lines - 1)])
    assert log.header == (HEADER if lines else Header())
    assert bool(log.problems) == (kept != whole)


def die_after(path, event):
    with LogWriter(path, HEADER) as log:
        log.add(1600, event, 101.5)
        assert len(read_log(path).events) == 1  # before anything is closed
        raise ZeroDivisionError


def test_a_run_that_dies_leaves_a_log_without_an_end(path):
    with pytest.raises(ZeroDivisionError):
        die_after(path, SpeechStarted(0, 800))
    log = read_log(path)
    assert log.events == (Logged(1600, SpeechStarted(0, 800), 101.5),)
    assert log.totals == {}
    assert log.problems == ("the log has no end: the run was cut off, and its last captions may be missing",)


GOOD = '{"at": 5, "wall_ms": null, "event": "SpeechEnded", "segment": 0, "end": 9}'


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[1]",
        "\udcff",
        '{"at": 5}',
        '{"events": 0}',
        GOOD.replace("SpeechEnded", "SpeechSlowed"),
        GOOD.replace('"segment": 0, ', ""),
        GOOD.replace("9", "true"),
        GOOD.replace("9", '"9"'),
        GOOD.replace("null", "NaN"),
        GOOD.replace("5", "5.5"),
    ],
)
def test_a_damaged_line_is_left_out_and_told(path, line):
    write_log(path, HEADER, [])
    head, end = path.read_text().splitlines()
    text = "\n".join([head, GOOD, line, GOOD, end.replace('"events": 0', '"events": 3')]) + "\n"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    log = read_log(path)
    assert log.events == (Logged(5, SpeechEnded(0, 9)),) * 2
    assert log.problems == (
        "line 3 holds no event and was left out",
        "3 events were written, and 2 can be read",
    )


def test_what_is_no_log_is_refused(path):
    head = {"log": "streamtrans", "version": 1, "audio": "a.wav"}
    for text, told in (
        ("a\tb\n", "no log of ours"),
        (json.dumps({"log": "other"}) + "\n", "no log of ours"),
        (json.dumps({**head, "version": 9}) + "\n", "version 9"),
        (json.dumps(head) + "\n", "header .* damaged"),
    ):
        path.write_text(text)
        with pytest.raises(BadConfig, match=told):
            read_log(path)
    with pytest.raises(BadConfig, match="can't be read"):
        read_log(path.with_name("absent.log"))
    with pytest.raises(BadConfig, match="can't be written"):
        write_log(path.parent / "absent" / "talk.log", HEADER, [])


def test_wall_times_are_all_there_or_none(path):
    started, ended = SpeechStarted(0, 0), SpeechEnded(0, 5)
    log = Log(HEADER, (Logged(16, started, 2.0), Logged(32, ended, 3.5)))
    assert log.timed() == ((16, started), (32, ended))
    assert log.timed_by_wall() == ((32, started), (56, ended))
    assert Log(HEADER, (*log.events, Logged(48, ended))).timed_by_wall() is None
