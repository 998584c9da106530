import pytest

from streamtrans.stream import load_policy


@pytest.mark.parametrize(("n", "promised"), [(0, 4), (1, 3), (4, 0), (9, 0)])
def test_hold_keeps_the_tail_back(n, promised):
    assert load_policy("hold", n).promise([(1, 2, 3, 4)]) == promised


@pytest.mark.parametrize(
    ("n", "readings", "promised"),
    [
        (2, [(1, 2, 3)], 0),
        (2, [(1, 2, 3), (1, 2, 4)], 2),
        (2, [(1, 2), (1, 2, 4)], 2),
        (2, [(1, 2, 3), (9,)], 0),
        (2, [(1,), ()], 0),
        (3, [(1, 2, 3), (1, 2, 4)], 0),
        (3, [(1, 9), (1, 2, 3), (1, 2, 3)], 1),
        (1, [(1, 2, 3)], 3),
    ],
)
def test_agreement_promises_what_readings_share(n, readings, promised):
    assert load_policy("agreement", n).promise(readings) == promised


def test_final_promises_nothing():
    assert load_policy("final", 3).promise([(1, 2, 3)]) == 0
