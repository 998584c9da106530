"""One way of asking: what is declared once is asked for everywhere, and means the same."""

import json
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from streamtrans_clients import mic

from streamtrans.cli.app import load_verb
from streamtrans.cli.commands import command
from streamtrans.core import BadConfig, CaptionChoice, Group, Option, asked
from streamtrans.runtime import ModelChoice

FAST = ("--device", "cpu", "--vad", "energy", "--threads", "1")
CAPTIONS = [each.flag for each in asked(CaptionChoice)]
MODEL = [each.flag for each in asked(ModelChoice)]


def flags(verb):
    return {flag: each for each in load_verb(verb).params for flag in each.opts}


def test_the_group_says_modes_budgets_and_endpoints():
    assert CAPTIONS == ["--mode", "--erasure-budget", "--latency-budget", "--min-silence", "--max-segment"]


@pytest.mark.parametrize("verb", ["translate", "record", "serve"])
@pytest.mark.parametrize("option", CAPTIONS)
def test_wherever_captions_are_made_the_same_is_asked(verb, option):
    declared = {each.flag: each.option for each in asked(CaptionChoice)}[option]
    shown = flags(verb)[option]
    assert (shown.help, shown.metavar) == (declared.help, declared.metavar)


@pytest.mark.parametrize("option", CAPTIONS)
def test_the_microphone_asks_the_same(option):
    declared = {each.flag: each.option for each in asked(CaptionChoice)}[option]
    shown = {flag: each for each in mic.parser()._actions for flag in each.option_strings}[option]
    assert (shown.help, shown.metavar, shown.default) == (declared.help, declared.metavar, None)


@pytest.mark.parametrize("verb", ["translate", "record", "serve", "demo", "evaluate"])
@pytest.mark.parametrize("option", MODEL)
def test_wherever_a_model_runs_the_same_is_asked(verb, option):
    declared = {each.flag: each.option for each in asked(ModelChoice)}[option]
    assert flags(verb)[option].help == declared.help


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--mode", "lively", "--mode is 'lively'; use one of live, stable, final"),
        ("--erasure-budget", "nan", "--erasure-budget is nan; give 0 or more"),
        ("--erasure-budget", "-1", "--erasure-budget is -1.0; give 0 or more"),
        ("--latency-budget", "0", "--latency-budget is 0; give milliseconds"),
        ("--min-silence", "-3", "--min-silence is -3; give milliseconds"),
        ("--max-segment", "0", "--max-segment is 0; give milliseconds"),
    ],
)
@pytest.mark.parametrize("verb", [("translate", "talk.wav"), ("record", "a.stsession", "talk.wav"), ("serve",)])
@pytest.mark.usefixtures("recordings")
def test_what_is_out_of_range_is_told_by_its_option(run, verb, option, value, problem):
    status, out, err = run(*verb, option, value)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {problem}")


@pytest.mark.parametrize("option", ["--erasure-budget", "--latency-budget"])
@pytest.mark.parametrize(
    "verb", [("translate", "talk.wav"), ("record", "a.stsession", "talk.wav"), ("serve", "--port", "0")]
)
def test_a_budget_that_was_not_measured_is_told_by_its_option(run, checkpoint, recordings, verb, option):
    status, out, err = run(*verb, option, "1", "--model", checkpoint, *FAST)
    assert (status, out) == (2, "")
    assert f"error: {option}: no setting of mode" in err


def captions_of(run, checkpoint, *arguments):
    status, out, err = run("translate", "talk.wav", "--to", "de", "--json", "--model", checkpoint, *FAST, *arguments)
    assert status == 0, err
    return json.loads(out)


def test_endpoints_decide_where_the_segments_of_a_file_end(run, checkpoint, recordings):
    assert captions_of(run, checkpoint)["stats"]["segments"] == 2  # a pause of 0.8 s
    assert captions_of(run, checkpoint, "--min-silence", "1000")["stats"]["segments"] == 1
    assert captions_of(run, checkpoint, "--max-segment", "700")["stats"]["segments"] > 2


def test_the_mode_decides_how_often_a_file_is_read(run, checkpoint, recordings):
    readings = {
        mode: captions_of(run, checkpoint, "--mode", mode)["stats"]["readings"] for mode in ("final", "live", "stable")
    }
    assert readings["final"] < readings["live"] == readings["stable"]
    assert captions_of(run, checkpoint, "--grow")["stats"]["readings"] == readings["live"]
    assert captions_of(run, checkpoint)["stats"]["readings"] == readings["final"]


def test_a_budget_chooses_what_a_file_is_read_with(run, checkpoint, recordings, tmp_path):
    rows = [
        {"name": name, "mode": "live", "policy": "agreement", "policy_n": 2, "bias": 0.0, "masked": 0}
        | {"reading_interval_ms": interval, "min_first_reading_ms": interval, "bleu_loss": loss}
        | {"erasure": erasure, "latency_ms": 900.0}
        for name, interval, erasure, loss in (("often", 240, 0.5, 0.1), ("seldom", 960, 0.1, 0.2))
    ]
    (checkpoint / "streaming.json").write_text(json.dumps({"settings": rows}))
    try:
        often = captions_of(run, checkpoint, "--mode", "live")["stats"]["readings"]
        seldom = captions_of(run, checkpoint, "--mode", "live", "--erasure-budget", "0.2")["stats"]["readings"]
    finally:
        (checkpoint / "streaming.json").unlink()
    assert seldom < often


def test_growing_and_another_mode_contradict_each_other(run, recordings):
    status, _, err = run("translate", "talk.wav", "--grow", "--mode", "stable")
    assert status == 2
    assert "--grow says --mode live" in err


def test_a_recording_is_made_with_what_was_said(run, checkpoint, recordings):
    from streamtrans.stream import Recording

    status, _, err = run(
        "record", "a.stsession", "talk.wav", "--to", "de", "--mode", "stable", "--min-silence", "900",
        "--model", checkpoint, *FAST,
    )  # fmt: skip
    assert status == 0, err
    with open("a.stsession", "rb") as file:
        config = Recording(file, "a.stsession").config
    assert (config.mode, config.endpoints.min_silence_ms) == ("stable", 900)


@dataclass(frozen=True)
class Fruit:
    """A group with one of each kind."""

    kind: Annotated[str | None, Option("Which.", metavar="NAME")] = None
    ripe: Annotated[bool, Option("Only ripe ones.")] = False
    fresh: Annotated[bool, Option("Only fresh ones.")] = True
    weights: Annotated[tuple[int, ...], Option("Heavy.", read=lambda _, text: tuple(map(int, text.split(","))))] = (
        1,
        2,
    )
    names: Annotated[tuple[str, ...], Option("Names.", repeats=True, read=lambda _, text: tuple(text.split(",")))] = ()
    hidden: int = 7


@dataclass(frozen=True)
class Basket:
    """A group in a group."""

    size: Annotated[int, Option("How large.", least=1)]
    fruit: Annotated[Fruit, Group("kind", "ripe")] = field(default_factory=lambda: Fruit(kind="apple"))


def test_a_function_takes_groups():
    seen = []

    def pack(
        where: Annotated[str, typer.Argument()],
        *,
        fruit: Annotated[Fruit, Group(heading="Fruit")],
    ):
        """Pack."""
        seen.append((where, fruit))

    made = command("pack", pack)
    made.main(["here"], standalone_mode=False)
    made.main(
        ["there", "--ripe", "--no-fresh", "--weights", "3", "--names", "a,b", "--names", "c"], standalone_mode=False
    )
    assert seen == [("here", Fruit()), ("there", Fruit(None, True, False, (3,), ("a", "b", "c")))]
    assert {flag for each in made.params for flag in each.secondary_opts} == {"--no-fresh"}


def test_a_group_in_a_group_has_the_defaults_of_its_field():
    seen = []

    def pack(*, basket: Basket):
        """Pack."""
        seen.append(basket)

    made = command("pack", pack)
    made.main(["--size", "3", "--ripe"], standalone_mode=False)
    assert seen == [Basket(3, Fruit("apple", ripe=True))]
    assert not {"--fresh", "--weights"} & {flag for each in made.params for flag in each.opts}


@dataclass(frozen=True)
class Needed:
    """A group of several values each, none of which anybody has said before."""

    names: Annotated[tuple[str, ...], Option("Names. Repeatable.")]
    more: Annotated[tuple[str, ...], Option("More.", repeats=True, read=lambda _, text: tuple(text.split(",")))]
    weights: Annotated[tuple[int, ...], Option("Heavy.", read=lambda _, text: tuple(map(int, text.split(","))))]


def test_several_values_without_a_default_must_be_said(capsys):
    seen = []

    def pack(*, needed: Needed):
        """Pack."""
        seen.append(needed)

    made = command("pack", pack)
    given = {"--names": "a", "--more": "b,c", "--weights": "1,2"}
    for missing in given:
        said = [word for flag, value in given.items() if flag != missing for word in (flag, value)]
        with pytest.raises(SystemExit):
            made.main(said)
        assert f"Missing option '{missing}'" in capsys.readouterr().err
    made.main(["--names", "z", *(word for both in given.items() for word in both)], standalone_mode=False)
    assert seen == [Needed(("z", "a"), ("b", "c"), (1, 2))]
    made.main(["--help"], standalone_mode=False)
    assert capsys.readouterr().out.count("[required]") == len(given)


def test_help_stands_under_the_heading_of_its_group(capsys):
    load_verb("serve").main(["--help"], standalone_mode=False)
    out = capsys.readouterr().out
    assert (
        out.index("Captions of calls that don't say:")
        < out.index("--min-silence MS")
        < out.index("Model and decoding:")
    )
    assert out.index("Model and decoding:") < out.index("--drafter NAMES")


@pytest.mark.parametrize(
    ("said", "default", "holds"),
    [
        (CaptionChoice(), CaptionChoice("live", 0.2), CaptionChoice("live", 0.2)),
        (CaptionChoice("live"), CaptionChoice("live", 0.2), CaptionChoice("live", 0.2)),
        (
            CaptionChoice("final"),
            CaptionChoice("live", 0.2, min_silence_ms=300),
            CaptionChoice("final", min_silence_ms=300),
        ),
        (
            CaptionChoice(latency_budget_ms=900),
            CaptionChoice("live", 0.2, max_segment_ms=5000),
            CaptionChoice("live", None, 900, max_segment_ms=5000),
        ),
    ],
)  # fmt: skip
def test_budgets_of_the_default_go_with_its_mode(said, default, holds):
    assert said.over(default) == holds


def test_a_choice_says_itself():
    assert str(CaptionChoice("stable", 0.2, 1500, 700)) == (
        "stable, erasure budget 0.2, latency budget 1500 ms, min silence 700 ms"
    )


def test_a_mode_is_one_of_three():
    with pytest.raises(BadConfig, match="use one of live, stable, final"):
        CaptionChoice("lively")
