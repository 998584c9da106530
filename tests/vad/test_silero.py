import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import Windower, read_audio
from streamtrans.core import BadModel
from streamtrans.model import native
from streamtrans.model.linear import paneled
from streamtrans.vad import SileroVad
from streamtrans.vad.silero_net import SileroState, load_net

SPEECH = Path(__file__).parents[2] / "../shared/data/speech"


WAYS = ["by operators", *(["in one call"] if paneled("float32") else [])]


@pytest.fixture(scope="module", params=WAYS)
def vad(request: pytest.FixtureRequest) -> Iterator[SileroVad]:
    # The passes are tiny: more threads only wait for each other, badly so beside a busy neighbour.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    at_once = request.param == "in one call"
    with nullcontext() if at_once else native.switched_off():
        made = SileroVad()
    assert (made._net.call is not None) == at_once
    yield made
    torch.set_num_threads(before)


def made_signal(count: int, seed: int = 0) -> np.ndarray:
    """Windows of a gliding, swelling buzz with pauses and noise: it drives the network over its range."""
    rng = np.random.default_rng(seed)
    t = np.arange(count * 512) / 16000
    pitch = 2 * np.pi * np.cumsum(110 + 40 * np.sin(2 * np.pi * 0.7 * t)) / 16000
    tones = [np.sin(k * pitch) / (1 + abs(110 * k - 600) / 250) for k in range(1, 25)]
    swell = np.clip(np.sin(2 * np.pi * 3 * t), 0, None) * (np.sin(2 * np.pi * 0.4 * t) > -0.3)
    audio = 0.08 * sum(tones) * swell + 0.002 * rng.standard_normal(len(t))
    return audio.reshape(-1, 512).astype(np.float32)


def their_probabilities(windows: np.ndarray) -> np.ndarray:
    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None
    assert spec.origin is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(str(Path(spec.origin).parent / "data/silero_vad.jit"))
    model.reset_states()
    # Without the optimiser, which takes seconds to specialise the graph.
    with torch.no_grad(), torch.jit.optimized_execution(False):
        return np.array([model(torch.tensor(window)[None], 16000).item() for window in windows])


def test_probabilities_are_those_of_the_packaged_model(vad: SileroVad) -> None:
    windows = made_signal(160)
    [(ours, _)] = vad.detect([(windows, None)])
    assert np.abs(ours - their_probabilities(windows)).max() < 1e-4
    assert ours.min() < 0.1
    assert ours.max() > 0.5


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=7), cut=st.integers(0, 20))
def test_law_a_row_of_many_equals_the_row_alone(vad: SileroVad, counts: list[int], cut: int) -> None:
    parts = [made_signal(20, seed)[:count] for seed, count in enumerate(counts)]
    first = vad.detect([(part[:cut], None) for part in parts])
    second = vad.detect([(part[cut:], state) for part, (_, state) in zip(parts, first, strict=True)])
    for part, (early, _), (late, _) in zip(parts, first, second, strict=True):
        [(alone, _)] = vad.detect([(part, None)])
        # In one call, to the last bit.
        assert np.allclose(np.concatenate([early, late]), alone, rtol=0, atol=1e-5 if vad._net.call is None else 0)


def test_what_is_no_number_has_no_probability(vad: SileroVad) -> None:
    broken, fine = made_signal(9), made_signal(9, 1)
    broken[4, 100] = np.nan
    [(found, _), (beside, _)] = vad.detect([(broken, None), (fine, None)])
    assert np.isnan(found[4:]).all()
    assert np.isfinite(found[:4]).all()
    assert np.isfinite(beside).all()


def test_a_state_is_a_value(vad: SileroVad) -> None:
    windows = made_signal(30)
    [(_, state)] = vad.detect([(windows[:10], None)])
    first, second = (vad.detect([(windows[10:], state)])[0][0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_what_torch_makes_by_default_changes_nothing(vad: SileroVad, default: torch.dtype) -> None:
    windows = made_signal(30)
    [(wanted, _)] = vad.detect([(windows, None)])
    torch.set_default_dtype(default)
    try:
        [(early, state)] = vad.detect([(windows[:10], None)])
        [(late, _)] = vad.detect([(windows[10:], state)])
    finally:
        torch.set_default_dtype(torch.float32)
    assert isinstance(state, SileroState)
    assert state.memory.dtype == torch.float32
    assert np.allclose(np.concatenate([early, late]), wanted, rtol=0, atol=1e-5 if vad._net.call is None else 0)


def test_a_state_of_other_numbers_is_read_by_value(vad: SileroVad) -> None:
    windows = made_signal(12)
    [(_, state)] = vad.detect([(windows[:6], None)])
    assert isinstance(state, SileroState)
    wide = replace(state, memory=state.memory.double().T.contiguous().T)
    [(wanted, _)], [(found, after)] = vad.detect([(windows[6:], state)]), vad.detect([(windows[6:], wide)])
    assert np.array_equal(found, wanted)
    assert isinstance(after, SileroState)
    assert after.memory.dtype == torch.float32
    assert torch.equal(wide.memory.float(), state.memory)  # what a stream holds isn't written to


def test_loading_leaves_threads_and_random_numbers_alone() -> None:
    code = (
        "import sys, torch\n"
        "torch.set_num_threads(2)\n"
        "torch.manual_seed(1); expected = torch.rand(3)\n"
        "from streamtrans.vad import load_vad\n"
        "torch.manual_seed(1); load_vad('silero')\n"
        "assert torch.equal(torch.rand(3), expected)\n"
        "assert torch.get_num_threads() == 2 and 'silero_vad' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadModel, match="pip install silero-vad"):
        load_net()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "least", "most"),
    [
        ("jfk.flac", 0.5, 0.9),
        ("cheetah_de.wav", 0.3, 1.0),
        ("wenet_mid.wav", 0.3, 1.0),
        ("koala_noise.wav", 0.0, 0.02),
        ("leopard_empty.wav", 0.0, 0.02),
    ],
)
def test_speech_is_found_in_recordings(vad: SileroVad, file: str, least: float, most: float) -> None:
    windows = Windower(512).feed(read_audio(SPEECH / file)[: 16000 * 20])
    [(probabilities, _)] = vad.detect([(windows, None)])
    assert least <= (probabilities > 0.5).mean() <= most
