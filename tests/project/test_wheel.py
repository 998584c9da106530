"""The wheel holds all that a user needs, and little else."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


def test_data_and_marks_travel(wheel):
    names = set(ZipFile(wheel).namelist())
    assert {
        "streamtrans/py.typed",
        "streamtrans/corpus/lexicon.tsv",
        "streamtrans/corpus/simplified.txt",
        "streamtrans/text/article1.tsv",
        "streamtrans/v1/streamtrans_pb2.py",
        "streamtrans/v1/streamtrans_pb2.pyi",
        "streamtrans/v1/streamtrans_pb2_grpc.py",
        "streamtrans_clients/__init__.py",
        "streamtrans_clients/mic.py",
        "streamtrans_clients/sinks/obs.py",
    } <= names
    for folder in ("demo", "models", "server/page"):
        files = [path for path in (ROOT / "streamtrans" / folder).rglob("*") if path.is_file()]
        wanted = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
        assert wanted
        assert wanted <= names


def test_nothing_else_travels_and_it_is_small(wheel):
    tops = {name.partition("/")[0].partition("-")[0] for name in ZipFile(wheel).namelist()}
    assert tops == {"streamtrans", "streamtrans_clients"}
    assert wheel.stat().st_size < MOST_BYTES
