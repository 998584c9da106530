from streamtrans.bench.long import LongConfig, measure_long


def test_a_window_bounds_what_a_guess_reads() -> None:
    config = LongConfig(lengths=(8, 40), frames=10, rounds=1, windows=(16,), width=64)
    found = measure_long(config)
    assert list(found) == ["8", "40"]
    read = {name: [at[name]["mb_read"] for at in found.values()] for name in ("group", "top", "window 16")}
    assert read["group"][1] > 4 * read["group"][0]
    assert read["top"][1] <= read["group"][1] / 3.9
    assert read["window 16"][1] < read["group"][1] / 2
    assert all(figures["ms"] > 0 for at in found.values() for figures in at.values())
