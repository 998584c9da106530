import json

import pytest

from streamtrans.core import BadConfig
from streamtrans.evaluate.table import winners, write_table
from streamtrans.stream import Settings


def figures(name, erasure, latency_ms, lost, **values):
    average = {"normalized_erasure": erasure, "stream_laal_ms": latency_ms, "bleu_lost": lost}
    return {"setting": name, "values": {"mode": "live", **values}, "average": average}


SWEEP = [
    figures("lively", 0.6, 900, -0.1),
    figures("late and calm", 0.05, 2_000, 0.1, bias=0.4),
    figures("soon and calm", 0.15, 1_400, 0.9, bias=0.3, masked=2),
    figures("beaten", 0.2, 1_500, 1.0, policy="hold", policy_n=3),
    figures("still", 0.0, 1_800, 1.5, mode="stable", policy="threshold", policy_n=60),
    figures("stiller", 0.0, 1_500, 2.5, mode="stable", policy="hold", policy_n=4),
    figures("silent", None, 1_500, 2.5, mode="stable"),
    figures("final", 0.0, 3_000, 0.0, mode="final"),
]


def test_what_wins_is_kept_and_each_mode_has_a_default(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    rows = write_table(tmp_path, SWEEP, {"command": "streamtrans evaluate"})
    assert [row.name for row in rows] == [
        "soon and calm",
        "still",
        "final",
        "lively",
        "late and calm",
        "stiller",
    ]
    table = Settings.load(tmp_path)
    assert table.rows == tuple(rows)
    default = table.default("live")
    assert (default.bias, default.masked, default.policy) == (0.3, 2, "agreement")
    assert json.loads((tmp_path / "streaming.json").read_text())["measured"]["command"] == "streamtrans evaluate"


def test_what_the_folder_says_of_its_model_stays(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "streaming.json").write_text('{"level_db": -21.5, "settings": []}')
    write_table(tmp_path, SWEEP, {})
    assert Settings.load(tmp_path).level_db == -21.5
    assert Settings.load(tmp_path).rows


def test_where_nothing_is_calm_the_calmest_is_the_default(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    rows = write_table(tmp_path, [figures("a", 0.9, 900, 0.0), figures("b", 0.5, 1_500, 0.0)], {})
    assert rows[0].name == "b"


def test_a_table_needs_a_model_and_measurements(tmp_path):
    with pytest.raises(BadConfig, match="no model folder"):
        write_table(tmp_path, SWEEP, {})
    with pytest.raises(BadConfig, match="no setting has a quality"):
        write_table(tmp_path, SWEEP[6:7], {})
    assert winners([]) == []
