import shutil
import socket

from streamtrans.cli.doctor import examine
from streamtrans.model import native
from streamtrans.runtime import ModelChoice


def subjects(findings):
    return {finding.subject: finding for finding in findings}


def test_a_sound_installation_is_ok(checkpoint):
    found = subjects(examine(50_051, ModelChoice(str(checkpoint), threads=1)))
    for subject in ("python", "torch", "vad silero", "vad webrtc", "vad energy", "model"):
        assert found[subject].status == "ok", found[subject]
    assert "en de zh" in found["model"].detail
    assert {"gpu", "cpu", "port", "microphone"} <= set(found)


def test_whether_a_pass_is_one_call_is_told(monkeypatch):
    monkeypatch.setattr(native, "_loaded", lambda: "there is no C compiler")
    found = subjects(examine(50_051, ModelChoice("/no/such/model")))["passes"]
    assert (found.status, found.detail) == ("warn", "layer by layer: there is no C compiler")
    assert "apt install gcc" in found.remedy


def test_what_fails_has_a_remedy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = subjects(examine(port, ModelChoice("/no/such/model")))
    assert found["port"].status == "warn"
    assert f"--port {port + 1}" in found["port"].remedy
    assert found["model"].status == "fail"
    assert "/no/such/model" in found["model"].detail
    assert all(finding.remedy for finding in found.values() if finding.status != "ok")


def test_the_verb_says_so_with_its_status(run):
    status, out, _ = run("doctor", "--model", "/no/such/model")
    assert status == 1
    assert "fail model" in " ".join(out.split())
    assert "→" in out


def test_where_a_file_is_missing_nobody_is_told_to_reinstall(checkpoint, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    (broken / "model.safetensors").unlink()
    found = subjects(examine(50_051, ModelChoice(str(broken))))["model"]
    assert found.status == "fail"
    assert "reinstall" not in found.remedy
    assert str(broken) in found.remedy
