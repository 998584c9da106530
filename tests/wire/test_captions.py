from dataclasses import replace

import pytest

from streamtrans.core import Caption, SpeechEnded, SpeechStarted
from streamtrans.wire import BrokenPromise, Encoder, LostMessage, Reducer, ServerMessage, pong_message
from streamtrans.wire.captions import KEPT_FINALS

FIRST = Caption(3, 1, "de", "Guten", " Morgen", False, 1600, 3200, 3200, 0.5)


def test_only_what_is_new_is_sent():
    encoder = Encoder()
    encoder.encode(FIRST)
    second = encoder.encode(replace(FIRST, committed="Guten Abend", tentative=" Welt", end=4800)).caption
    assert (second.committed_append, second.tentative) == (" Abend", " Welt")
    assert second.withdrawn == len("Morgen")
    assert (second.revision, second.start_ms, second.end_ms, second.stability) == (2, 100, 300, 0.5)
    assert not second.snapshot


@pytest.mark.parametrize(
    ("tail", "committed", "moved", "withdrawn"),
    [
        (" Morgen. Wie geht", "Guten Morgen.", "Wie geht", 0),
        (" Morgen. Wie geht", "Guten Morgen.", "", len(" Wie geht")),
        (" Morgen. Wie geht", "Guten Morgen.", "Wie ginge es", len("eht")),
        (" Morgen. Wie", "Guten Morgen.", "Wie geht es", 0),
        (" Morgen, wie geht", "Guten Morgen.", "Wie geht", len(", wie geht")),
        (" Morgen.", "Guten Morgen.", "Wie geht", 0),
    ],
)
def test_what_moves_to_the_next_segment_is_not_withdrawn(tail, committed, moved, withdrawn):
    encoder = Encoder()
    encoder.encode(replace(FIRST, tentative=tail))
    final = replace(FIRST, committed=committed, tentative="", final=True, moved=moved)
    assert encoder.encode(final).caption.withdrawn == withdrawn


def test_a_character_beyond_the_bmp_is_one_withdrawn():
    encoder = Encoder()
    encoder.encode(replace(FIRST, tentative=" 😀"))
    assert encoder.encode(replace(FIRST, tentative=" ")).caption.withdrawn == 1


def test_positions_between_milliseconds_are_rounded_down():
    message = Encoder().encode(replace(FIRST, start=1615, end=3217))
    back = Reducer().reduce(message)
    assert isinstance(back, Caption)
    assert (back.start, back.end) == (1600, 3216)


def test_taken_back_promises_are_refused():
    encoder = Encoder()
    encoder.encode(FIRST)
    with pytest.raises(BrokenPromise, match="taken back"):
        encoder.encode(replace(FIRST, committed="Gut"))


def test_nothing_follows_a_final_caption():
    encoder = Encoder()
    encoder.encode(replace(FIRST, tentative="", final=True))
    with pytest.raises(BrokenPromise, match="follows the final"):
        encoder.encode(FIRST)


def test_a_final_caption_with_a_tail_is_refused():
    with pytest.raises(BrokenPromise, match="has a tail"):
        Encoder().encode(replace(FIRST, final=True))


def test_languages_and_segments_are_apart():
    encoder = Encoder()
    encoder.encode(FIRST)
    for other in (replace(FIRST, language="fr"), replace(FIRST, segment=4)):
        message = encoder.encode(other).caption
        assert (message.revision, message.committed_append) == (1, "Guten")


def test_a_lost_caption_is_noticed():
    encoder, reducer = Encoder(), Reducer()
    reducer.reduce(encoder.encode(FIRST))
    encoder.encode(FIRST)
    with pytest.raises(LostMessage, match="revision 3 came after 1"):
        reducer.reduce(encoder.encode(FIRST))


def test_other_messages_are_no_events():
    reducer = Reducer()
    assert reducer.reduce(pong_message(1)) is None
    assert reducer.reduce(ServerMessage()) is None
    unknown = Encoder().encode(SpeechStarted(0, 0))
    unknown.speech.type = 99
    assert reducer.reduce(unknown) is None


def test_speech_events_travel():
    encoder, reducer = Encoder(), Reducer()
    for event in (SpeechStarted(1, 160), SpeechEnded(1, 320)):
        assert reducer.reduce(encoder.encode(event)) == event


def test_what_is_remembered_does_not_grow_with_the_stream():
    encoder, reducer = Encoder(), Reducer()
    for segment in range(1_000):
        for final in (False, True):
            caption = replace(FIRST, segment=segment, tentative="", final=final)
            assert reducer.reduce(encoder.encode(caption)).final is final
    assert len(encoder.snapshots()) == len(reducer._held) == KEPT_FINALS
    with pytest.raises(BrokenPromise, match="follows the final"):
        encoder.encode(caption)
