"""Passes in one call beside others, on a model that takes no time."""

import pytest

from streamtrans.bench.passes import CASES, FLOOR, ONE_CALL, OPENVINO, OPERATORS, TRACED, Passes
from streamtrans.core import BadConfig
from streamtrans.model import native
from streamtrans.runtime import ModelChoice
from tests.checkpoints import make_whisper_m2m
from tests.contracts.test_passes import SHAPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("passes")
    make_whisper_m2m(made, **SHAPE)
    return made


def test_every_case_is_timed_in_every_way(folder):
    ways = (*((ONE_CALL,) if native.library() else ()), OPERATORS, TRACED)
    report = Passes(choice=ModelChoice(str(folder)), frames=9, rounds=2, ways=ways).measure()
    times = report.figures["ms"]
    assert [*times] == [*ways, FLOOR]
    for way in ways:
        assert set(times[way]) == {case for case, (texts, _) in CASES.items() if way != TRACED or len(texts) == 1}
        assert all(ms > 0 for ms in times[way].values())
    assert report.figures["missing"] == {}


def test_what_is_not_to_be_had_is_told(folder, monkeypatch):
    monkeypatch.setattr(native, "_loaded", lambda: "there is no C compiler")
    choice = ModelChoice(str(folder), dtype="int8")
    report = Passes(choice=choice, frames=9, rounds=1, ways=(ONE_CALL, OPENVINO)).measure()
    assert [*report.figures["ms"]] == [FLOOR]
    assert report.notes[0] == "one call: left out, there is no C compiler"
    assert "measured in float32 only" in report.notes[1]
    with pytest.raises(BadConfig, match="--ways names by hand"):
        Passes(ways=("by hand",)).measure()
