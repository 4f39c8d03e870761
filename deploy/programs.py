"""Real programs on loopback: an origin and edges as child processes, on free ports, gone when their parent is.

Knows the programs only by their command lines, configuration keys and ready lines (docs/design.md, section 8).
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 20.0
STOP_WITHIN_S = 40.0
SUPERPEERS = 2  # of a superpeer swarm: the first edges to be configured
PR_SET_PDEATHSIG = 1
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what asks a program to end


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """What asks us to end waits until the block is over: by then whoever owns a child just started knows of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with_parent() -> None:
    """In the child, before it runs: in a session of its own, so that Ctrl-C reaches only its parent, who ends it in
    order; a parent killed outright takes its children along (Linux)."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    os.setsid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_to_end(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """What it said and its exit code. Killed if we are asked to end meanwhile."""
    process: subprocess.Popen[str] | None = None
    try:
        with undisturbed():
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
        out, err = process.communicate()
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class Program:
    """One child process. Its stderr goes to a file; if it prints a ready line, `ready` holds it."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        waits: bool = True,
        on_started: Callable[["Program"], None] = lambda program: None,
    ) -> None:
        """`on_started` is called before anything can interrupt: whoever ends the programs should learn of it there."""
        self.name = name
        self.log = log
        self.ready: dict[str, Any] = {}
        self._err: IO[bytes] = log.open("ab")
        with undisturbed():
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if waits else self._err,
                stderr=self._err,
                preexec_fn=die_with_parent,
            )
            on_started(self)
        if waits:
            try:
                self.ready = self._read_ready()
            except BaseException:
                self.kill()
                raise

    def __repr__(self) -> str:
        return f"<Program {self.name} pid {self.process.pid}>"

    def _read_ready(self) -> dict[str, Any]:
        """RuntimeError, with what the program said, if it ends or says nothing in time."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_WITHIN_S)
        line = self.process.stdout.readline() if readable else b""
        if not line:
            raise RuntimeError(f"{self.name} did not start: {self.said().strip() or 'no word'}")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def said(self) -> str:
        """Everything on its stderr so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self._reap()

    def stop(self, within_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM; the exit code. Killed if it does not end in time."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._err.close()
        return code


class Swarm:
    """An origin (with tracker) and edges under one directory. In `pure` each edge has those before it as its seeds."""

    def __init__(self, directory: Path, *, swarm: bool = True, topology: str = "hybrid") -> None:
        self.directory = directory
        self.swarm = swarm
        self.topology = topology
        self.superpeers: list[str] = []
        self.origin: Program | None = None
        self.edges: dict[str, Program] = {}
        self._started: list[Program] = []  # all there ever were, also those that never became ready
        self.media = directory / "media"
        self.keys = directory / "keys"
        self.media.mkdir(parents=True, exist_ok=True)
        made = run_to_end([sys.executable, "-m", "origin", "keys", str(self.keys)])
        if made.returncode:
            raise RuntimeError(f"no keys: {made.stderr.strip()}")

    def start_origin(self, listen: str = "127.0.0.1:0", **more: object) -> Program:
        """More keys override: `start_origin(media=None)`."""
        config: dict[str, object] = {
            "listen": listen,
            "admin": {"listen": "127.0.0.1:0"},
            "media": str(self.media),
            "ingest": True,
            "state": str(self.directory / "origin-state"),
            "signing_key_file": str(self.keys / "signing.key"),
            "swarm": {"secret_file": str(self.keys / "swarm.secret")},
        }
        self.origin = self._start("origin", "origin", config | more)
        return self.origin

    def edge_config(self, node: str) -> dict[str, Any]:
        """The configuration of an edge that joins the origin now running."""
        url = f"http://{self.origin_address}"
        config: dict[str, Any] = {
            "node": node,
            "viewer": {"listen": "127.0.0.1:0"},
            "peer": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "origin": {"url": url, "trust": "signed", "public_key_file": str(self.keys / "signing.pub")},
            "cache": {"directory": str(self.directory / node), "memory": "256MiB", "disk": "4GiB"},
            "drain": {"grace": "200ms"},
        }
        if self.swarm:
            config["swarm"] = {"topology": self.topology, "secret_file": str(self.keys / "swarm.secret")}
            if self.topology == "pure":
                config["swarm"]["seeds"] = self.seeds()
            else:
                config["swarm"]["tracker"] = url
        if self.topology == "superpeer":
            if len(self.superpeers) < SUPERPEERS and node not in self.superpeers:
                self.superpeers.append(node)
            config["swarm"]["role"] = "superpeer" if node in self.superpeers else "edge"
        return config

    def seeds(self) -> list[str]:
        """Where the edges that run can be asked."""
        return [str(edge.ready["peer"]) for edge in self.edges.values() if edge.process.poll() is None]

    @property
    def origin_address(self) -> str:
        """RuntimeError before the origin has started."""
        if self.origin is None:
            raise RuntimeError("the origin has not been started")
        return str(self.origin.ready["listen"])

    def start_tracker(self, listen: str = "127.0.0.1:0") -> Program:
        """A tracker by itself, beside the origin's own: for edges that are told to use it."""
        config = {
            "listen": listen,
            "admin": {"listen": "127.0.0.1:0"},
            "swarm": {"secret_file": str(self.keys / "swarm.secret")},
        }
        return self._start("tracker", "origin", config)

    def start_edge(self, node: str, config: Mapping[str, Any] | None = None) -> Program:
        """Started, not yet joined: see `wait_joined`."""
        self.edges[node] = self._start(node, "edge", config or self.edge_config(node))
        return self.edges[node]

    def _start(self, name: str, module: str, config: Mapping[str, object]) -> Program:
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(config)))
        command = [sys.executable, "-m", module, "--config", str(path)]
        return Program(name, command, self.directory / f"{name}.log", on_started=self._started.append)

    def wait_joined(self, within_s: float = 15.0) -> None:
        """Until every edge (or every superpeer) carries weight, and every edge sees them. TimeoutError says who does
        not."""
        until = time.monotonic() + within_s
        weighty = set(self.superpeers or self.edges)
        waiting = dict.fromkeys(self.edges, "")
        while waiting:
            for node in list(waiting):
                status = self.status(node)
                alive = [peer["node"] for peer in status["peers"] if peer["state"] == "alive"]
                expected = "alive" if node in weighty else "leaf"
                if status["state"] == expected and set(alive) >= weighty - {node}:
                    del waiting[node]
                else:
                    waiting[node] = f"{status['state']}, sees {alive}, {status['troubles']}"
            if waiting and time.monotonic() > until:
                raise TimeoutError(f"not joined after {within_s} s: {waiting}")
            if waiting:
                select.select([], [], [], 0.05)

    def url(self, node: str, path: str = "") -> str:
        return f"http://{self.edges[node].ready['viewer']}{path}"

    def admin_url(self, node: str, path: str = "") -> str:
        """Of an edge, or of "origin"."""
        program = self.origin if node == "origin" else self.edges[node]
        assert program is not None
        return f"http://{program.ready['admin']}{path}"

    def status(self, node: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.admin_url(node, "/status"), timeout=5) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def metrics(self, node: str) -> dict[str, float]:
        """Every sample of `/metrics`, by its name with labels as exposed."""
        with urllib.request.urlopen(self.admin_url(node, "/metrics"), timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def total(self, node: str, metric: str) -> float:
        """A metric summed over its labels, e.g. `starling_origin_bytes_total`."""
        return sum(v for name, v in self.metrics(node).items() if name == metric or name.startswith(metric + "{"))

    def stop(self) -> dict[str, int]:
        """All of them, edges first and together; exit codes by name."""
        for edge in self.edges.values():
            if edge.process.poll() is None:
                edge.process.terminate()
        codes = {node: edge.stop() for node, edge in self.edges.items()}
        if self.origin is not None:
            codes["origin"] = self.origin.stop()
        for program in self._started:
            if program.process.poll() is None:
                program.kill()
        return codes


@contextlib.contextmanager
def running_swarm(
    directory: Path, nodes: list[str], *, swarm: bool = True, topology: str = "hybrid"
) -> Iterator[Swarm]:
    """An origin and edges, joined, for the length of a `with`."""
    programs = Swarm(directory, swarm=swarm, topology=topology)
    try:
        programs.start_origin()
        for node in nodes:
            programs.start_edge(node)
        if swarm:
            programs.wait_joined()
        yield programs
    finally:
        programs.stop()
