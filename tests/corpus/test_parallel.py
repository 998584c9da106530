from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrans.core import BadConfig
from streamtrans.corpus import Row
from streamtrans.corpus.parallel import Parallel, read_parallel


def rows(name: str, count: int) -> list[Row]:
    return [Row(f"{name}{number}", {"en": "yes", "de": "ja"}) for number in range(count)]


@given(
    first=st.integers(1, 9), second=st.integers(1, 9), share=st.sampled_from([0.5, 1.0, 2.0]), seed=st.integers(0, 3)
)
def test_every_row_is_seen_before_any_is_seen_again(first: int, second: int, share: float, seed: int) -> None:
    order = Parallel([rows("a", first), rows("b", second)], [share, 1.0], seed)
    assert len(order) == round(share * first) + second
    seen = Counter(order.row(at).id for at in range(4 * len(order)))
    for name, count in (("a", first), ("b", second)):
        uses = [seen[f"{name}{number}"] for number in range(count)]
        assert max(uses) - min(uses) <= 1
        assert sum(uses) == 4 * (round(share * first) if name == "a" else second)


def test_equal_seeds_give_equal_orders_wherever_one_begins() -> None:
    tables = [rows("a", 50), rows("b", 7)]
    one, other = Parallel(tables, [0.3, 2.0], 5), Parallel(tables, [0.3, 2.0], 5)
    assert [other.row(at) for at in (99, 3, 40)] == [[one.row(at) for at in range(100)][at] for at in (99, 3, 40)]
    assert [Parallel(tables, [0.3, 2.0], 6).row(at) for at in range(20)] != [one.row(at) for at in range(20)]


def test_tables_are_named_and_what_nobody_should_learn_stays_out(tmp_path: Path) -> None:
    (tmp_path / "chat_a.tsv").write_text(
        "dialogue\ten\tde\tzh\n1\tGood morning.\tGuten Morgen.\t\n2\tAlone.\t\t\n3\tOne two three four.\tEins zwei.\t"
        "一二三\n4\tTo [place : Rome].\tNach [place : Rom].\t去罗马\n5\t!\t!\t!\n"
    )
    (tmp_path / "chat_b.tsv").write_text(
        "id\tentities\ten\tde\n1\tlocalised\tto Cleveland\tnach Potsdam\n2\tnone\tyes\tja\n"
    )
    order = read_parallel(tmp_path, {"chat_*": 1.0}, 1, most_words=3)
    assert sorted(tuple(order.row(at).texts.values()) for at in range(len(order))) == [
        ("Eins zwei.", "一二三"),
        ("Good morning.", "Guten Morgen."),
        ("yes", "ja"),
    ]
    with pytest.raises(BadConfig, match=r"no table talk\.tsv in"):
        read_parallel(tmp_path, {"talk": 1.0}, 1, most_words=3)
    with pytest.raises(BadConfig, match="give one of them rows and a share"):
        read_parallel(tmp_path, {"chat_*": 0.0}, 1, most_words=3)
