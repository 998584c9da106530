"""`bench scripts` and `bench malformed`: short ones of all, whose figures are kept."""

import json

from tests.bench.test_bench import invoke


def kept(tmp_path, name, *options):
    invoke("bench", name, *options, "--results", tmp_path)
    return json.loads((tmp_path / f"{name}.json").read_text())["figures"]


def test_scripts(tmp_path):
    figures = kept(tmp_path, "scripts", "--count", 3, "--seed", 7)
    assert (figures["scripts"], figures["calls"]) == (3, 9)
    assert figures["different"] == figures["broken"] == []


def test_malformed_messages_of_a_server_of_their_own(tmp_path):
    figures = kept(tmp_path, "malformed", "--count", 30)
    assert figures["wrong"] == []
    assert sum(sum(codes.values()) for codes in figures["statuses"].values()) == figures["calls"] == 30
    assert figures["mb_per_thousand"] is None
