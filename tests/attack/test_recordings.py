"""Recordings that somebody wrote: whatever they hold, replaying is soon over, costs little, and says what is wrong."""

import io
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from streamtrans.core import StreamtransError
from streamtrans.foreign import Chosen
from streamtrans.stream import Recording, Session, rerun
from streamtrans.stream.calls import Kind
from streamtrans.stream.records import BadRecording, Records, pack, preface, to_json
from streamtrans.text import Tokenizer

TAPE = Path(__file__).parent.parent / "data" / "recordings" / "every-kind.stsession"
RECORDS = list(Records(io.BytesIO(TAPE.read_bytes()), TAPE.name))
ODD = [None, True, -1, 0, 3, 2**70, 0.5, 1e308, float("nan"), float("inf"), "", "os:_exit", "\ud800", [], {}, [[]]]
HEADER = {"origin": {"model": "x"}, "session": {"targets": ["de"]}, "window": 512}


def replayed(data, **options):
    recording = Recording(io.BytesIO(data), "x.stsession", **options)
    speller = Tokenizer.of(json.loads(recording.origin.tokenizer), origin="x")
    return sum(len(now) for _, now in rerun(recording, Session(recording.config, speller, window=recording.window)))


def written(records):
    return preface() + b"".join(pack(kind, payload) for kind, payload in records)


def spoilt(value, dice):
    """Return ``value`` with one thing in it replaced, left out or doubled."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        if dice.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: spoilt(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        at = dice.randrange(len(value))
        change = [[], [value[at]] * 2, [spoilt(value[at], dice)]][min(2, dice.randrange(6))]
        return value[:at] + change + value[at + 1 :]
    return dice.choice(ODD)


def test_it_replays_where_nothing_is_spoilt():
    assert replayed(written((record.kind, record.payload) for record in RECORDS)) > 20


@pytest.mark.parametrize("seed", range(150))
def test_a_record_that_holds_something_else_is_refused_by_name(seed):
    dice = random.Random(seed)
    records = [(record.kind, record.payload) for record in RECORDS]
    for _ in range(dice.choice((1, 1, 3))):
        at = dice.choice([0, dice.randrange(2, len(records))])
        kind, payload = records[at]
        if payload and kind not in (Kind.INT16, Kind.FLOAT32):
            payload = json.dumps(spoilt(json.loads(payload), dice)).encode()
        elif payload:
            payload = payload[: dice.randrange(len(payload))]
        records[at] = (dice.choice([kind, kind, kind, dice.randrange(14)]), payload)
        if dice.random() < 0.2:
            records.insert(at, records[dice.randrange(2, len(records))])
    try:
        replayed(written(records))
    except StreamtransError:
        return


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"session": {"targets": ["de"], "policy": "os:_exit"}}, "'os:_exit' isn't one of ours"),
        ({"session": {"targets": ["de"], "policy_n": "2"}}, "session.policy_n is '2', and should be a whole number"),
        ({"session": {"targets": ["de"], "bias": float("nan")}}, "bias is nan"),
        ({"session": {"targets": "de"}}, "session.targets is 'de', and should be a list"),
        ({"session": {"targets": ["tlh-x"]}}, "tlh-x"),
        ({"session": {"targets": ["de"], "endpoints": {"padding_ms": -1}}}, "padding_ms must not be negative"),
        ({"window": 0}, "windows of 0 samples"),
        ({"window": 10**9}, "windows of 1000000000 samples"),
        ({"window": "512"}, "window is '512'"),
        ({"origin": []}, "origin is .*, and should be an object"),
        ({"origin": {"versions": {"torch": 2}}}, "origin.versions.torch is 2"),
    ],
)
def test_a_header_is_checked_by_type_and_range(change, told):
    with pytest.raises(BadRecording, match=told):
        Recording(io.BytesIO(preface() + pack(Kind.HEADER, to_json(HEADER | change))))


@pytest.mark.parametrize("payload", [b"", b"nul", b"[" * 100_000, b"{}", b" " * (5 << 20) + b"{}", b"\xff"])
def test_a_header_that_is_none_is_refused(payload):
    with pytest.raises(BadRecording):
        Recording(io.BytesIO(preface() + pack(Kind.HEADER, payload)))


def test_what_was_made_with_another_package_asks_for_it():
    path = "streamtrans.stream.policies:Hold"  # as a stranger's would be named
    header = json.loads(RECORDS[0].payload)
    header["session"]["policy"] = path
    data = written([(Kind.HEADER, to_json(header)), *((record.kind, record.payload) for record in RECORDS[1:])])
    with pytest.raises(BadRecording, match="only who runs the program may choose another"):
        replayed(data)
    with pytest.raises(BadRecording, match="isn't one of ours"):
        replayed(data, chosen=["streamtrans.stream.policies:Final"])
    assert replayed(data, chosen=[path]) > 20
    assert isinstance(Recording(io.BytesIO(data), chosen=[path]).config.policy, Chosen)


def peak_mb(data, path):
    """Return what it costs to open a recording, in MB beside what the program costs anyway, and what is said."""
    path.write_bytes(data)
    code = (
        "import resource, sys\nfrom streamtrans.core import StreamtransError\n"
        "from streamtrans.stream import Recording\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    for call in Recording(open(sys.argv[1], 'rb')).calls(): pass\n    print('read')\n"
        "except StreamtransError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    said, grown = done.stdout.strip().splitlines()
    return int(grown) / (1024 if sys.platform != "darwin" else 1 << 20), said


def test_a_tokenizer_that_unpacks_to_much_more_than_it_is_costs_little(tmp_path):
    squeeze = zlib.compressobj(9)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(1 << 10)) + squeeze.flush()
    assert len(bomb) < 2 << 20
    grown, said = peak_mb(written([(Kind.HEADER, to_json(HEADER)), (Kind.TOKENIZER, bomb)]), tmp_path / "x")
    assert "inflates to more than" in said
    assert grown < 20


def test_a_length_that_no_file_has_costs_nothing(tmp_path):
    head = bytes([Kind.INT16]) + (2**32 - 1).to_bytes(4, "little")
    data = written([(Kind.HEADER, to_json(HEADER))]) + head + zlib.crc32(head).to_bytes(4, "little") + bytes(1_000)
    grown, said = peak_mb(data, tmp_path / "x")
    assert said == "read"  # it ends in the middle of a record
    assert grown < 20


def test_json_of_many_nothings_costs_what_is_allowed(tmp_path):
    many = b"[" + b"[]," * ((4 << 20) // 3) + b"[]]"
    grown, said = peak_mb(written([(Kind.HEADER, to_json(HEADER)), (Kind.TAKEN, many)]), tmp_path / "x")
    assert "at most" in said
    assert grown < 60
