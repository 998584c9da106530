"""What every detector in the table must do; a new line in the table is tested without a line here."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen
from streamtrans.testing.contracts import check_vad
from streamtrans.vad import VADS, EnergyVad, Vad, load_vad, vad_window


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


def test_the_window_is_known_without_loading(name: str, vad: Vad) -> None:
    assert vad_window(name) == vad.window


@pytest.mark.parametrize("seed", range(3))
def test_it_keeps_the_contract(vad: Vad, seed: int) -> None:
    check_vad(vad, seed=seed)


class Broken:
    """The energy detector with one fault."""

    window = EnergyVad.window

    def __init__(self, fault: str) -> None:
        self._fault, self._inner = fault, EnergyVad()

    def detect(self, streams):
        answers = self._inner.detect(streams)
        if self._fault == "range":
            return [(2 * probabilities + 1, state) for probabilities, state in answers]
        if self._fault == "batch":
            return [(probabilities * np.float32(1 / len(streams)), state) for probabilities, state in answers]
        return [(probabilities, None if self._fault == "state" else state) for probabilities, state in answers]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("range", "lie in"), ("batch", "in a batch gets what it gets alone"), ("state", "a state to go")],
)
def test_the_contract_finds_faults(fault: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_vad(Broken(fault))


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
