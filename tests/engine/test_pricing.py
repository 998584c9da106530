"""What drafts cost is measured once per machine and model, decides how far ahead is guessed, and changes no text."""

import json
import math
from types import SimpleNamespace

import pytest

from streamtrans.core import Job, Target
from streamtrans.decode import COSTS, DraftCosts
from streamtrans.engine import Engine, EngineConfig, priced
from streamtrans.engine.pricing import measure
from streamtrans.runtime import ModelChoice, load
from streamtrans.stream import BadRecording
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio
from streamtrans.vad import load_vad
from tests.checkpoints import make_whisper_m2m


class Timed:
    """A toy whose passes take known times on a clock of its own; each first one takes ten times as long."""

    def __init__(self):
        self.toy = ToyModel(ToyConfig())
        self.now = 0.0
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def take(self, seconds):
        self.calls += 1
        self.now += seconds * (10 if self.calls < 6 else 1)

    def step(self, forwards):
        rows = forwards[0].rows
        self.take(0.010 if rows == 1 else 0.012 + 0.0005 * (rows - 2))
        return self.toy.step(forwards)

    def propose(self, proposals):
        self.take(0.004)
        return self.toy.propose(proposals)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "streamtrans" / "costs"


def test_costs_are_the_quickest_of_each_in_passes():
    model = Timed()
    assert measure(model, 0.01, clock=lambda: model.now) == DraftCosts(guess=0.4, opening=0.2, verify=0.05)
    assert model.calls > 8


@pytest.fixture
def measured(monkeypatch):
    """What is measured, one after another; the last one again and again."""
    found = [DraftCosts()]

    def measure(model, budget_s, clock):
        model.calls += 1
        return found.pop(0) if len(found) > 1 else found[0]

    monkeypatch.setattr("streamtrans.engine.pricing.measure", measure)
    return found


def test_what_a_busy_machine_measured_serves_once_and_is_never_kept(cache, measured):
    quiet, busy = DraftCosts(guess=0.3), DraftCosts(guess=0.7)
    measured[:] = [quiet, busy, quiet, DraftCosts(guess=0.32), busy]
    assert priced(Timed(), "model", alone=True) == busy
    assert not list(cache.iterdir())
    for _ in range(2):
        assert priced(Timed(), "model", alone=True) == DraftCosts(guess=0.32)
    assert measured == [busy]


def test_what_was_measured_is_kept_for_this_machine_and_this_model(cache, measured):
    model = Timed()
    costs = priced(model, ["shape", "float32", 1], alone=True)
    calls = model.calls
    assert priced(model, ["shape", "float32", 1], alone=True) == costs
    assert model.calls == calls
    priced(model, ["shape", "float32", 2], alone=True)
    assert model.calls > calls
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "said",
    ["", "[]", "{}", '{"guess": 1.0}', '{"guess": "1", "opening": 0.1, "verify": 0.1, "longest": 8}']
    + [f'{{"guess": {rate}, "opening": 0.1, "verify": 0.1, "longest": 8}}' for rate in ("-1.0", "NaN", "Infinity")]
    + [f'{{"guess": 0.1, "opening": 0.1, "verify": 0.1, "longest": {longest}}}' for longest in ("0", "8.0", "true")]
    + ['{"guess": true, "opening": 0.1, "verify": 0.1, "longest": 8}', "[" * 100_000],
)
def test_a_file_that_says_nothing_is_measured_anew(cache, measured, said):
    costs = priced(Timed(), "model", alone=True)
    [file] = cache.iterdir()
    file.write_text(said)
    model = Timed()
    assert priced(model, "model", alone=True).longest == costs.longest
    assert model.calls
    assert json.loads(file.read_text())["longest"] == 8


def test_without_a_place_to_keep_it_it_is_measured_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        model = Timed()
        assert priced(model, "model", alone=True).guess > 0
        assert model.calls


def test_an_engine_guesses_as_far_as_pays_and_writes_the_same():
    model = ToyModel(ToyConfig(agreement=0.9))
    audio = toy_audio(3.0, 1)
    found = {}
    for guess in (0.0, 100.0):
        config = EngineConfig(drafter="kvspn", guard=False, costs=DraftCosts(guess=guess, opening=0, verify=0))
        with Engine(model, load_vad, config) as engine:
            reading = engine.submit(Job(0, 0, len(audio), True, audio, (Target("de"),))).result()
            found[guess] = reading.hypotheses[0]
    assert found[0.0].tokens == found[100.0].tokens
    assert found[0.0].stats.drafted > len(found[0.0].tokens) / 2
    assert found[100.0].stats.drafted <= len(found[100.0].tokens) / 16  # a try now and then
    assert found[0.0].stats.passes < found[100.0].stats.passes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_whisper_m2m(folder)
    return str(folder)


def costs_of(**said):
    loaded = load(ModelChoice(**said), slots=1)
    loaded.engine.close()
    return loaded.config.costs


def test_loading_takes_what_drafts_cost_here(cache, tiny):
    costs = costs_of(model=tiny, threads=1)
    assert costs != COSTS
    assert all(math.isfinite(rate) and rate >= 0 for rate in (costs.guess, costs.opening, costs.verify))
    assert costs.guess > 0


@pytest.mark.parametrize("said", [{"top_k": "2"}, {"top_k": "inf"}, {"drafter": "echo"}])
def test_nothing_is_measured_where_texts_would_depend_on_it_or_nobody_guesses(cache, tiny, said):
    assert costs_of(model=tiny, threads=1, **said) == COSTS
    assert not cache.exists()


def test_a_recording_is_computed_again_with_the_costs_of_then(tiny, monkeypatch):
    """They stand in its settings; recordings of before that have those that there were."""
    from streamtrans.cli.record import origin_of
    from streamtrans.cli.replay import _Loading

    choice = ModelChoice(model=tiny, threads=1)
    loaded = load(choice, slots=1, costs=DraftCosts(guess=0.9, opening=0.5, verify=0.25, longest=3))
    loaded.engine.close()
    settings = json.loads(json.dumps(origin_of(choice, loaded).settings))
    recording = SimpleNamespace(name="a recording", origin=SimpleNamespace(settings=settings))
    assert _Loading.of(recording).engine.costs == loaded.config.costs
    for name, wrong, told in (
        ("guess", -0.5, "guess of drafts costs -0.5"),
        ("verify", float("nan"), "verify of drafts costs nan"),
        ("longest", 10**9, "drafts of 1000000000 tokens"),
        ("longest", 0, "drafts of 0 tokens"),
    ):
        broken = json.loads(json.dumps(settings))
        broken["engine"]["costs"][name] = wrong
        with pytest.raises(BadRecording, match=told):
            _Loading.of(SimpleNamespace(name="a recording", origin=SimpleNamespace(settings=broken)))
    del settings["engine"]["costs"]
    assert _Loading.of(recording).engine.costs == COSTS
