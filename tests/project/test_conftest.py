"""What CI makes of skipped tests, and who is left out where there is nothing to test."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest

CONFTEST = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")
TESTS = """
import pytest

def test_fine(): pass

@pytest.mark.gpu
@pytest.mark.skipif(True, reason="no GPU")
def test_gpu(): pass

@pytest.mark.parametrize("kind", [])
def test_no_kind(kind): pass

@pytest.mark.shared
def test_shared(): pass

@pytest.mark.xfail(strict=True)
def test_expected(): raise OSError
"""
SKIPS = """
import pytest

def test_within(): pytest.skip("not today")

@pytest.mark.skipif(True, reason="a mark")
def test_marked(): pass
"""
MODULE = 'import pytest\npytest.importorskip("no_such_package", reason="not here")\n'


@pytest.fixture
def run(tmp_path):
    tests = tmp_path / "project" / "tests"
    tests.mkdir(parents=True)
    (tests / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tests / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu: .\n  shared: .\n")

    def call(*options, **files):
        for name, text in files.items():
            (tests / f"test_{name}.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options, "."]
        done = subprocess.run(command, cwd=tests, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return call


def test_only_gpu_may_be_skipped_in_ci(run):
    status, told = run("--no-skips", fine=TESTS)
    assert status == 0
    assert "1 passed, 1 skipped, 2 deselected, 1 xfailed" in told
    status, told = run("--no-skips", skips=SKIPS, module=MODULE)
    assert status == 2
    assert "skipped, which nothing may be here: Skipped: not here" in told
    assert run(skips=SKIPS, module=MODULE)[0] == 0
    (status, told) = run("--no-skips", module="def test_now_here(): pass\n")
    assert status == 1
    for reason in ("not today", "a mark"):
        assert f"skipped, which nothing may be here: {reason}" in told


def test_shared_data_is_used_where_it_is(run, tmp_path):
    (tmp_path / "shared").mkdir()
    assert "2 passed, 1 skipped, 1 deselected, 1 xfailed" in run("--no-skips", fine=TESTS)[1]


def test_a_run_deletes_its_own_caches_and_nothing_else(tmp_path, monkeypatch):
    dear, undone = tmp_path / "dear", []
    dear.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "before"))
    monkeypatch.delenv("HF_HOME", raising=False)
    conftest.pytest_configure(SimpleNamespace(add_cleanup=undone.append))
    own = Path(os.environ["XDG_CACHE_HOME"])
    assert own.is_dir()
    assert os.environ["HF_HOME"] == str(tmp_path / "before" / "huggingface")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(dear))  # as a test may that looks at caches
        for undo in reversed(undone):
            undo()
        assert dear.is_dir()
        assert not own.exists()
        assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "before")
        assert "HF_HOME" not in os.environ
