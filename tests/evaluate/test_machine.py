import json
import subprocess
import sys

import pytest

from streamtrans.core import BadModel
from streamtrans.evaluate import Watch, describe_machine, store
from streamtrans.evaluate.machine import invocation
from streamtrans.runtime import weights_sha256


def test_a_number_is_stored_with_its_command_and_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/streamtrans", "bench", "size", "--note", "a b"])
    with Watch() as watch:
        pass
    path = store("size", {"wheel_mb": 3.5, "语": "言"}, watch.measured, folder=tmp_path / "results")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "size.json"
    assert record["figures"] == {"wheel_mb": 3.5, "语": "言"}
    assert record["command"] == "streamtrans bench size --note 'a b'" == invocation()
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["torch"]
    assert set(record["measured"]) == {"seconds", "other_cpu", "load_average"}
    assert record["date"].endswith("+00:00")
    again = store("size", {}, watch.measured, folder=tmp_path / "results", command="make bench")
    assert json.loads(again.read_text())["command"] == "make bench"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what other processes use")
def test_our_own_work_is_not_counted_as_other_peoples():
    with Watch() as watch:
        subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    assert watch.measured.other_cpu is not None
    assert watch.measured.other_cpu >= 0
    assert watch.measured.seconds > 0


def test_the_machine_is_described():
    machine = describe_machine()
    assert machine.cpu
    assert machine.memory_gb > 0


def test_weights_are_known_by_their_checksum(tmp_path):
    with pytest.raises(BadModel, match="no weights"):
        weights_sha256(tmp_path)
    (tmp_path / "model-1.safetensors").write_bytes(b"ab")
    (tmp_path / "model-2.safetensors").write_bytes(b"c")
    # of "abc"
    assert weights_sha256(tmp_path).startswith("ba7816bf8f01cfea414140de5dae2223")
