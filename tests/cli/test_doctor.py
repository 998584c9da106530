import shutil
import socket
import time
from dataclasses import replace
from itertools import count, pairwise

import numpy as np
import pytest

from streamtrans.cli.doctor import examine
from streamtrans.cli.keeping_up import PATIENCE_S, Pace, measure, verdict
from streamtrans.model import native
from streamtrans.runtime import ModelChoice, load
from tests.translators import make_m2m


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


@pytest.mark.parametrize("shares", [True, False])
def test_a_pass_that_threads_cannot_share_is_told(monkeypatch, shares):
    monkeypatch.setattr(native, "why_not", lambda: "")
    monkeypatch.setattr(native, "shares", lambda: shares)
    found = subjects(examine(50_051, ModelChoice("/no/such/model")))["passes"]
    assert found.status == ("ok" if shares else "warn")
    assert ("in one thread" in found.detail) != shares


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


# ---- whether it can be served live ----


def pace(spent_s=1.0, last_s=0.2, heard_s=10.0):
    return Pace(heard_s, spent_s, encode_ms=20, pass_ms=5, passes=4, last_s=last_s, readings=20)


@pytest.mark.parametrize(
    ("pace", "taken_gb", "live", "told"),
    [
        (pace(1.0), 1.0, True, "yes, about 7 streams at once"),
        (pace(6.9), 1.0, True, "yes, one stream"),
        (pace(12.0, 1.4), 1.0, True, "captions come late and fewer"),
        (pace(60.0, 6.0, 5.0), 1.0, False, "would wait for his captions longer and longer"),
        (pace(1.0), 15.0, False, "more memory than there is"),
        (pace(1.0), None, True, "takes 0.10 of its time (20 readings: 20 ms to hear, 4.0 passes of 5.0 ms each"),
    ],
)
def test_whether_it_can_be_served_live_is_said_in_words_with_figures(pace, taken_gb, live, told):
    said = verdict(pace, taken_gb, 16.0)
    assert said[0] == live
    assert told in said[1]


@pytest.fixture
def loaded(checkpoint):
    loaded = load(ModelChoice(str(checkpoint), threads=1, vad="energy", guard="off"))
    with loaded.engine:
        yield loaded


SPEECH = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)


def test_a_growing_segment_is_read_at_every_step_with_the_last_text_as_draft(loaded, monkeypatch):
    asked, submit = [], loaded.engine.submit
    monkeypatch.setattr(loaded.engine, "submit", lambda job: asked.append(job) or submit(job))

    found = measure(loaded, SPEECH, ("de",), "en", time.perf_counter)

    step = loaded.session_config(("de",), "en").reading_interval_ms * 16
    jobs = asked[1:]  # after the one that warms up
    assert [job.end for job in jobs] == [*range(step, len(SPEECH) + 1, step)]
    assert all(
        job.targets[0].draft
        == submit(replace(before, state=None, audio=SPEECH[: before.end])).result().hypotheses[0].tokens
        for before, job in pairwise(jobs)
    )
    assert (found.readings, found.heard_s) == (len(jobs), len(jobs) * step / 16_000)
    assert found.spent_s > 0
    assert found.pass_ms * found.passes * found.readings / 1000 <= found.spent_s
    assert 0 < found.last_s <= found.spent_s
    assert found.passes > 0


def test_what_is_far_too_slow_is_not_measured_to_its_end(loaded):
    ticks = count(step=PATIENCE_S)
    found = measure(loaded, SPEECH, ("de",), "en", lambda: next(ticks))
    assert found.readings == 1
    assert not verdict(found, None, None)[0]


def test_the_doctor_says_whether_a_model_and_a_translator_can_be_served_live(checkpoint, tmp_path):
    make_m2m(tmp_path / "translator")
    found = subjects(examine(50_051, ModelChoice(translator=str(tmp_path / "translator"), threads=1)))
    assert found["translator"].detail.startswith("translator on cpu, float32, ")
    assert "de" in found["translator"].detail.split()
    assert "en to de: " in found["live"].detail
    alone = subjects(examine(50_051, ModelChoice(str(checkpoint), threads=1)))
    assert "translator" not in alone
    assert "passes of" in alone["live"].detail
    wrong = subjects(examine(50_051, ModelChoice(translator=str(checkpoint), threads=1)))["model"]
    assert (wrong.status, "give it with --model" in wrong.detail) == ("fail", True)
