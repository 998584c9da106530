"""Two workers of a real Ray cluster on this machine, with the embedded model; one is killed in mid-sentence."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from streamtrans.audio import read_audio
from streamtrans.cli import main
from streamtrans.client import StreamOptions, TranslationClient
from streamtrans.cluster import RayEngine, dismiss, hire
from streamtrans.core import BadConfig, Caption, Health, Job, Target, UnsupportedLanguage
from streamtrans.runtime import ModelChoice, load
from streamtrans.server import ServerConfig, TranslationServer
from streamtrans.server.offer import what_is_offered
from streamtrans.stream import Session, SessionConfig, drive
from streamtrans.testing.engine import Relay
from streamtrans.vad import vad_window

pytest.importorskip("ray", reason="ray is not installed")

ROOT = Path(__file__).parents[2]
SPEECH = read_audio(ROOT / "streamtrans" / "demo" / "speech.flac")[: 12 * 16_000]
CHOICE = ModelChoice(dtype="float32", drafter="echo", vad="energy", threads=1)
SLOTS = 4


CLUSTER = """
import sys, ray
about = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 10**8}
started = ray.init(num_cpus=2, _temp_dir=sys.argv[1], **about)
print("cluster at", started.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def address():
    """A cluster of one node, which goes with the tests."""
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        for name, value in environment.items():
            patch.setenv(name, value)
        with subprocess.Popen(
            [sys.executable, "-c", CLUSTER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as cluster:
            yield next(line for line in cluster.stdout if line.startswith("cluster at")).split()[-1]
            dismiss()
            cluster.stdin.close()
            cluster.wait(30)


@pytest.fixture(scope="module")
def hired(address):
    return hire(address, CHOICE, workers=2, slots=SLOTS, cpus=0.5)


@pytest.fixture
def engine(hired):
    engine = RayEngine(*hired)
    wait(lambda: len(engine.processes) == 2)
    yield engine
    engine.close()


def wait(true, seconds=30.0):
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)


def translate(engine, tokenizer, settings=None):
    """Return the final texts of the recording."""
    session = Session(settings or SessionConfig(("de", "fr"), "en", "energy"), tokenizer, window=vad_window("energy"))
    events = drive(session, engine, SPEECH)
    assert session.stats.failures == 0
    return [
        (event.segment, event.language, event.text) for event in events if isinstance(event, Caption) and event.final
    ]


class Killing(Relay):
    """Kills the process that has just got a job of a sentence that goes on, once ``after`` have been asked."""

    def __init__(self, inner, after):
        super().__init__(inner)
        self.after, self.jobs, self.sent, self.killed = after, 0, 0, None

    def submit(self, request):
        reply = super().submit(request)
        if isinstance(request, Job):
            self.jobs += 1
            self.sent += len(request.audio)
            if self.killed is None and 0 < self.after <= self.jobs and request.state is not None and not request.last:
                self.killed = self.engine.processes[request.state.owner]
                os.kill(self.killed, signal.SIGKILL)
        return reply


@pytest.fixture(scope="module")
def alone():
    """What an engine of this process says."""
    loaded = load(CHOICE, slots=SLOTS)
    yield translate(loaded.engine, loaded.model.tokenizer), loaded
    loaded.engine.close()


def test_workers_elsewhere_say_what_an_engine_here_says_and_hear_speech_once(engine, alone):
    said, loaded = alone
    offer = engine.offer
    assert (offer.model_name, offer.languages) == (loaded.model.name, loaded.model.languages)
    counted = Killing(engine, after=-1)
    assert translate(counted, offer.tokenizer) == said
    assert said
    assert counted.sent <= 1.1 * len(SPEECH)
    assert engine.health is Health.SERVING


@pytest.mark.parametrize("after", [4, 9])
def test_a_worker_that_is_killed_in_mid_sentence_loses_no_word(engine, alone, after):
    said, _ = alone
    killing = Killing(engine, after)
    assert translate(killing, engine.offer.tokenizer) == said
    assert killing.killed is not None
    wait(lambda: len(engine.processes) == 2 and killing.killed not in engine.processes.values())


def test_two_front_ends_share_the_workers(hired, engine, address):
    again, _ = hire(address, CHOICE, workers=2, slots=SLOTS, cpus=0.5)
    other = RayEngine(again, hired[1])
    wait(lambda: len(other.processes) == 2)
    assert other.processes == engine.processes
    other.close()
    assert engine.health is Health.SERVING
    assert engine.stats.devices == 2


def test_what_a_worker_refuses_is_told_as_it_was_said(engine):
    job = Job(0, 0, len(SPEECH), True, SPEECH, ())
    assert engine.submit(job).result(10).hypotheses == ()
    with pytest.raises(UnsupportedLanguage):
        engine.submit(replace(job, targets=(Target("xx"),))).result(10)
    with pytest.raises(BadConfig, match="a worker has 4"):
        engine.submit(replace(job, targets=tuple(map(Target, ("de", "fr", "es", "it", "en"))))).result(10)


async def test_a_server_serves_with_the_workers_of_a_cluster(engine, alone):
    async with (
        TranslationServer(ServerConfig(port=0, grace_ms=0), lambda: what_is_offered(engine, "energy")) as server,
        TranslationClient(f"127.0.0.1:{server.port}") as client,
    ):
        await server.ready()
        assert (await client.capabilities()).languages == alone[1].model.languages
        options = StreamOptions(("de",), source_languages=("en",), mode="final")
        events = [event async for event in client.translate(options, SPEECH[: 4 * 16_000])]
    assert [event.text for event in events if isinstance(event, Caption) and event.final and event.text]


@pytest.mark.parametrize(
    "given", [["--engine", "ray"], ["--ray-address", "127.0.0.1:1"], ["--engine", "spark", "--ray-address", "x:1"]]
)
def test_half_of_what_names_a_cluster_is_refused(given, capsys):
    with pytest.raises(SystemExit):
        main(["serve", *given])
    assert "use local, or ray together with --ray-address HOST:PORT" in capsys.readouterr().err
