import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import Windower, energies


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 1200), max_size=10), window=st.sampled_from([1, 480, 512]))
def test_law_windows_do_not_depend_on_chunks(sizes: list[int], window: int) -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, sum(sizes)).astype(np.float32)
    windower = Windower(window)
    chunks = np.split(audio, np.cumsum(sizes)[:-1]) if sizes else []
    pieces = [windower.feed(chunk) for chunk in chunks]
    windows = np.concatenate([np.zeros((0, window), np.float32), *pieces])
    whole = len(audio) // window * window
    assert np.array_equal(windows, audio[:whole].reshape(-1, window))
    assert windower.waiting == len(audio) - whole


def test_energy_is_the_mean_square() -> None:
    windows = np.array([[0.5, -0.5], [1.0, 0.0]], np.float32)
    assert energies(windows).tolist() == [0.25, 0.5]
