"""What others wrote becomes values of the types that we expect, or an error that says where; and costs little."""

import json
import math
import subprocess
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrans.foreign import BadValue, inflate, parse, typed


@dataclass(frozen=True, slots=True)
class Inner:
    count: int
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    mode: Literal["live", "final"] = "live"
    inner: Inner = Inner(1)
    many: tuple[Inner, ...] = ()
    pair: tuple[str, int] = ("a", 1)
    maybe: float | None = None
    by_name: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    flag: bool = False


WHOLE = {
    "name": "n",
    "mode": "final",
    "inner": {"count": 2, "share": 1},
    "many": [{"count": 3.0}],
    "pair": ["b", 2],
    "maybe": None,
    "by_name": {"x": [1, 2]},
    "plain": {"y": [None]},
    "flag": True,
}


def test_every_kind_of_field_is_read():
    read = typed(Outer, WHOLE)
    assert read == Outer("n", "final", Inner(2, 1.0), (Inner(3),), ("b", 2), None, {"x": (1, 2)}, {"y": [None]}, True)
    assert type(read.inner.share) is float
    assert type(read.many[0].count) is int
    assert typed(Outer, {"name": "n"}) == Outer("n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": 3}, "name is 3, and should be a text"),
        ({"name": None}, "name is None, and should be a text"),
        ({"mode": "Live"}, "mode is 'Live', and should be one of live, final"),
        ({"mode": ["live"]}, "mode is .*, and should be one of"),
        ({"inner": []}, "inner is .*, and should be an object"),
        ({"inner": {"count": True}}, "inner.count is True, and should be a whole number"),
        ({"inner": {"count": 1.5}}, "inner.count is 1.5, and should be a whole number"),
        ({"inner": {"count": math.inf}}, "inner.count is inf"),
        ({"inner": {"share": 0.5}}, r"inner \(Inner\) lacks count"),
        ({"inner": {"count": 1, "share": 10**400}}, "inner.share is .* a number that a float can hold"),
        ({"inner": {"count": 1, "size": 2}}, r"inner \(Inner\) has no size"),
        ({"many": [{"count": 1}, {"count": "1"}]}, r"many\[1\].count is '1'"),
        ({"many": {"count": 1}}, "many is .*, and should be a list"),
        ({"pair": ["b"]}, "pair is .*, and should be a list of 2"),
        ({"maybe": "x"}, "maybe is 'x', and should be a number"),
        ({"by_name": {"x": [1]}}, "by_name.x is"),
        ({"flag": 1}, "flag is 1, and should be true or false"),
        ({"name": "x" * 1_000, "flag": "y" * 1_000}, r"flag is 'yyy.{0,60}, and should be"),
    ],
)
def test_what_is_of_another_type_is_named_with_its_place(change, told):
    with pytest.raises(BadValue, match=told):
        typed(Outer, WHOLE | change)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(WHOLE)) | st.text(), inner),
    max_leaves=12,
)


@given(JSON)
def test_anything_is_read_or_refused(value):
    try:
        read = typed(Outer, value)
    except BadValue:
        return
    assert isinstance(read, Outer)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5_000, b'"\\ud800', b"nul"])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(BadValue, match="no JSON"):
        parse(data, 1_000_000)


def test_json_is_not_read_beyond_its_measure():
    assert parse(json.dumps(WHOLE), 1_000) == WHOLE
    with pytest.raises(BadValue, match="1,001 long, and at most 1,000"):
        parse(b"[" + b" " * 999 + b"]", 1_000)


@given(st.binary(max_size=3_000), st.integers(0, 4_000))
def test_what_was_deflated_is_inflated_up_to_its_measure(data, most):
    if len(data) <= most:
        assert inflate(zlib.compress(data), most) == data
    else:
        with pytest.raises(BadValue, match=f"more than the {most:,} bytes"):
            inflate(zlib.compress(data), most)


@given(st.binary(max_size=200))
def test_what_was_not_deflated_is_refused(data):
    with pytest.raises(BadValue):
        inflate(b"\xff" + data, 1_000)


def test_what_is_cut_off_is_refused():
    whole = zlib.compress(bytes(range(256)) * 9)
    for length in range(len(whole)):
        with pytest.raises(BadValue):
            inflate(whole[:length], 10_000)


def test_a_bomb_costs_little_more_than_a_block():
    code = (
        "import resource, zlib\n"
        "from streamtrans.foreign import BadValue, inflate\n"
        "made = zlib.compressobj(9)\n"
        "bomb = b''.join(made.compress(bytes(1 << 20)) for _ in range(512)) + made.flush()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: inflate(bomb, 32 << 20)\n"
        "except BadValue: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 10 << 20  # where 32 MB were allowed
