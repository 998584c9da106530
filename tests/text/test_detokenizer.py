"""The law of the room: tokens become text here, and what was shown of them stays true."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.text import Detokenizer


def spell(data):
    """Return a vocabulary of the 256 bytes, and ``data`` in it."""
    return (lambda token: bytes([token])), list(data)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=24), st.text(max_size=10).map(str.encode)))
def test_text_of_a_prefix_is_a_prefix_of_the_text(data):
    piece, tokens = spell(data)
    whole = Detokenizer(piece).extend(tokens)
    for m in range(len(tokens) + 1):
        assert whole.startswith(Detokenizer(piece).extend(tokens[:m]))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.data())
def test_no_half_characters(text, data):
    piece, tokens = spell(text.encode())
    cut = data.draw(st.integers(0, len(tokens)))
    shown = Detokenizer(piece).extend(tokens[:cut])
    assert "\ufffd" not in shown.replace("\ufffd", "", text.count("\ufffd"))
    assert text.removeprefix(" ").startswith(shown)
    assert Detokenizer(piece).extend(tokens) == text.removeprefix(" ")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=24))
def test_one_by_one_equals_all_at_once(data):
    piece, tokens = spell(data)
    detokenizer = Detokenizer(piece)
    parts = [detokenizer.add(token) for token in tokens]
    assert "".join(parts) == detokenizer.text == Detokenizer(piece).extend(tokens)


def test_withheld_bytes_are_reported():
    detokenizer = Detokenizer(lambda token: bytes([token]))
    assert [detokenizer.add(byte) for byte in "né".encode()] == ["n", "", "é"]
    assert detokenizer.whole
    detokenizer.add(0xE4)
    assert not detokenizer.whole
    assert detokenizer.add(0x41) == "\ufffdA"
    assert detokenizer.whole


def test_only_the_first_space_of_a_segment_is_layout():
    piece, tokens = spell(b"  a b")
    assert Detokenizer(piece).extend(tokens) == " a b"
