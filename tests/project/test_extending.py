"""The worked plug-in of docs/extending.md is a policy, and is used as the page says."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from streamtrans.core import BadConfig
from streamtrans.evaluate.settings import Setting, parse_values
from streamtrans.foreign import Chosen
from streamtrans.segment import EndpointRules
from streamtrans.stream import Session, SessionConfig, drive
from streamtrans.testing.engine import InstantEngine, hypothesis
from tests.fakes import Loud, Words

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
PLUGIN, TEST = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(monkeypatch):
    module = ModuleType("my_policies")
    exec(compile(PLUGIN, "docs/extending.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_policies", module)
    return module


@pytest.mark.usefixtures("package")
def test_the_plug_in_keeps_the_contract():
    example = {}
    exec(compile(TEST, "docs/extending.md", "exec"), example)
    example["test_sure_is_a_policy"]()


@pytest.mark.usefixtures("package")
def test_it_is_used_by_its_path_where_somebody_chose_it():
    asked = re.findall(r"--set (\S+)", PAGE)
    config = Setting("page", parse_values(asked)).session(("de",), None)
    assert (config.policy, config.policy_n) == ("my_policies:Sure", 2)
    rules = EndpointRules(min_silence_ms=200, pre_roll_ms=32, padding_ms=32)
    config = SessionConfig(("de",), endpoints=rules, policy=Chosen("my_policies:Sure"), policy_n=2)
    engine = InstantEngine(lambda job, target: hypothesis((*range(len(job.audio) // 4_000),), 0.9), Loud())
    audio = np.concatenate([np.full(32_000, 0.5), np.zeros(8_000)]).astype(np.float32)
    events = drive(Session(config, Words(), window=480), engine, audio)
    partial = [event for event in events if getattr(event, "committed", "") and not event.final]
    assert partial, "two sure readings promise something before the segment ends"


def test_data_may_not_name_it():
    with pytest.raises(BadConfig, match="only who runs the program may choose"):
        SessionConfig(("de",), policy="my_policies:Sure")
