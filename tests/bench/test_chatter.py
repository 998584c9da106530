"""What models write besides translations is noticed, and translations that speak of the like aren't."""

import json
from pathlib import Path

import pytest

from streamtrans.bench.chatter import COLUMNS, read_talk
from streamtrans.core import BadConfig, UnsupportedLanguage
from tests.bench.test_bench import invoke

TABLES = Path(__file__).parents[2] / "benchmarks"


def test_most_talk_is_noticed_and_no_translation_is_certainly_taken_for_it(tmp_path):
    tables = TABLES / "chatter.tsv", "--texts", TABLES / "spoken_of.tsv"
    invoke("bench", "chatter", *tables, "--results", tmp_path)
    figures = json.loads((tmp_path / "chatter.json").read_text())["figures"]
    noticed = {(line["what"], line["known"]): line["percent"] for line in figures["talk"]}
    assert noticed["all", "yes"] > 90
    assert noticed["all", "no"] > 60  # the rules were written without these in sight
    assert all(noticed[language, "yes"] > 90 for language in ("en", "de", "es", "fr", "it", "zh"))
    right = figures["texts"]
    assert sum(line["translations"] for line in right) == 14 * 6 * 5
    assert sum(line["strayed"] for line in right) <= 1
    assert not any(line["strayed_and_held"] or line["cut_short"] for line in right)
    assert all(set(line) == {"kind", "language", "known", "written"} for line in figures["missed"])


def test_a_table_of_talk_that_lacks_something_is_refused_by_name(tmp_path):
    path = tmp_path / "talk.tsv"
    with pytest.raises(BadConfig, match="name a table of talk"):
        read_talk(path)
    path.write_text("kind\tlanguage\nopening\tde\n", encoding="utf-8")
    with pytest.raises(BadConfig, match="written, known"):
        read_talk(path)
    cells = ("opening", "xx", "en", "Good morning.", "Translation: Guten Morgen.", "yes")
    path.write_text("\n".join(map("\t".join, (COLUMNS, cells))), encoding="utf-8")
    with pytest.raises(UnsupportedLanguage):
        read_talk(path)
