"""The committed stubs are what the .proto file generates."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto" / "streamtrans" / "v1" / "streamtrans.proto"


def test_committed_stubs_are_fresh(tmp_path):
    tools = pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    version = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", _committed("streamtrans_pb2_grpc.py"))
    assert version is not None
    assert version[1].startswith("1.76."), "newer tools lock out users of protobuf 6"
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    subprocess.run(
        [sys.executable, "-m", tools.__name__ + ".protoc", f"-I{ROOT / 'proto'}", *outputs, str(PROTO)],
        check=True,
    )
    fresh = sorted((tmp_path / "streamtrans" / "v1").iterdir())
    assert [path.name for path in fresh] == [
        "streamtrans_pb2.py",
        "streamtrans_pb2.pyi",
        "streamtrans_pb2_grpc.py",
    ]
    for path in fresh:
        assert path.read_text() == _committed(path.name), f"{path.name} is stale; run `make proto`"


def test_only_wire_imports_the_stubs():
    package = ROOT / "streamtrans"
    users = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r"^\s*(from|import) streamtrans\.v1", path.read_text(), re.MULTILINE)
    }
    assert users <= {"wire", "v1"}


def test_enum_values_and_messages_keep_the_naming_rules():
    text = PROTO.read_text()
    for name, body in re.findall(r"^enum (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"
        values = re.findall(r"^\s+(\w+) = (\d+);", body, re.MULTILINE)
        assert (f"{prefix}UNSPECIFIED", "0") in values
        assert all(value.startswith(prefix) for value, _ in values)
    for rpc, request, response in re.findall(r"rpc (\w+)\((?:stream )?(\w+)\) returns \((?:stream )?(\w+)\)", text):
        assert (request, response) == (f"{rpc}Request", f"{rpc}Response")


def _committed(name):
    return (ROOT / "streamtrans" / "v1" / name).read_text()
