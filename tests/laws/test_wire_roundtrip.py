"""Law: reducing what was sent gives back the captions, also where the client was too slow for all of them."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings

from streamtrans.core import Caption, Doubt, Event, SpeechEnded, SpeechStarted, Word
from streamtrans.wire import Cursors, Encoder, Envelope, Reducer, ServerMessage

SPELLINGS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("𝄞😀👩\u200d🚀🇩🇪é\u0301世界 "),  # beyond the BMP, joined, combined
    ),
    max_size=12,
)
MS = 16  # samples; positions on whole milliseconds survive the wire

PLACES = st.none() | st.integers(0, 10_000).map(lambda ms: MS * ms)
WORDS = st.lists(st.builds(Word, SPELLINGS, st.floats(0, 1), PLACES, PLACES), max_size=3).map(tuple)


DOUBTS = st.none() | st.builds(Doubt, st.sampled_from(["en", "zh"]), st.booleans())


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """One stream: segments one after another, captions of several languages interleaved."""
    events: list[Event] = []
    position = 0
    languages = draw(st.lists(st.sampled_from(["de", "zh", "fr"]), min_size=1, max_size=3, unique=True))
    for segment in range(draw(st.integers(1, 3))):
        start = position = position + MS * draw(st.integers(0, 500))
        events.append(SpeechStarted(segment, start))
        committed = dict.fromkeys(languages, "")
        revision = dict.fromkeys(languages, 0)
        for language in draw(st.lists(st.sampled_from(languages), max_size=6)):
            position += MS * draw(st.integers(1, 500))
            committed[language] += draw(SPELLINGS)
            revision[language] += 1
            tail = draw(SPELLINGS)
            events.append(
                Caption(
                    segment, revision[language], language, committed[language], tail, False,
                    start, position, position, draw(st.floats(0, 1)),
                )
            )  # fmt: skip
        events.append(SpeechEnded(segment, position))
        for language in languages:
            text = committed[language] + draw(SPELLINGS)
            closing = Caption(segment, revision[language] + 1, language, text, "", True, start, position, position)
            events.append(replace(closing, complete=draw(st.booleans()), words=draw(WORDS), doubt=draw(DOUBTS)))
    return events


def sent(events: list[Event]) -> list[ServerMessage]:
    encoder, envelope = Encoder(), Envelope("s")
    sealed = [envelope.seal(encoder.encode(event), Cursors(), 0) for event in events]
    return [ServerMessage.FromString(message.SerializeToString()) for message in sealed]


def received(messages: list[ServerMessage]) -> list[Event | None]:
    reducer = Reducer()
    return [reducer.reduce(message) for message in messages]


@settings(max_examples=60, deadline=None)
@given(histories())
def test_reducing_what_was_sent_gives_back_the_events(events: list[Event]) -> None:
    back = received(sent(events))
    assert back == events
    beside = [[(each.words, each.doubt) for each in told if isinstance(each, Caption)] for told in (back, events)]
    assert beside[0] == beside[1]


@settings(max_examples=60, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_skipped_readings_lose_nothing(events: list[Event], random) -> None:
    kept = [event for event in events if not isinstance(event, Caption) or event.final or random.random() < 0.5]
    back = received(sent(kept))
    numbers: dict[tuple[int, str], int] = {}
    for was, now in zip(kept, back, strict=True):
        if isinstance(was, Caption):
            key = (was.segment, was.language)
            numbers[key] = numbers.get(key, 0) + 1
            assert now == replace(was, revision=numbers[key])
        else:
            assert now == was


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 40))
def test_a_late_reader_catches_up_by_snapshots(events: list[Event], cut: int) -> None:
    encoder = Encoder()
    early = [encoder.encode(event) for event in events[:cut]]
    full, late = Reducer(), Reducer()
    expected = {
        (event.segment, event.language): event for event in map(full.reduce, early) if isinstance(event, Caption)
    }
    held = [late.reduce(message) for message in encoder.snapshots()]
    assert held == list(expected.values())
    for event in events[cut:]:
        message = encoder.encode(event)
        assert late.reduce(message) == full.reduce(message)


@settings(max_examples=60, deadline=None)
@given(SPELLINGS, SPELLINGS, SPELLINGS)
def test_withdrawn_counts_what_the_viewer_sees_vanish(tail: str, append: str, new_tail: str) -> None:
    encoder = Encoder()
    first = Caption(0, 1, "de", "", tail, False, 0, MS, MS)
    encoder.encode(first)
    second = replace(first, committed=append, tentative=new_tail)
    withdrawn = encoder.encode(second).caption.withdrawn
    kept = tail[: len(tail) - withdrawn]
    assert (append + new_tail).startswith(kept)
    assert withdrawn == 0 or not (append + new_tail).startswith(tail[: len(kept) + 1])
