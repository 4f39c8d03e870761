"""The programs on the hosts: an origin, ours or nginx, and an edge on each other host, configured as operators would.

Ports are the usual ones: every host has its own network.
"""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.programs import ROOT, Program
from loadtests.netlab.links import Host

ORIGIN_PORT, TRACKER_PORT, VIEWER_PORT, PEER_PORT, ADMIN_PORT = 8000, 8001, 8080, 7400, 9400
JOINED_WITHIN_S = 30.0
STARTED_WITHIN_S = 20.0
NGINX_CONF = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.error.log; user root;
events {{ worker_connections 4096; }}
http {{
  log_format bytes '$request_uri $status $body_bytes_sent';
  access_log {directory}/nginx.access.log bytes;
  sendfile on; tcp_nopush on; keepalive_timeout 75s;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen {address}:{port}; root {media};
    add_header Cache-Control "max-age=86400";
  }}
}}
"""


@dataclass(frozen=True)
class Plan:
    """Which programs run, and what they are told. `capacities`: of the links, in `swarm.capacity` and the like."""

    foreign: bool = False  # nginx as origin, trust: attested; else ours, signed
    capacities: bool = True
    topology: str = "hybrid"
    superpeers: int = 0
    swarm: bool = True  # else every edge stands alone
    memory: str = "512MiB"
    late: int = 0  # so many edges, the last, are not started with the others


class Programs:
    """All of them, for the length of a `with`. `hosts[0]` is the origin's."""

    def __init__(self, hosts: Sequence[Host], directory: Path, plan: Plan) -> None:
        self.origin_host, *self.edge_hosts = hosts
        self.directory = directory
        self.plan = plan
        self.media = directory / "media"
        self.media.mkdir()
        self.origin: Program | None = None
        self.edges: dict[str, Program] = {}
        self._started: list[Program] = []

    def __enter__(self) -> "Programs":
        try:
            self._make_keys()
            self._start_origin()
            for host in self.edge_hosts[: len(self.edge_hosts) - self.plan.late]:
                self.start_edge(host)
            if self.plan.swarm:
                self.wait_joined()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """At once: what they have is not needed any more."""
        for program in self._started:
            if program.process.poll() is None:
                program.kill()

    def pids(self) -> dict[str, int]:
        """Process id by name, ours too: for CPU time, or to look into a host (`nsenter --net --target PID`)."""
        return {program.name: program.process.pid for program in self._started} | {"netlab": os.getpid()}

    def lives(self, host: Host) -> bool:
        return host.name in self.edges and self.edges[host.name].process.poll() is None

    def kill(self, host: Host) -> None:
        """`kill -9` of its edge."""
        self.edges[host.name].kill()

    def leave(self, host: Host) -> None:
        """Its edge takes its leave, as on SIGTERM."""
        self.edges[host.name].stop()

    def empty(self, host: Host) -> None:
        """What its edge, which has ended, had cached is lost; its key and its last view are not."""
        for entry in (self.directory / host.name).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)

    def stop_for_now(self, host: Host) -> None:
        self.edges[host.name].process.send_signal(signal.SIGSTOP)

    def go_on(self, host: Host) -> None:
        self.edges[host.name].process.send_signal(signal.SIGCONT)

    def _make_keys(self) -> None:
        command = [sys.executable, "-m", "origin", "keys", str(self.directory / "keys")]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

    @property
    def _secret(self) -> str:
        return str(self.directory / "keys" / "swarm.secret")

    @property
    def _tracker_url(self) -> str:
        return f"http://{self.origin_host.address}:{TRACKER_PORT if self.plan.foreign else ORIGIN_PORT}"

    def _start_origin(self) -> None:
        host = self.origin_host
        swarm: dict[str, object] = {"secret_file": self._secret}
        config: dict[str, object] = {
            "admin": {"listen": f"127.0.0.1:{ADMIN_PORT}"},
            "state": str(self.directory / "origin-state"),
            "swarm": swarm,
        }
        if self.plan.foreign:
            start_nginx(host, self.directory, self.media, self._started)
            config["listen"] = f"{host.address}:{TRACKER_PORT}"
        else:
            config |= {
                "listen": f"{host.address}:{ORIGIN_PORT}",
                "media": str(self.media),
                "signing_key_file": str(self.directory / "keys" / "signing.key"),
            }
            if self.plan.capacities:
                swarm["capacity"] = rate(host.link.up_bps)
        self.origin = self._start(host, "origin", "origin", config)

    def start_edge(self, host: Host) -> Program:
        """The edge on that host; started anew if it has ended, with what it left on disk."""
        config = self._edge_config(self.edge_hosts.index(host))
        self.edges[host.name] = self._start(host, host.name, "edge", config)
        return self.edges[host.name]

    def living(self) -> list[Host]:
        """The hosts whose edges run."""
        return [host for host in self.edge_hosts if self.lives(host)]

    def _edge_config(self, number: int) -> dict[str, object]:
        host, plan = self.edge_hosts[number], self.plan
        origin: dict[str, object] = {"url": f"http://{self.origin_host.address}:{ORIGIN_PORT}"}
        if plan.foreign:
            origin["trust"] = "attested"
            if plan.capacities:
                origin["capacity"] = rate(self.origin_host.link.up_bps)
        else:
            origin |= {"trust": "signed", "public_key_file": str(self.directory / "keys" / "signing.pub")}
        config: dict[str, object] = {
            "node": host.name,
            "viewer": {"listen": f"127.0.0.1:{VIEWER_PORT}"},
            "peer": {"listen": f"{host.address}:{PEER_PORT}"},
            "admin": {"listen": f"127.0.0.1:{ADMIN_PORT}"},
            "origin": origin,
            "cache": {"directory": str(self.directory / host.name), "memory": plan.memory, "disk": "8GiB"},
            "drain": {"grace": "0"},
        }
        if plan.swarm:
            config["swarm"] = self._swarm_config(number)
        return config

    def _swarm_config(self, number: int) -> dict[str, object]:
        host, plan = self.edge_hosts[number], self.plan
        swarm: dict[str, object] = {"topology": plan.topology, "secret_file": self._secret}
        if plan.topology == "pure":
            swarm["seeds"] = [f"{host.address}:{PEER_PORT}" for host in self.edge_hosts[:2]]
        else:
            swarm["tracker"] = self._tracker_url
        if plan.topology == "superpeer" and number < plan.superpeers:
            swarm["role"] = "superpeer"
        if plan.capacities:
            swarm["capacity"] = rate(host.link.up_bps)
        return swarm

    def _start(self, host: Host, name: str, module: str, config: Mapping[str, object]) -> Program:
        file = self.directory / f"{name}.yaml"
        file.write_text(yaml.safe_dump(dict(config)))
        command = [sys.executable, "-m", module, "--config", str(file)]
        with host.space.entered():
            return Program(name, command, self.directory / f"{name}.log", on_started=self._started.append)

    def wait_joined(self) -> None:
        """Until every living edge carries weight and sees whom it should. TimeoutError says who does not."""
        _wait(lambda: not self._not_joined(), JOINED_WITHIN_S, lambda: f"not joined: {self._not_joined()}")

    def _not_joined(self) -> dict[str, str]:
        waiting = {}
        for host in self.living():
            status = self.status(host)
            alive = {peer["node"] for peer in status["peers"] if peer["state"] == "alive"}
            if status["state"] != "alive" or alive != self._must_see(host):
                waiting[host.name] = f"{status['state']}, sees {sorted(alive)}, {status['troubles']}"
        return waiting

    def _must_see(self, host: Host) -> set[str]:
        """All the others; in the superpeer topology a leaf knows the superpeers alone."""
        superpeers = self.edge_hosts[: self.plan.superpeers]
        leaf = self.plan.topology == "superpeer" and host not in superpeers
        return {other.name for other in self.living() if other is not host and not (leaf and other not in superpeers)}

    def status(self, host: Host) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(admin(host, "/status"))
        return status

    def metrics(self, host: Host) -> dict[str, float]:
        """Every sample by its name with labels as exposed."""
        lines = admin(host, "/metrics").decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def origin_log(self) -> list[tuple[str, int]]:
        """Path and body bytes of each request that nginx answered."""
        file = self.directory / "nginx.access.log"
        lines = (line.split() for line in file.read_text().splitlines()) if file.exists() else ()
        return [(uri, int(sent)) for uri, _, sent in lines]


def start_nginx(host: Host, directory: Path, media: Path, started: list[Program]) -> None:
    """nginx before a directory, as origin."""
    conf = directory / "nginx.conf"
    conf.write_text(NGINX_CONF.format(directory=directory, address=host.address, port=ORIGIN_PORT, media=media))
    command = ["nginx", "-c", str(conf), "-e", str(directory / "nginx.error.log")]
    with host.space.entered():
        program = Program("nginx", command, directory / "nginx.log", waits=False, on_started=started.append)
    _wait(lambda: _listens(host, program), STARTED_WITHIN_S, "nginx does not listen")


def rate(bps: int) -> str:
    """As configurations write it."""
    return f"{bps / 1000:.0f}kbit"


def total(samples: Mapping[str, float], metric: str) -> int:
    """A metric summed over its labels."""
    return round(sum(v for name, v in samples.items() if name == metric or name.startswith(metric + "{")))


def by_label(samples: Mapping[str, float], metric: str) -> dict[str, int]:
    """A metric with one label, by its value."""
    return {name.split('"')[1]: round(value) for name, value in samples.items() if name.startswith(metric + "{")}


def admin(host: Host, path: str) -> bytes:
    """What the program on that host answers at its admin port. RuntimeError unless it is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=10)
    with contextlib.closing(connection):
        connection.sock = host.space.connect(ADMIN_PORT)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{host.name}{path}: {answer.status}")
    return body


def _listens(host: Host, program: Program) -> bool:
    if program.process.poll() is not None:
        raise RuntimeError(f"{program.name} ended: {program.said()}")
    with contextlib.suppress(ConnectionRefusedError), host.space.connect(ORIGIN_PORT, host.address):
        return True
    return False


def _wait(fact: Callable[[], bool], within_s: float, otherwise: str | Callable[[], str]) -> None:
    until = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > until:
            raise TimeoutError(otherwise if isinstance(otherwise, str) else otherwise())
        select.select([], [], [], 0.05)
