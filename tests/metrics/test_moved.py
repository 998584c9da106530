"""Words that move along when a segment of continuous speech is divided were shown all the time."""

from streamtrans.core import Caption
from streamtrans.metrics import count_erased, moved, settled

S = 16_000


def caption(segment, revision, text, *, start=0, end=S, final=False, language="de"):
    committed, tentative = (text, "") if final else ("", text)
    return Caption(segment, revision, language, committed, tentative, final, start, end, end)


DIVIDED = [
    (1 * S, caption(0, 1, "guten morgen", end=S)),
    (2 * S, caption(0, 2, "guten morgen\nwie geht", end=2 * S)),
    (3 * S, caption(0, 3, "guten morgen\nwie geht es dir", end=3 * S)),
    (3 * S, caption(0, 4, "guten morgen", end=round(1.2 * S), final=True)),
    (3 * S, caption(1, 1, "wie geht es dir", start=round(1.2 * S), end=3 * S)),
    (4 * S, caption(1, 2, "wie geht es dir heute", start=round(1.2 * S), end=4 * S, final=True)),
]


def test_what_moves_is_not_withdrawn():
    captions = [each for _, each in DIVIDED]
    assert [(a.segment, b.segment) for a, b in moved(captions)] == [(0, 1)]
    erased = count_erased(captions)
    assert (erased.withdrawn, erased.final) == (0, 7)


def test_what_moves_and_changes_is_withdrawn():
    captions = [each for _, each in DIVIDED]
    captions[4] = caption(1, 1, "wie war es", start=round(1.2 * S), end=3 * S)
    # "geht es dir" went at once; then "war es" went for "geht es dir heute"
    assert count_erased(captions).withdrawn == 3 + 2


def test_what_moves_settled_when_it_was_first_shown():
    words = settled(DIVIDED)
    assert [(word.text, word.at_ms, word.segment) for word in words] == [
        ("guten", 1_000, 0),
        ("morgen", 1_000, 0),
        ("wie", 2_000, 1),
        ("geht", 2_000, 1),
        ("es", 3_000, 1),
        ("dir", 3_000, 1),
        ("heute", 4_000, 1),
    ]


def test_after_a_pause_nothing_moves():
    first = caption(0, 1, "eins zwei", final=True, end=S)
    assert moved([first, caption(1, 1, "zwei", start=S + 1, end=2 * S)]) == []
    assert moved([first, caption(1, 1, "zwei", start=S, end=2 * S, language="fr")]) == []
    assert moved([caption(0, 1, "eins"), caption(1, 1, "zwei", start=S, end=2 * S)]) == []
