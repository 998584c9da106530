"""What was recorded of a session comes again bit for bit, whatever was late, failed, or cut short."""

import io
import json
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import AudioTooLong, Caption, Doubt, EngineClosed, Hypothesis, Reading
from streamtrans.segment import EndpointRules
from streamtrans.stream import POLICIES, Session, SessionConfig, settle
from streamtrans.stream.calls import Answer, Asked, End, EndUtterance, Fail, Hear, Kind, Take, Tell, read, written
from streamtrans.stream.recording import FileSink, Origin, Recorder, Recording, fingerprint
from streamtrans.stream.records import MAGIC, BadRecording, Record, Records, pack, preface
from streamtrans.stream.rerun import Differs, rerun
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Tokenizer, train_tokenizer
from tests.fakes import Words

RULES = EndpointRules(
    min_speech_ms=64,
    min_silence_ms=200,
    pre_roll_ms=64,
    head_ms=0,
    padding_ms=64,
    max_segment_ms=2_000,
    cut_search_ms=500,
)
BACKEND = train_tokenizer(["wake me up", "réveille-moi", "星期五早上九点"] * 4, 330, ["de", "zh"])
TOKENIZER = Tokenizer(BACKEND)
LENGTH = 3 * 16_000
FLOATS = np.random.default_rng(1).normal(0, 0.1, LENGTH).astype(np.float32)
WHOLE = (FLOATS * 32_768).round().astype(np.int16).astype(np.float32) / np.float32(32_768)
ORIGIN = Origin("toy", "abc", {"dtype": "float32"}, {"numpy": "1"}, BACKEND.to_str())


class Kept:
    """A sink whose bytes outlive it; it is full after ``room`` bytes."""

    def __init__(self, room=None):
        self.data = b""
        self.room = room
        self.closed = False

    def write(self, data):
        assert not self.closed
        if self.room is not None and len(self.data) + len(data) > self.room:
            self.data = (self.data + data)[: self.room]
            raise OSError(28, "No space left on device")
        self.data += data

    def flush(self):
        assert not self.closed

    def close(self):
        self.closed = True


def adversary(seed, doubts=(None,)):
    """Say something that depends on the job alone, often near what was said before; fail now and then."""

    def model(job, target):
        rng = random.Random(f"{seed} {job.segment} {job.end} {job.last} {target.language} {target.prefix}")
        mood = rng.random()
        if mood < 0.08:
            raise AudioTooLong("the adversary is not in the mood")
        tail = [rng.randrange(TOKENIZER.size + 5) for _ in range(rng.randrange(8))]
        keep = rng.randrange(len(target.prefix), max(len(target.draft), len(target.prefix)) + 1)
        said = target.draft if len(target.draft) >= len(target.prefix) else target.prefix
        found = hypothesis((*said[:keep], *tail), rng.uniform(0.1, 1))
        return replace(found, doubt=rng.choice(doubts))

    return model


def pump(session, engine, audio, dice):
    """Answer in any order and whenever the dice say, force ends, and return the events as they were taken."""
    under_way, events, at = [], [], 0
    while not session.finished:
        step = dice.choice(["hear", "answer", "answer", "end_utterance", "events"])
        if step == "hear" and at < len(audio):
            length = dice.choice([0, 1, 700, 1_600, 9_000])
            session.hear(audio[at : at + length])
            at += length
            if at >= len(audio):
                session.end()
        elif step == "end_utterance" and dice.random() < 0.1:
            session.end_utterance()
        elif step == "events":
            events.append(session.events())
        elif under_way:
            request = under_way.pop(dice.randrange(len(under_way)))
            future = engine.submit(request)
            if future.exception() is None:
                session.answer(request, future.result())
            else:
                session.fail(request, future.exception())
        under_way += session.requests()
    events.append(session.events())
    return events


def recorded(config, audio, spans, seed, *, room=None, origin=ORIGIN, doubts=(None,)):
    sink = Kept(room)
    session = Recorder(Session(config, TOKENIZER, window=512), sink, origin, window=512)
    events = pump(session, InstantEngine(adversary(seed, doubts), ScriptedVad(spans)), audio, random.Random(seed))
    session.close()
    return sink.data, events


def replayed(data, engine=None):
    recording = Recording(io.BytesIO(data), "talk.stsession")
    events = []
    for was, now in rerun(recording, Session(recording.config, TOKENIZER, window=recording.window), engine):
        assert len(was) == len(now)
        assert engine is not None or list(was) == now
        events.append(now)
    return events, recording


def doubts_of(events):
    return [event.doubt for taken in events for event in taken if isinstance(event, Caption)]


DOUBTS = (
    None,
    None,
    None,
    Doubt(),
    Doubt("en"),
    Doubt("en", certain=True),
    Doubt(certain=True, chatter=True),
    Doubt(chatter=True, cut=True),
)
CONFIGS = st.builds(
    SessionConfig,
    targets=st.sampled_from([("de",), ("de", "zh")]),
    source=st.sampled_from([None, "en"]),
    endpoints=st.just(RULES),
    mode=st.sampled_from(["live", "stable", "final"]),
    policy=st.sampled_from(sorted(POLICIES)),
    reading_interval_ms=st.sampled_from([100, 250]),
    min_first_reading_ms=st.sampled_from([0, 300]),
    detect_limit_ms=st.sampled_from([100, 2_000]),
    level_db=st.sampled_from([None, -24.0]),
)
SPANS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)), max_size=4)


@settings(max_examples=50, deadline=None)
@given(config=CONFIGS, spans=SPANS, seed=st.integers(0, 10_000), audio=st.sampled_from([FLOATS, WHOLE]))
def test_any_schedule_replays_to_the_same_events(config, spans, seed, audio):
    data, events = recorded(config, audio, spans, seed, doubts=DOUBTS)
    for engine in (None, InstantEngine(adversary(seed, DOUBTS), ScriptedVad(spans))):
        again, recording = replayed(data, engine)
        assert again == events
        assert doubts_of(again) == doubts_of(events)
        assert recording.problem is None
        assert recording.finished
        assert recording.received == LENGTH
    assert recording.config == config
    assert recording.origin == ORIGIN


CONFIG = SessionConfig(("de",), endpoints=RULES, policy="agreement", reading_interval_ms=250, min_first_reading_ms=0)
SHORT = 16_000


@pytest.fixture(scope="module")
def small():
    """A recording of a few kilobytes: one second, few samples."""
    data, events = recorded(CONFIG, WHOLE[:SHORT], [(2_000, 9_000)], 3, origin=Origin("toy"))
    assert sum(isinstance(event, Caption) for told in events for event in told) >= 2
    return data, events


@pytest.fixture(scope="module")
def tiny():
    """A recording of which every byte can be tried."""
    data, events = recorded(CONFIG, WHOLE[:2_000], [(0, 2_000)], 6, origin=Origin("toy"))
    assert isinstance(events[-1][-1], Caption)
    return data, events


def whole_records(data):
    """Return the offsets at which a record ends, by the format as it is documented."""
    at, ends = len(MAGIC) + 2, []
    while at < len(data):
        [length] = struct.unpack_from("<I", data, at + 1)
        at += 5 + 4 + length + 4
        ends.append(at)
    return ends


def test_a_file_cut_off_anywhere_is_read_to_its_last_whole_record(tiny):
    data, _ = tiny
    ends = whole_records(data)
    assert ends[-1] == len(data)
    for cut in range(len(data)):
        if cut < ends[0]:
            with pytest.raises(BadRecording, match="before"):
                Recording(io.BytesIO(data[:cut]), "x")
            continue
        recording = Recording(io.BytesIO(data[:cut]), "x")
        calls = list(recording.calls())
        assert len(calls) == sum(end <= cut for end in ends) - 1
        how = "as its recorder was interrupted" if cut in ends else "in the middle of a record"
        assert recording.problem == f"x ends after {recording.received / 16_000:.1f} s{',' * (cut in ends)} " + (
            f"{how}; replayed up to there"
        )


def test_what_is_left_of_a_cut_file_replays(small):
    data, events = small
    for cut in [*whole_records(data), *range(whole_records(data)[0], len(data), 997)]:
        again, _ = replayed(data[:cut])
        assert again == events[: len(again)]
    assert again


def test_a_changed_byte_is_found_and_told_where(tiny):
    data, events = tiny
    ends = whole_records(data)
    for position in range(12, len(data), 7):
        broken = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        start = max([12, *(end for end in ends if end <= position)])
        if start == 12:
            with pytest.raises(BadRecording, match="damaged, before"):
                Recording(io.BytesIO(broken), "x")
            continue
        recording = Recording(io.BytesIO(broken), "x")
        again = [now for _, now in rerun(recording, Session(recording.config, TOKENIZER, window=512))]
        assert again == events[: len(again)]
        assert f"damaged at byte {start}, after {recording.received / 16_000:.1f} s" in recording.problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"RIFF....WAVEfmt ", "is no recording"),
        (b"", "ends after 0 bytes, before its header"),
        (MAGIC + struct.pack("<H", 2) + b"whatever", "format 2; .* newer streamtrans"),
        (MAGIC + struct.pack("<H", 0), "format 0"),
        (preface() + pack(Kind.END, b""), "before it says what was recorded"),
    ],
)
def test_what_is_no_recording_is_refused(data, problem):
    with pytest.raises(BadRecording, match=f"x .*{problem}"):
        Recording(io.BytesIO(data), "x")


def test_what_a_newer_version_added_is_refused_by_name(small):
    data, _ = small
    records = list(Records(io.BytesIO(data), "x"))
    header = json.loads(records[0].payload)
    header["session"]["telepathy"] = 3
    changed = preface() + pack(Kind.HEADER, json.dumps(header).encode())
    with pytest.raises(BadRecording, match=r"SessionConfig.* telepathy; replay it with the version that made it"):
        Recording(io.BytesIO(changed), "x")
    unknown = data[: whole_records(data)[0]] + pack(99, b"")
    with pytest.raises(BadRecording, match="unknown kind 99 at byte"):
        list(Recording(io.BytesIO(unknown), "x").calls())
    event = data[: whole_records(data)[0]] + pack(Kind.TOLD, b'[["Applause", {}]]')
    with pytest.raises(BadRecording, match="event of unknown kind Applause"):
        list(Recording(io.BytesIO(event), "x").calls())


def test_a_setting_that_an_older_version_did_not_know_has_its_default(small):
    header = json.loads(next(iter(Records(io.BytesIO(small[0]), "x"))).payload)
    del header["session"]["policy_n"]
    recording = Recording(io.BytesIO(preface() + pack(Kind.HEADER, json.dumps(header).encode())), "x")
    assert recording.config.policy_n == SessionConfig(("de",)).policy_n


def test_a_rule_that_changed_what_was_heard_is_off_where_it_was_not_there(small):
    header = json.loads(next(iter(Records(io.BytesIO(small[0]), "x"))).payload)
    for head_ms, stated in ((700, {"head_ms": 700}), (0, {})):
        del header["session"]["endpoints"]["head_ms"]
        header["session"]["endpoints"] |= stated
        recording = Recording(io.BytesIO(preface() + pack(Kind.HEADER, json.dumps(header).encode())), "x")
        assert recording.config.endpoints.head_ms == head_ms


ANY_FLOAT = st.floats(allow_nan=False)
EVERY_BIT = st.floats(width=32, allow_nan=False)
CALLS = st.one_of(
    st.lists(st.integers(-32_768, 32_767)).map(lambda k: Hear(np.array(k, np.float32) / np.float32(32_768))),
    st.lists(EVERY_BIT).map(lambda samples: Hear(np.array(samples, np.float32))),
    st.sampled_from([EndUtterance(), End()]),
    st.lists(
        st.one_of(
            st.builds(Asked, windows=st.integers(1)),
            st.builds(Asked, segment=st.integers(0), last=st.booleans(), languages=st.lists(st.text()).map(tuple)),
        )
    ).map(lambda asked: Take(tuple(asked))),
    st.builds(Fail, st.sampled_from(["Detect", "Job"]), st.text()),
    st.lists(
        st.builds(
            Hypothesis,
            st.lists(st.integers(0)).map(tuple),
            st.lists(ANY_FLOAT).map(tuple),
            st.booleans(),
            ends=st.lists(st.integers(0)).map(tuple),
        )
    ).map(lambda all: Answer(Reading(tuple(all)))),
    st.builds(Caption, st.integers(0), st.integers(1), st.text(), st.text(), st.text(), st.booleans(),
              st.integers(), st.integers(), st.integers(), ANY_FLOAT).map(lambda caption: Tell((caption,))),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(CALLS)
def test_a_call_that_is_written_and_read_is_the_same(call):
    kind, payload = written(call)
    again = read(Record(kind, payload, 0))
    if isinstance(call, Hear):
        assert again.samples.dtype == np.float32
        assert again.samples.tobytes() == call.samples.tobytes()
    else:
        assert again == call
        assert repr(again) == repr(call)  # as 0.0 == -0.0


def test_pcm_takes_two_bytes_a_sample():
    assert written(Hear(WHOLE))[0] == Kind.INT16
    assert len(written(Hear(WHOLE))[1]) == 2 * LENGTH
    assert written(Hear(FLOATS))[0] == Kind.FLOAT32


def test_another_answer_is_named(small):
    data, _ = small

    def other(job, target):
        said = adversary(3)(job, target)
        return hypothesis((*said.tokens, *TOKENIZER.encode("wake me up")), 0.5) if job.last else said

    with pytest.raises(Differs, match=r"segment 0, revision \d, de: was '.*', and is '.*wake me up'") as told:
        replayed(data, InstantEngine(other, ScriptedVad([(2_000, 9_000)])))
    difference = told.value.difference
    assert (difference.segment, difference.language) == (0, "de")
    assert difference.was != difference.now
    assert 0 < difference.at <= SHORT


def test_another_segment_is_named_before_the_request_that_follows_from_it(small):
    with pytest.raises(Differs, match=r"segment 0: was speech from sample .*, and is speech from sample"):
        replayed(small[0], InstantEngine(adversary(3), ScriptedVad([(4_000, 9_000)])))
    with pytest.raises(Differs, match="what the engine is asked: was a reading of segment 0, samples"):
        replayed(small[0], InstantEngine(adversary(3), ScriptedVad([])))


def test_a_stability_that_is_computed_again_is_no_difference_but_a_recorded_one_is(small):
    def shaky(job, target):
        said = adversary(3)(job, target)
        return replace(said, logprobs=tuple(value - 1e-6 for value in said.logprobs))

    again, _ = replayed(small[0], InstantEngine(shaky, ScriptedVad([(2_000, 9_000)])))
    texts = [[getattr(event, "text", event) for event in told] for told in again]
    assert texts == [[getattr(event, "text", event) for event in told] for told in small[1]]
    assert again != small[1]
    records = list(Records(io.BytesIO(small[0]), "x"))
    changed = preface() + b"".join(
        pack(r.kind, r.payload.replace(b'"stability":0.', b'"stability":1.') if r.kind == Kind.TOLD else r.payload)
        for r in records
    )
    with pytest.raises(Differs, match=r"stability=1\."):
        replayed(changed)


def test_an_engine_that_closes_is_no_difference(small):
    engine = InstantEngine(adversary(3), ScriptedVad([]))
    engine.close()
    with pytest.raises(EngineClosed):
        replayed(small[0], engine)


def test_answers_that_nobody_asked_for_are_refused(small):
    head = small[0][: whole_records(small[0])[0]]
    with pytest.raises(BadRecording, match="never asked"):
        replayed(head + pack(*written(Answer(Reading(())))))


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_full_disk_ends_the_recording_and_not_the_session(small, share, caplog):
    data, events = small
    room = round(share * len(data))
    cut, same = recorded(CONFIG, WHOLE[:SHORT], [(2_000, 9_000)], 3, origin=Origin("toy"), room=room)
    assert same == events
    assert cut == data[:room]
    assert caplog.text.count("No space left on device") == 1


def test_a_sink_that_fails_when_it_is_flushed_or_closed_is_told_once(caplog):
    class Late(Kept):
        def close(self):
            raise OSError(5, "Input/output error")

    recorder = Recorder(Session(CONFIG, Words()), Late(), ORIGIN)
    recorder.close()
    recorder.close()
    assert recorder.error.errno == 5
    assert caplog.text.count("Input/output error") == 1


def test_a_session_that_was_left_is_told_as_such(tmp_path):
    path = tmp_path / "left.stsession"
    session = Recorder(Session(CONFIG, Words()), FileSink(path), Origin("toy"))
    session.hear(WHOLE[:8_000])
    settle(session, InstantEngine(adversary(1), ScriptedVad([])))
    assert (session.config, session.full, session.cursors.received) == (CONFIG, False, 8_000)
    assert session.stats.segments == 0
    session.close()
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("rb") as file:
        recording = Recording(file, "left")
        assert len(list(recording.calls())) == 4
    assert recording.problem == "left ends after 0.5 s, as its session was left before its end; replayed up to there"


def test_what_the_session_refuses_is_not_recorded():
    sink = Kept()
    session = Recorder(Session(CONFIG, Words()), sink, Origin("toy"))
    before = sink.data
    with pytest.raises(Exception, match="NaN"):
        session.hear(np.full(3, np.nan, np.float32))
    assert sink.data == before


def test_a_fingerprint_is_of_names_and_contents(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "measured.json").write_text("{}")
    assert fingerprint(tmp_path) == first
    assert len(first) == 64
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert fingerprint(tmp_path) != first
