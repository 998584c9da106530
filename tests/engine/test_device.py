"""What is counted of the device, and what detectors are made with."""

from dataclasses import replace

import numpy as np
import pytest

from streamtrans.core import Detect
from streamtrans.engine import Engine
from streamtrans.engine.device import Device
from streamtrans.engine.stats import EngineStats
from streamtrans.model import native
from streamtrans.testing.toy import ToyModel
from streamtrans.vad import EnergyVad

in_one_call = pytest.mark.parametrize("library", [native.library()] if native.library() else [])


class Looking:
    """A number that looks at the counters while it is added to them."""

    def __init__(self, device):
        self.device, self.seen = device, None

    def __radd__(self, other):
        self.seen = self.device.stats
        return other + 7


def test_counters_that_belong_together_change_together():
    model = ToyModel()
    device = Device(model, lambda _: EnergyVad(), model.allocate(1), 10)
    device.count(passes=2)
    before, looking = device.stats, Looking(device)
    device.count(passes=1, forwards=looking)
    assert looking.seen == before == EngineStats(passes=2)
    assert device.stats == replace(before, passes=3, forwards=7)


@in_one_call
@pytest.mark.parametrize("on", [True, False])
def test_detectors_are_made_as_models_are(library, on):
    seen = []

    def make(_):
        seen.append(native.library())
        return EnergyVad()

    def ask():
        with Engine(ToyModel(), make) as engine:
            engine.submit(Detect("energy", np.zeros((1, EnergyVad.window), np.float32), None)).result(10)

    if on:
        ask()
    else:
        with native.switched_off():
            ask()
    assert seen == [library if on else None]
