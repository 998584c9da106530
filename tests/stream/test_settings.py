import json
from dataclasses import replace

import pytest

from streamtrans.core import BadModel, CaptionChoice
from streamtrans.stream import SessionConfig, Setting, Settings, Unmet, arrange

TIMES = {"reading_interval_ms": 640, "min_first_reading_ms": 480}
ROW = {
    "mode": "live",
    "policy": "agreement",
    "policy_n": 2,
    "bias": 0.2,
    "masked": 0,
    "reading_interval_ms": 640,
    "min_first_reading_ms": 480,
}


def row(name, erasure, latency_ms, bleu_loss, **more):
    return Setting(**{"name": name, "erasure": erasure, "latency_ms": latency_ms, "bleu_loss": bleu_loss} | ROW | more)


TABLE = Settings(
    [
        row("default", 0.15, 1_600, 0.4),
        row("quick", 0.4, 900, 1.5),
        row("calm", 0.02, 2_400, 0.2),
        row("still", 0.0, 2_100, 1.0, mode="stable"),
    ]
)


@pytest.mark.parametrize(
    ("mode", "budgets", "chosen"),
    [
        ("live", {}, "default"),
        ("stable", {}, "still"),
        ("live", {"erasure_budget": 0.2}, "calm"),
        ("live", {"erasure_budget": 0.2, "latency_budget_ms": 2_000}, "default"),
        ("live", {"latency_budget_ms": 1_000}, "quick"),
        ("live", {"erasure_budget": 0.5, "latency_budget_ms": 1_000}, "quick"),
        ("stable", {"erasure_budget": 0}, "still"),
    ],
)
def test_the_row_that_keeps_both_budgets_and_loses_least_is_chosen(mode, budgets, chosen):
    assert TABLE.choose(mode, **budgets).name == chosen


@pytest.mark.parametrize(
    ("budgets", "fields", "told"),
    [
        ({"erasure_budget": 0.01}, ("erasure_budget",), r"lowest erasure of mode live is 0\.02 \(calm\)"),
        ({"latency_budget_ms": 500}, ("latency_budget_ms",), r"lowest latency of mode live is 900 ms \(quick\)"),
        (
            {"erasure_budget": 0.01, "latency_budget_ms": 500},
            ("erasure_budget", "latency_budget_ms"),
            r"erasure .* latency",
        ),
        (
            {"erasure_budget": 0.1, "latency_budget_ms": 1_700},
            ("erasure_budget", "latency_budget_ms"),
            r"within that erasure the latency is 2400 ms or more \(calm\), within that latency the erasure is 0\.15",
        ),
    ],
)
def test_what_cannot_be_kept_is_named(budgets, fields, told):
    with pytest.raises(Unmet, match=told) as caught:
        TABLE.choose("live", **budgets)
    assert caught.value.fields == fields


def test_without_measurements_there_is_no_default_and_no_budget():
    assert Settings().choose("live") is None
    with pytest.raises(Unmet, match="no setting of mode live was measured"):
        Settings().choose("live", erasure_budget=0.5)


def test_the_level_of_the_model_is_that_of_its_sessions(tmp_path):
    (tmp_path / "streaming.json").write_text('{"level_db": -20, "settings": []}')
    settings = Settings.load(tmp_path)
    template = SessionConfig(("de",))
    assert arrange(template, CaptionChoice(), settings, 5_000)[0].level_db == -20
    assert arrange(replace(template, level_db=-30.0), CaptionChoice(), settings, 5_000)[0].level_db == -30
    assert arrange(template, CaptionChoice(), Settings(), 5_000)[0].level_db is None


@pytest.mark.parametrize("level", ["3", '"loud"', "[]"])
def test_a_level_that_is_none_is_refused(tmp_path, level):
    (tmp_path / "streaming.json").write_text(f'{{"level_db": {level}, "settings": []}}')
    with pytest.raises(BadModel, match=r"streaming\.json is no table of settings: level_db"):
        Settings.load(tmp_path)


def test_a_setting_is_applied_to_a_session():
    config = row("x", 0, 0, 0, bias=0.3, policy="hold", policy_n=4, mode="stable").apply(SessionConfig(("de",)))
    assert (config.policy, config.policy_n, config.bias, config.mode) == ("hold", 4, 0.3, "stable")
    assert config.reading_interval_ms == 640


def test_the_table_is_read_from_the_model_folder(tmp_path):
    assert Settings.load(tmp_path).rows == ()
    rows = [{"name": "a", "erasure": 0.1, "latency_ms": 1_000, "bleu_loss": 0.0, "note": "ignored"} | ROW]
    (tmp_path / "streaming.json").write_text(json.dumps({"settings": rows}))
    assert Settings.load(tmp_path).default("live").name == "a"


@pytest.mark.parametrize(
    "change",
    [
        {"policy": "unknown"},
        {"reading_interval_ms": 10},
        {"reading_interval_ms": "480"},
        {"erasure": None},
        {"latency_ms": float("nan")},
        {"mode": "Live"},
        {"policy": "os:_exit"},
        {"policy_n": True},
        {"name": "\x1b[2J"},
        {"bias": "0.2"},
        {"masked": 10**40},
    ],
)
def test_a_table_that_no_session_could_use_is_refused_when_it_is_read(tmp_path, change):
    row = {"name": "a", "erasure": 0.1, "latency_ms": 1_000, "bleu_loss": 0.0} | ROW | change
    for content in ({"settings": [row]}, {"settings": ["a"]}, {"settings": [{"name": "a"}]}, ["a"], {}):
        (tmp_path / "streaming.json").write_text(json.dumps(content))
        with pytest.raises(BadModel, match="no table of settings"):
            Settings.load(tmp_path)


def test_what_is_wrong_in_a_table_is_named_with_file_and_field(tmp_path):
    good = {"name": "a", "erasure": 0.1, "latency_ms": 1_000, "bleu_loss": 0.0} | ROW
    (tmp_path / "streaming.json").write_text(json.dumps({"settings": [good, good | {"policy_n": "2"}]}))
    with pytest.raises(
        BadModel, match=r"streaming\.json .*settings\[1\]\.policy_n is '2', and should be a whole number"
    ):
        Settings.load(tmp_path)
    for data in (b"[" * 100_000, b"\xff", b" " * (2 << 20)):
        (tmp_path / "streaming.json").write_bytes(data)
        with pytest.raises(BadModel, match="no table of settings"):
            Settings.load(tmp_path)
