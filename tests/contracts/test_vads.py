"""What every detector in the table must do; a new line in the table is tested without a line here."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from streamtrans.core import BadAudio, BadConfig
from streamtrans.foreign import Chosen
from streamtrans.vad import VADS, Vad, load_vad, vad_window


@pytest.fixture(scope="module", params=sorted(VADS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def vad(name: str) -> Iterator[Vad]:
    # More threads only wait for each other in passes this small.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_vad(name)
    torch.set_num_threads(before)


def windows_of(vad: Vad, seed: int, count: int) -> np.ndarray:
    """Noise whose loudness swings over 60 dB, so that detectors change their mind."""
    rng = np.random.default_rng(seed)
    gain = 10 ** rng.uniform(-3, 0, (count, 1))
    return (gain * rng.uniform(-1, 1, (count, vad.window))).astype(np.float32)


def test_the_window_is_known_without_loading(name: str, vad: Vad) -> None:
    assert vad_window(name) == vad.window
    assert 160 <= vad.window <= 1600


def test_one_probability_per_window(vad: Vad) -> None:
    [(probabilities, state)] = vad.detect([(windows_of(vad, 0, 9), None)])
    assert probabilities.shape == (9,)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert state is not None


def test_digital_silence_is_no_speech(vad: Vad) -> None:
    [(probabilities, _)] = vad.detect([(np.zeros((40, vad.window), np.float32), None)])
    assert probabilities.max() < 0.2


def test_batch_equals_one_by_one(vad: Vad) -> None:
    counts = [5, 0, 1, 12, 3]
    parts = [windows_of(vad, seed, count) for seed, count in enumerate(counts)]
    warm = [windows_of(vad, 10 + seed, seed) for seed in range(len(counts))]

    def states() -> list[object | None]:
        return [state for _, state in (vad.detect([(each, None)])[0] for each in warm)]

    together = vad.detect(list(zip(parts, states(), strict=True)))
    alone = [vad.detect([(part, state)])[0] for part, state in zip(parts, states(), strict=True)]
    again = windows_of(vad, 30, 4)
    for (probabilities, state), (expected, expected_state) in zip(together, alone, strict=True):
        assert np.allclose(probabilities, expected, atol=1e-5)
        [(later, _)], [(expected_later, _)] = (
            vad.detect([(again, state)]),
            vad.detect([(again, expected_state)]),
        )
        assert np.allclose(later, expected_later, atol=1e-5)


def test_state_carries_a_stream_across_calls(vad: Vad) -> None:
    windows = windows_of(vad, 7, 30)
    [(whole, _)] = vad.detect([(windows, None)])
    state: object | None = None
    pieces = []
    for part in np.split(windows, [1, 2, 2, 9, 20]):
        [(probabilities, state)] = vad.detect([(part, state)])
        pieces.append(probabilities)
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_windows_are_left_as_they_were(vad: Vad) -> None:
    windows = windows_of(vad, 1, 4)
    before = windows.copy()
    windows.setflags(write=False)
    vad.detect([(windows, None)])
    assert np.array_equal(windows, before)


def test_no_streams_give_no_answers(vad: Vad) -> None:
    assert vad.detect([]) == []


@pytest.mark.parametrize("shape", [(3, 7), (480,), (2, 3, 4)])
def test_other_windows_are_refused(vad: Vad, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadAudio, match=rf"windows of shape \(count, {vad.window}\)"):
        vad.detect([(np.zeros(shape, np.float32), None)])


def test_the_state_of_another_detector_is_refused(vad: Vad) -> None:
    with pytest.raises(BadAudio, match="state is a"):
        vad.detect([(windows_of(vad, 0, 1), object())])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(BadConfig, match=r"unknown VAD 'silerro'.*did you mean 'silero'"):
        load_vad("silerro")
    with pytest.raises(BadConfig, match="can't be imported"):
        vad_window(Chosen("streamtrans.vad.energy:Nothing"))
    with pytest.raises(BadConfig, match="can't be imported"):
        vad_window(Chosen("no_such_package:Vad"))


def test_a_third_party_is_named_by_its_path() -> None:
    assert vad_window(Chosen("streamtrans.vad.energy:EnergyVad")) == 480


def test_windows_are_known_without_torch() -> None:
    code = (
        "import sys, streamtrans.audio, streamtrans.segment\n"
        "from streamtrans.vad import VADS, vad_window\n"
        "sizes = [vad_window(name) for name in VADS]\n"
        "assert 'torch' not in sys.modules and 'silero_vad' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
