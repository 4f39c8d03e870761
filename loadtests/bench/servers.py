"""The caches under test, each warm before one origin, alone on its core. Linux, Debian's nginx and varnish."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = "video.example"
WITHIN_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PATH = "/vod/film/seg%d.m4s"  # chrome.lua fills in the number
ORIGIN_CONF = """
daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; default_type video/mp4; keepalive_requests 1000000;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen 127.0.0.1:{port}; root {directory};
    location / {{ add_header Cache-Control "max-age=86400"; try_files /body.m4s =404; }}
    location /large/ {{ add_header Cache-Control "max-age=86400"; try_files /large.m4s =404; }}
  }}
}}
"""
NGINX_CONF = """
daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 20000; }}
http {{
  access_log off; sendfile on; tcp_nopush off; tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 100000000;
  open_file_cache max=20000 inactive=1h; open_file_cache_valid 1h;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  proxy_cache_path {directory}/cache levels=1:2 keys_zone=bench:64m max_size=20g inactive=1d use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port} {tls};
    {certificate}
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_cache bench;
      add_header Access-Control-Allow-Origin "*";
    }}
  }}
}}
"""
NGINX_TLS = """ssl_certificate {directory}/certificate.pem; ssl_certificate_key {directory}/key.pem;
    ssl_protocols TLSv1.3; ssl_conf_command Options KTLS;"""


@dataclass
class Server:
    """One that serves. `pids`: the processes whose CPU time counts."""

    name: str
    port: int
    pids: list[int]
    tls: bool = False
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """CPU time used so far, user and system."""
        return sum(_cpu_s(pid) for pid in self.pids)

    def rss_bytes(self) -> int:
        return sum(_rss_bytes(pid) for pid in self.pids)

    def fetch_all(self, count: int) -> int:
        """Ask for every URL once over one connection; the bytes of all bodies. RuntimeError for anything but 200."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self.port, timeout=WITHIN_S, context=context)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
        )
        total = 0
        with contextlib.closing(connection):
            for number in range(count):
                connection.request("GET", PATH % number, headers={"Host": HOST})
                response = connection.getresponse()
                if response.status != 200:
                    raise RuntimeError(f"{self.name} answered {response.status}")
                total += len(response.read())
        return total


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """nginx's workers: its cache manager and the loader, which ends by itself, serve nobody."""
    return [child for child in children_of(pid) if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], core: int | None, **options: object) -> "Iterator[subprocess.Popen[bytes]]":
    """A child in a session of its own, on one core; it and its children are gone afterwards, and when we are."""
    pinned = (
        ["setpriv", "--pdeathsig", "TERM"] + (["taskset", "-c", str(core)] if core is not None else []) + [*command]
    )
    process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_open(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until somebody listens. RuntimeError if the process ended instead."""
    until = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} does not listen")
        select.select([], [], [], 0.05)


@contextlib.contextmanager
def origin(directory: Path, body_bytes: int, large_bytes: int = 0) -> Iterator[int]:
    """A plain HTTP server with the same body at every path, and another at every path below /large/; its port."""
    directory.mkdir()
    (directory / "body.m4s").write_bytes(os.urandom(body_bytes))
    (directory / "large.m4s").write_bytes(os.urandom(large_bytes))
    os.chmod(directory, 0o755)  # nginx reads as another user when root starts it
    port = free_port()
    (directory / "nginx.conf").write_text(ORIGIN_CONF.format(directory=directory, port=port))
    with running(["nginx", "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")], None) as process:
        wait_open(port, process)
        yield port


def make_certificate(directory: Path) -> None:
    """certificate.pem and key.pem, of the kind most sites have: ECDSA on P-256."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem")],
        check=True, capture_output=True,
    )  # fmt: skip


@contextlib.contextmanager
def nginx(directory: Path, origin_port: int, core: int, tls: Path | None = None) -> Iterator[Server]:
    directory.mkdir()
    os.chmod(directory, 0o777)  # its worker runs as another user when root starts it
    port = free_port()
    certificate = NGINX_TLS.format(directory=tls) if tls else ""
    conf = NGINX_CONF.format(
        directory=directory, port=port, origin=origin_port, tls="ssl" if tls else "", certificate=certificate
    )
    (directory / "nginx.conf").write_text(conf)
    with running(["nginx", "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")], core) as process:
        wait_open(port, process)
        yield Server("nginx", port, workers_of(process.pid), tls is not None)


@contextlib.contextmanager
def varnish(directory: Path, origin_port: int, core: int) -> Iterator[Server]:
    directory.mkdir()
    port = free_port()
    command = ["varnishd", "-F", "-n", str(directory), "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin_port}",
               "-s", "malloc,6g", "-T", "none", "-p", "timeout_idle=75"]  # fmt: skip
    with running(command, core, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_open(port, process)
        yield Server("varnish", port, [process.pid, *children_of(process.pid)])


@contextlib.contextmanager
def starling(
    directory: Path,
    origin_port: int,
    core: int | None,
    tls: Path | None = None,
    *,
    disk: bool = False,
    **viewer: object,
) -> Iterator[Server]:
    """An edge on its own, with a disk as servers have. `disk`: nothing in memory, all on disk."""
    directory.mkdir()
    listen: dict[str, object] = {"listen": "127.0.0.1:0", "connections_per_address": 20_000, **viewer}
    if tls:
        listen["tls"] = {"certificate": str(tls / "certificate.pem"), "key": str(tls / "key.pem")}
    config = {
        "node": "edge-1",
        "viewer": listen,
        "admin": {"listen": "127.0.0.1:0"},
        "origin": {"url": f"http://127.0.0.1:{origin_port}"},
        "cache": {
            "directory": str(directory / "cache"),
            "disk": "20GiB",
            "memory": 0 if disk else "6GiB",
        },
        "drain": {"grace": 0},
    }
    file = directory / "edge.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    command = [sys.executable, "-m", "edge", "--config", str(file)]
    with (
        (directory / "edge.log").open("wb") as log,
        running(command, core, stdout=subprocess.PIPE, stderr=log, cwd=ROOT) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError((directory / "edge.log").read_text())
        ready = json.loads(line)
        server = Server("starling", int(ready["viewer"].rpartition(":")[2]), [process.pid], tls is not None)
        server.notes["admin_port"] = int(ready["admin"].rpartition(":")[2])
        yield server


def empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
