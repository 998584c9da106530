"""All ways of drafting read the same readings of live sessions, and write the same."""

import json

import pytest
from typer.testing import CliRunner

from streamtrans.bench.rereading import BUCKETS, RereadingConfig, Tally, measure_rereading
from streamtrans.cli.app import app
from streamtrans.core import BadConfig, DecodeStats
from streamtrans.engine import Engine, EngineConfig
from streamtrans.evaluate import replay
from streamtrans.evaluate.together import replay_together
from streamtrans.stream import SessionConfig, Stages
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Tokenizer, train_tokenizer
from tests.checkpoints import make_whisper_m2m

SPELLER = Tokenizer(train_tokenizer(["wake me up", "réveille-moi", "星期五早上九点"] * 4, 330, ["de", "zh"]))
SPANS = [(8_000, 72_000), (96_000, 144_000)]
SECONDS = 10


def vads(_):
    return ScriptedVad(SPANS)


def recordings(count, **values):
    config = SessionConfig(("de", "zh"), **values)
    return [(config, toy_audio(SECONDS, seed)) for seed in range(count)]


@pytest.mark.parametrize("streams", [1, 3])
def test_all_ways_decode_the_readings_of_the_sessions(streams):
    model = ToyModel(ToyConfig(order=2))
    given, told = recordings(3), []
    config = RereadingConfig(streams=(streams,))
    [found] = measure_rereading(
        model, SPELLER, given, config, vads=vads, progress=lambda heard, total: told.append((heard, total))
    )
    alone, readings = DecodeStats(), 0
    for session, audio in given:
        with Engine(model, vads, EngineConfig(drafter="echo,kvspn", guard=False)) as engine:
            stats = replay(session, SPELLER, engine, audio).stats
        alone += stats.decode
        readings += len(session.targets) * stats.readings
    assert (found["different"], found["failed"]) == (0, 0)
    assert found["readings_at_once"] > streams - 1
    ways = found["drafters"]
    assert [way["all"]["readings"] for way in ways.values()] == [readings] * 3
    own = ways["echo,kvspn"]["all"]
    assert own["passes_per_reading"] == pytest.approx(alone.passes / readings, abs=1e-3)
    assert own["acceptance"]["echo"] == pytest.approx(
        alone.by_drafter["echo"][1] / alone.by_drafter["echo"][0], abs=1e-3
    )
    assert own["kept_per_reading"]["echo"] == pytest.approx(alone.by_drafter["echo"][1] / readings, abs=1e-3)
    assert ways["none"]["all"]["fewer_passes"] == 1
    assert 1 < ways["echo"]["all"]["fewer_passes"] < own["fewer_passes"]
    assert set(ways["echo"]) == {*BUCKETS, "all"}
    assert all(
        cell["ms_per_reading"] >= cell["decode_ms_per_reading"] for way in ways.values() for cell in way.values()
    )
    for label, lengths in BUCKETS.items():
        assert ways["none"][label]["passes_per_reading"] <= max(lengths) + 1
    assert told[-1] == (3 * SECONDS * 16_000,) * 2


def test_each_measurement_hears_everything():
    found = measure_rereading(
        ToyModel(), SPELLER, recordings(2), RereadingConfig(("none", "echo"), streams=(1, 2)), vads=vads
    )
    assert [each["streams"] for each in found] == [1, 2]
    one, two = ({label: cell["readings"] for label, cell in each["drafters"]["echo"].items()} for each in found)
    assert one == two
    assert found[0]["readings_at_once"] == 1


class Whimsical:
    """Drafts nothing, and lets nobody end a text: what it writes depends on who drafts."""

    def __init__(self, toy):
        self.toy = toy

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def step(self, forwards):
        short = [len(forward.tokens) == 1 for forward in forwards]
        other = ToyModel(ToyConfig(seed=1))
        return [(other if flip else self.toy).step([forward])[0] for flip, forward in zip(short, forwards, strict=True)]


def test_texts_that_differ_are_counted():
    [found] = measure_rereading(
        Whimsical(ToyModel()), SPELLER, recordings(1), RereadingConfig(("none", "echo"), streams=(1,)), vads=vads
    )
    assert 0 < found["different"] <= found["drafters"]["none"]["all"]["readings"]


def test_readings_that_fail_are_counted_and_left_out():
    model = ToyModel(ToyConfig(max_samples=3 * 16_000))
    [found] = measure_rereading(
        model, SPELLER, recordings(1), RereadingConfig(("none", "echo"), streams=(1,)), vads=vads
    )
    assert found["failed"] > 0
    assert found["drafters"]["none"]["all"]["readings"] > 0


def test_nothing_to_measure_is_refused():
    with pytest.raises(BadConfig, match=r"recordings .got 0."):
        measure_rereading(ToyModel(), SPELLER, [])
    with pytest.raises(BadConfig, match=r"bias of 0 .got 0\.2."):
        measure_rereading(ToyModel(), SPELLER, recordings(1, bias=0.2))
    with pytest.raises(BadConfig, match="name two or more"):
        RereadingConfig(("echo",))
    with pytest.raises(BadConfig, match="streams are"):
        RereadingConfig(streams=(0,))


def test_a_way_without_readings_has_no_cost():
    assert Tally().figures(Tally())["fewer_passes"] == 0


def test_the_verb_makes_talks_and_keeps_what_it_measured(tmp_path):
    pytest.importorskip("espeakng_loader", reason="speaking needs the train extra")
    folder, results = tmp_path / "model", tmp_path / "results"
    folder.mkdir()
    make_whisper_m2m(folder, decoder_layers=2, max_source_positions=300, max_target_positions=12)
    table = tmp_path / "massive_dev.tsv"
    table.write_text(
        "id\ten\tde\n1\tgood morning\tguten morgen\n2\twhat time is it\twie spät ist es\n", encoding="utf-8"
    )
    arguments = ("bench", "rereading", "--text", table, "--from", "en", "--talks", 1, "--seconds", 5, "--streams", 2)
    values = ("--set", "policy=hold", "--set", "reading_interval_ms=1500")
    more = ("--model", folder, "--drafters", "none;echo", *values)
    done = CliRunner().invoke(app, [*map(str, (*arguments, *more)), "--results", str(results)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "times fewer" in done.output
    kept = json.loads((results / "rereading.json").read_text(encoding="utf-8"))["figures"]
    assert kept["session"]["policy"] == "hold"
    [measured] = kept["measurements"]
    assert measured["streams"] == 2
    assert measured["drafters"]["none"]["all"]["readings"] > 5


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(("--mode", "final"), "read once"), (("--drafters", "echo"), "two or more"), (("--streams", "x"), "--streams")],
)
def test_a_wrong_option_is_refused_before_anything_is_loaded(arguments, problem):
    done = CliRunner().invoke(app, ["bench", "rereading", *arguments])
    assert isinstance(done.exception, BadConfig)
    assert problem in str(done.exception)


@pytest.mark.parametrize("heard", [True, False])
def test_of_a_translator_the_translations_are_counted_and_the_transcripts_are_not(heard):
    ear, behind = ToyModel(ToyConfig(words=5)), ToyModel(ToyConfig(seed=7, words=8))
    targets = ("en", "de", "zh") if heard else ("de", "zh")
    given = [(SessionConfig(targets, "en"), toy_audio(SECONDS, seed)) for seed in range(2)]
    config = RereadingConfig(("none", "echo"), streams=(1,))
    [found] = measure_rereading(ear, Stages(SPELLER, SPELLER), given, config, translator=behind, vads=vads)
    readings, passes = 0, 0
    for settings, audio in given:
        with Engine(ear, vads, EngineConfig(drafter="echo", guard=False), behind) as engine:
            [played] = replay_together([(settings, audio)], Stages(SPELLER, SPELLER), engine)
        for language in ("de", "zh"):
            cost = played.costs[language]
            readings += cost.partials + cost.finals
            passes += cost.decode.passes
    assert (found["different"], found["failed"]) == (0, 0)
    own = found["drafters"]["echo"]["all"]
    assert own["readings"] == readings > 0
    assert own["passes_per_reading"] == pytest.approx(passes / readings, abs=1e-3)
    assert own["fewer_passes"] > 1
