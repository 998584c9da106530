"""Recordings made by earlier versions, kept as they were made: every later version reads and replays them."""

import io
import json
import struct
import zlib
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from streamtrans.core import Caption
from streamtrans.stream import Recording, Session, rerun
from streamtrans.stream.calls import Hear, Kind, Retarget, read, written
from streamtrans.stream.records import MAGIC, Record, Records
from streamtrans.text import Tokenizer
from tests.fakes import Words

FOLDER = Path(__file__).parent.parent / "data" / "recordings"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def opened(name):
    return Recording(io.BytesIO((FOLDER / name).read_bytes()), name)


def speller(recording):
    text = recording.origin.tokenizer
    return Tokenizer(tokenizers.Tokenizer.from_str(text)) if text else Words()


def test_every_recording_that_is_kept_is_expected():
    assert sorted(path.name for path in FOLDER.glob("*.stsession")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_was_recorded_is_read(name):
    recording = opened(name)
    calls = list(recording.calls())
    heard = np.concatenate([call.samples for call in calls if isinstance(call, Hear)])
    expected = EXPECTED[name]
    assert recording.problem is None
    assert list(recording.config.targets) == expected["targets"]
    assert (recording.config.mode, recording.config.policy) == (expected["mode"], expected["policy"])
    assert recording.origin.model == expected["model"]
    assert sha256(heard.astype("<f4").tobytes()).hexdigest() == expected["heard"]
    assert Counter(type(call).__name__ for call in calls) == expected["calls"]


@pytest.mark.parametrize("name", EXPECTED)
def test_it_replays_to_the_captions_of_then(name):
    recording = opened(name)
    session = Session(recording.config, speller(recording), window=recording.window)
    captions = [
        [caption.language, caption.start, caption.end, caption.revision, caption.committed]
        for _, now in rerun(recording, session)
        for caption in now
        if isinstance(caption, Caption) and caption.final
    ]
    assert captions == EXPECTED[name]["finals"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_file_is_laid_out_as_it_is_described(name):
    """Read with nothing of ours: other tools may do the same."""
    data = (FOLDER / name).read_bytes()
    assert data.startswith(MAGIC)
    at, kinds = len(MAGIC) + 2, []
    while at < len(data):
        kind, length, check = struct.unpack_from("<BII", data, at)
        assert check == zlib.crc32(data[at : at + 5])
        body, [second] = data[at + 9 : at + 9 + length], struct.unpack_from("<I", data, at + 9 + length)
        assert second == zlib.crc32(body)
        kinds.append(kind)
        at += 9 + length + 4
    assert kinds == [record.kind for record in Records(io.BytesIO(data), name)]
    assert (kinds[0], kinds[-1]) == (Kind.HEADER, Kind.CLOSED)


def test_kinds_keep_their_numbers():
    assert [kind.name for kind in sorted(Kind)] == EXPECTED_KINDS
    assert [int(kind) for kind in sorted(Kind)] == list(range(1, len(EXPECTED_KINDS) + 1))


EXPECTED_KINDS = [
    *("HEADER", "TOKENIZER", "INT16", "FLOAT32", "UTTERANCE_END", "END", "TAKEN", "ANSWERED", "FAILED", "TOLD"),
    *("CLOSED", "TARGETS", "PACE"),
]


def test_a_change_of_targets_comes_back_as_it_was():
    call = Retarget(("de", "zh-Hant"))
    kind, payload = written(call)
    assert kind == Kind.TARGETS
    assert read(Record(kind, payload, 0)) == call
