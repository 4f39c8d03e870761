"""Compose, Dockerfile and units pass the real tools, and the programs accept the configuration they are given."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from daemon.config import load
from edge.config import EdgeConfig
from origin.config import OriginConfig
from tests.deploy.panels import DEPLOY

ROOT = DEPLOY.parent
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
EDGES = ("edge-1", "edge-2", "edge-3")
UNITS = ("starling-edge.service", "starling-origin.service")


def tool(name: str) -> str:
    """A command of this virtual environment, or of the system."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_compose_accepts_the_file(tmp_path):
    config = run(
        tool("docker-compose"),
        "-f",
        str(DEPLOY / "compose.yaml"),
        "config",
        "--format",
        "json",
        STARLING_MEDIA=str(tmp_path),
    )
    assert config.returncode == 0, config.stderr
    services = json.loads(config.stdout)["services"]
    assert {*services} == {"keys", "origin", *EDGES, "prometheus", "grafana"}
    assert str(tmp_path) in [volume["source"] for volume in services["origin"]["volumes"]]


def test_hadolint_accepts_the_dockerfile():
    lint = run(tool("hadolint"), str(DEPLOY / "Dockerfile"))
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_no_image_is_latest():
    stages = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    images = [*stages, *(service["image"] for service in SERVICES.values())]
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", image) for image in images), images


def test_what_the_dockerfile_copies_is_there_and_let_through_its_ignore_file():
    let_through = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    lines = re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    copied = {source for line in lines for source in line.split()[:-1]}
    assert copied == let_through
    assert [source for source in copied if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_without_rights_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "by the image") != "root"
    assert "healthcheck" in service or name == "keys"


def test_the_image_does_not_run_as_root():
    assert re.findall(r"^USER (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE) == ["10001:10001"]


def test_edges_never_see_the_signing_key():
    for name in EDGES:
        assert not [volume for volume in SERVICES[name]["volumes"] if volume.startswith("keys:")]


@pytest.mark.parametrize("name", EDGES)
def test_the_edge_accepts_its_configuration_and_environment(name):
    config = load(DEPLOY / "config" / "edge.yaml", SERVICES[name]["environment"], EdgeConfig)
    assert config.node == name
    assert config.swarm is not None


def test_the_origin_accepts_its_configuration():
    config = load(DEPLOY / "config" / "origin.yaml", {}, OriginConfig)
    assert config.has_content
    assert config.runs_tracker


def test_prometheus_scrapes_every_program_where_it_listens():
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for static in job["static_configs"] for target in static["targets"]}
    assert targets == {"edge-1:9400", "edge-2:9400", "edge-3:9400", "origin:9401"}
    edge = load(DEPLOY / "config" / "edge.yaml", SERVICES["edge-1"]["environment"], EdgeConfig)
    origin = load(DEPLOY / "config" / "origin.yaml", {}, OriginConfig)
    assert (edge.admin.listen.port, origin.admin.listen.port) == (9400, 9401)


def test_grafana_finds_its_data_source_and_dashboards():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "starling.yaml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def unit(name: str) -> str:
    return (DEPLOY / "systemd" / name).read_text()


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(name, tmp_path):
    """With a program that exists in place of the installed one, which `verify` would miss."""
    copy = tmp_path / name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit(name), flags=re.MULTILINE))
    verify = run(tool("systemd-analyze"), "verify", "--man=no", str(copy))
    assert (verify.returncode, verify.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_the_unit_little_exposed(name, tmp_path):
    copy = tmp_path / name
    copy.write_text(unit(name))
    security = run(tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", "--no-pager", str(copy))
    assert security.returncode == 0, security.stdout + security.stderr


def test_a_unit_waits_longer_than_the_drain_takes():
    (timeout_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit("starling-edge.service"), re.MULTILINE)
    assert int(timeout_s) > 2 * EdgeConfig.__struct_defaults__[-1].grace
    assert "KillSignal=SIGTERM" in unit("starling-edge.service")
