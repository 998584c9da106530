from __future__ import annotations

import pytest

from streamtrans.core import BadConfig
from streamtrans.corpus import normalise, parse_lexicon, shipped_lexicon

HEADER = "slot\tgroup\ten\tde\tes\tfr\tit\tzh\n"


def test_every_written_name_survives_the_normal_form() -> None:
    for (slot, group), entries in shipped_lexicon().groups.items():
        for entry in entries:
            for language, names in entry.names.items():
                assert normalise(names[0], language), (slot, group, entry)
                assert "[" not in names[0]


def test_groups_are_large_enough_to_be_worth_drawing_from() -> None:
    lexicon = shipped_lexicon()
    assert len(lexicon.group("place_name", "city")) >= 100
    assert len(lexicon.group("person", "first_name")) >= 80
    assert len(lexicon.group("business_name", "brand")) >= 30
    assert len(lexicon.group("artist_name", "artist")) >= 30
    assert lexicon.group("place_name", "planet") == ()


def test_entries_are_found_by_any_of_their_names_in_normal_form() -> None:
    lexicon = parse_lexicon(
        HEADER + "time\tclock\tfive p. m.|five pm\tsiebzehn uhr\tcinco\tdix-sept heures\tcinque\t五点\n"
    )
    (entry,) = lexicon.find("time", "en", "Five PM")
    assert entry.names["de"] == ("siebzehn uhr",)
    assert lexicon.find("time", "en", "six") == ()
    assert lexicon.find("date", "en", "five pm") == ()


@pytest.mark.parametrize("text", ["slot\ten\n", HEADER + "a\tb\tc\n", HEADER + "a\tb\tc\td\te\tf\tg\t \n"])
def test_a_malformed_lexicon_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match=r"lexicon:[12]"):
        parse_lexicon(text)
