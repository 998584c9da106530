"""Law: what is sealed with a token is opened with it, under its name and unchanged, and by nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrans.server.sealing import Broken, opened, sealed

TOKEN, NAME = "t" * 32, "n" * 64


@given(st.binary(max_size=2_000))
def test_it_comes_out_as_it_went_in_and_never_looks_the_same(data):
    once, again = sealed(TOKEN, NAME, data), sealed(TOKEN, NAME, data)
    assert opened(TOKEN, NAME, once) == opened(TOKEN, NAME, again) == data
    assert once != again
    assert len(data) < 4 or data not in once


@given(st.binary(max_size=60), st.data())
def test_what_was_changed_anywhere_is_broken(data, draw):
    whole = bytearray(sealed(TOKEN, NAME, data))
    at = draw.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(Broken):
        opened(TOKEN, NAME, bytes(whole))


@pytest.mark.parametrize(("token", "name"), [("s" * 32, NAME), (TOKEN, "m" * 64), ("", NAME)])
def test_another_token_or_name_opens_nothing(token, name):
    with pytest.raises(Broken):
        opened(token, name, sealed(TOKEN, NAME, b"what was said"))


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 47, b"{}", sealed(TOKEN, NAME, b"said")[:-1]])
def test_what_was_never_sealed_is_broken(data):
    with pytest.raises(Broken):
        opened(TOKEN, NAME, data)


def test_equal_beginnings_of_two_texts_do_not_show():
    one, other = sealed(TOKEN, NAME, b"the same words and one"), sealed(TOKEN, NAME, b"the same words and two")
    assert one[16:30] != other[16:30]
