"""What is shipped for running a server says what the server understands, and what it says fits together."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import streamtrans
from streamtrans.cli.app import load_verb
from streamtrans.engine.stats import EngineStats
from streamtrans.server import Load, Served, ServerConfig, TranslationServer
from streamtrans.server.capacity import Capacity
from streamtrans.server.metrics import Metrics
from streamtrans.testing.engine import InstantEngine

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGE = re.compile(r"[a-z0-9./-]+:[a-z0-9][a-z0-9.-]*")
BUILT = "streamtrans"
"""Our own image, which is in no registry."""
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNIT = ConfigParser(interpolation=None, strict=False)
UNIT.optionxform = str
UNIT.read(DEPLOY / "streamtrans.service", encoding="utf-8")
DOCKERFILE = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def kind(name):
    [found] = [each for each in KUBERNETES if each["kind"] == name]
    return found


POD = kind("Deployment")["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
SETTINGS = {
    "streamtrans.toml": (DEPLOY / "streamtrans.toml").read_text(encoding="utf-8"),
    "kubernetes.yaml": kind("ConfigMap")["data"]["streamtrans.toml"],
}


def settings_of(text, monkeypatch, tmp_path):
    """What ``streamtrans serve`` makes of a file."""
    seen = []

    async def run(config, make, **_):
        seen.append(config)

    monkeypatch.setattr("streamtrans.server.serve", run)
    monkeypatch.setattr("streamtrans.server.logs.write_logs", lambda *given: seen.append(given))
    path = tmp_path / "streamtrans.toml"
    path.write_text(text, encoding="utf-8")
    load_verb("serve").main(["--config", str(path)], standalone_mode=False)
    return seen


@pytest.mark.parametrize("name", SETTINGS)
def test_the_server_takes_the_settings(name, monkeypatch, tmp_path):
    logs, config = settings_of(SETTINGS[name], monkeypatch, tmp_path)
    assert logs == ("json", "info")
    assert (config.host, config.port, config.metrics_host, config.metrics_port) == ("0.0.0.0", 50051, "0.0.0.0", 9464)
    assert config.grace_ms == 10_000


def test_settings_that_wait_to_be_chosen_are_right_too(monkeypatch, tmp_path):
    text = re.sub(r"^# (\w+ = |\[)", r"\1", SETTINGS["streamtrans.toml"], flags=re.MULTILINE)
    _, config = settings_of(text, monkeypatch, tmp_path)
    assert config.keys == Path("/etc/streamtrans/keys.toml")
    assert config.tls.key == Path("/etc/streamtrans/tls.key")
    assert config.limits.max_connection_ms == 3_600_000


def test_whoever_stops_the_server_waits_longer_than_its_grace():
    grace_s = tomllib.loads(SETTINGS["streamtrans.toml"])["grace_ms"] / 1000
    assert int(UNIT["Service"]["TimeoutStopSec"]) > grace_s
    assert int(COMPOSE["services"]["streamtrans"]["stop_grace_period"].removesuffix("s")) > grace_s
    sleep, before_s = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert POD["spec"]["terminationGracePeriodSeconds"] > grace_s + int(before_s)


def test_images_have_a_version():
    images = [step[1].split()[0] for step in STEPS if step[0] == "FROM"]
    images += [CONTAINER["image"]] + [each["image"] for each in COMPOSE["services"].values() if each["image"] != BUILT]
    assert len(images) == 5
    for image in images:
        assert IMAGE.fullmatch(image), image
        assert not image.endswith(":latest")
    assert streamtrans.__version__.startswith(CONTAINER["image"].partition(":")[2])


def test_the_image_is_built_of_files_that_are_there_and_of_the_lock():
    stages = DOCKERFILE.count("FROM ")
    assert stages == 2
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    for sources in [step[1].split()[:-1] for step in STEPS if step[0] == "COPY" and "--from" not in step[1]]:
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in let_in
    installs = [step[1] for step in STEPS if step[0] == "RUN" and "pip install" in step[1]]
    assert installs
    assert all("-c requirements/dev.lock" in install for install in installs)
    assert "PIP_NO_CACHE_DIR=1" in DOCKERFILE


def test_what_the_image_is_built_of_is_enough_for_a_wheel(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    for sources in [step[1].split()[:-1] for step in STEPS if step[0] == "COPY" and "--from" not in step[1]]:
        for source in sources:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / source, tmp_path / source)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "made"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    [wheel] = (tmp_path / "made").glob("*.whl")
    assert "streamtrans/cli/serve.py" in ZipFile(wheel).namelist()


def test_the_image_runs_as_nobody_in_particular_and_takes_signals_itself():
    last = dict(STEPS)
    assert last["USER"] == str(POD["spec"]["securityContext"]["runAsUser"])
    assert json.loads(last["ENTRYPOINT"]) == ["streamtrans"]  # a shell would keep SIGTERM to itself
    assert json.loads(last["CMD"])[0] == "serve"
    assert not any(name == "ADD" or "sudo" in value for name, value in STEPS)
    [installing] = [value for _, value in STEPS if "apt-get" in value]  # what compiles a pass, and nothing it suggests
    assert "--no-install-recommends gcc libc6-dev &&" in installing
    assert "rm -rf /var/lib/apt/lists/*" in installing
    assert last["ENV"].endswith("XDG_CACHE_HOME=/tmp")
    assert COMPOSE["services"]["streamtrans"]["tmpfs"] == ["/tmp:exec"]
    assert any(each["mountPath"] == "/tmp" for each in CONTAINER["volumeMounts"])
    ports = {each["containerPort"] for each in CONTAINER["ports"]}
    assert {int(port) for port in last["EXPOSE"].split()} == ports == {50051, 9464}


@pytest.mark.parametrize(
    "words",
    [
        shlex.split(UNIT["Service"]["ExecStart"])[1:],
        json.loads(dict(STEPS)["CMD"]),
    ],
)
def test_the_commands_are_understood(words, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: SETTINGS["streamtrans.toml"])
    load_verb(words[0]).make_context(words[0], words[1:])


def test_the_unit_starts_again_what_failed_and_not_what_is_set_wrong():
    service = UNIT["Service"]
    assert (service["Restart"], service["RestartPreventExitStatus"], service["KillSignal"]) == (
        "on-failure", "2", "SIGTERM",
    )  # fmt: skip
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert UNIT["Install"]["WantedBy"] == "multi-user.target"


def test_the_compose_file_mounts_what_is_there_and_listens_on_this_machine_alone():
    services = COMPOSE["services"]
    assert set(services) == {"streamtrans", "prometheus", "grafana"}
    for name, service in services.items():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file(), (name, volume)
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
    build = services["streamtrans"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert services["streamtrans"]["read_only"]


async def test_the_health_check_of_the_compose_file_tells_well_from_ill(monkeypatch):
    *_, script = COMPOSE["services"]["streamtrans"]["healthcheck"]["test"]
    engine = InstantEngine(lambda *_: None, None)
    async with TranslationServer(ServerConfig(port=0), lambda: Served(engine, None, ("de",), "toy")) as server:
        checks = []
        for status in (1, 2):
            server._health.set(status)
            command = script.replace("50051", str(server.port))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", command, stderr=asyncio.subprocess.PIPE
            )
            await process.communicate()
            checks.append(process.returncode)
    assert checks == [0, 1]


def test_prometheus_looks_where_the_metrics_are():
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))
    [job] = prometheus["scrape_configs"]
    port = tomllib.loads(SETTINGS["streamtrans.toml"])["metrics_port"]
    assert job["static_configs"] == [{"targets": [f"streamtrans:{port}"]}]
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    source = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text(encoding="utf-8"))["datasources"][0]
    assert source["uid"] == "prometheus"
    boards = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text(encoding="utf-8"))["providers"][0]
    path = boards["options"]["path"]
    assert any(f"{path}/" in volume for volume in COMPOSE["services"]["grafana"]["volumes"])


def test_the_dashboard_asks_for_what_is_counted():
    metrics = Metrics()
    engine = InstantEngine(lambda *_: None, None)
    metrics.watch(
        lambda: Served(engine, None, ("de",), "toy", stats=EngineStats), lambda: True, Capacity(Load(), 480, 1_000)
    )
    metrics.refused.labels("x")
    metrics.ended.labels("x")
    counted = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for each in family.samples:
            counted.setdefault(each.name, set()).update(each.labels)
    board = json.loads((DEPLOY / "grafana" / "streamtrans.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(asked) > 15
    for expression in asked:
        names = re.findall(r"\b(?:streamtrans|process)_\w+", expression)
        assert names
        for name in names:
            assert name in counted, expression
            for labels in re.findall(r"by \((\w+)\)", expression):
                assert labels in counted[name], expression
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"prometheus"}
    rows = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(rows)) == len(rows)


def test_the_manifests_fit_together():
    assert [each["kind"] for each in KUBERNETES] == ["ConfigMap", "Service", "Deployment", "PodDisruptionBudget"]
    assert [each["apiVersion"] for each in KUBERNETES] == ["v1", "v1", "apps/v1", "policy/v1"]
    service, labels = kind("Service")["spec"], POD["metadata"]["labels"]
    assert service["clusterIP"] == "None"  # headless
    assert service["selector"] == labels == kind("Deployment")["spec"]["selector"]["matchLabels"]
    assert kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert {port["targetPort"] for port in service["ports"]} == {port["name"] for port in CONTAINER["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["grpc"]["port"] == 50051  # a gRPC probe knows no names of ports
    assert CONTAINER["readinessProbe"]["failureThreshold"] == 1
    mounted = {mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert mounted == {volume["name"] for volume in POD["spec"]["volumes"]}
    [config] = [volume["configMap"]["name"] for volume in POD["spec"]["volumes"] if "configMap" in volume]
    assert config == kind("ConfigMap")["metadata"]["name"]
    assert POD["spec"]["securityContext"]["runAsNonRoot"]
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert not CONTAINER["securityContext"]["allowPrivilegeEscalation"]
    assert kind("Deployment")["spec"]["replicas"] >= 2
    assert kind("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
