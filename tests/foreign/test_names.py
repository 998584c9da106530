"""A name imports what a table of ours holds under it, or nothing, unless whoever runs the program chose it."""

import ast
import copy
import json
import pickle
import sys
from pathlib import Path

import pytest

import streamtrans
from streamtrans.cli.app import VERBS
from streamtrans.core import BadConfig
from streamtrans.decode import DRAFTERS, parse_drafters
from streamtrans.engine import EngineConfig
from streamtrans.evaluate.exports import EXPORTS
from streamtrans.foreign import Chosen, Table
from streamtrans.model.loading import FAMILIES, TRANSLATORS
from streamtrans.stream import POLICIES, SessionConfig, load_policy
from streamtrans.train.finetune.readers import READERS
from streamtrans.vad import VADS, load_vad, vad_window

TABLES = [POLICIES, DRAFTERS, VADS, FAMILIES, TRANSLATORS, EXPORTS, READERS, VERBS]
SOURCES = sorted(Path(streamtrans.__file__).parent.rglob("*.py"))


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A module that can be imported and says so when it is."""
    mark = tmp_path / "imported"
    (tmp_path / "payload.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Thing:\n    window = 160\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    sys.modules.pop("payload", None)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_a_name_out_of_data_is_a_key_of_the_table_or_nothing(table, payload):
    assert all(callable(table.load(name)) for name in table)
    for path in ("payload:Thing", "os:_exit", "os:system", *table.values()):
        with pytest.raises(BadConfig, match=rf"the {table.what} '{path}' isn't one of ours.*{next(iter(table))}"):
            table.load(path)
    for odd in (None, 3, 0.5, True, [], ["hold"], {}, "", ":", "a:", ":b", "..a:b", "a:b:c", "a b:c", "a/b:c", "\0:x"):
        with pytest.raises(BadConfig, match=f"unknown {table.what}"):
            table.load(odd)
    assert not payload.exists()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_who_runs_the_program_may_choose_another(table, payload):
    assert table.load(Chosen("payload:Thing")).window == 160
    assert payload.exists()
    assert all(table.load(Chosen(name)) is table.load(name) for name in table)


@pytest.mark.parametrize(
    "use",
    [
        lambda name: load_policy(name, 2),
        lambda name: SessionConfig(("de",), policy=name),
        load_vad,
        vad_window,
        lambda name: parse_drafters(f"echo,{name}"),
        lambda name: EngineConfig(drafter=name),
    ],
)
def test_whatever_takes_a_name_takes_it_so(use, payload):
    with pytest.raises(BadConfig, match="isn't one of ours"):
        use("payload:Thing")
    assert not payload.exists()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no_such_package:Thing", "can't be imported"),
        ("payload:Other", "can't be imported"),
        ("json:__doc__", "is a str"),
        (".payload:Thing", "unknown thing"),
        ("payload", "unknown thing"),
    ],
)
def test_a_chosen_name_of_nothing_is_refused(path, problem, payload):
    with pytest.raises(BadConfig, match=problem):
        Table("thing", {"ours": "json:loads"}).load(Chosen(path))


def test_what_was_chosen_stays_so_where_it_is_kept_and_not_where_it_was_data():
    name = Chosen("a:B")
    assert all(isinstance(kept, Chosen) for kept in (copy.deepcopy(name), pickle.loads(pickle.dumps(name))))
    assert not any(isinstance(cut, Chosen) for cut in (name.strip(), name[:2], f"{name}", json.loads(json.dumps(name))))
    assert name == "a:B"


def test_nothing_else_imports_by_a_name_that_could_come_from_data():
    """Everything that is imported by name is imported by a table, or is a name that stands in the source."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in ("import_module", "__import__", "find_spec", "eval", "exec", "run_path", "run_module"):
                written = node.args and isinstance(node.args[0], ast.Constant)
                if not written and not (name == "eval" and not node.args):  # torch's `model.eval()` takes nothing
                    found.add(f"{path.relative_to(SOURCES[0].parent)}:{name}")
    assert found == ASKED_WITH_WRITTEN_NAMES


ASKED_WITH_WRITTEN_NAMES = {
    "corpus/kokoro.py:find_spec",
    "bench/peers.py:find_spec",
    "foreign/names.py:import_module",
    "metrics/latency.py:import_module",
    "metrics/texts.py:import_module",
}
