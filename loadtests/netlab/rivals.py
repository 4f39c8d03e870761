"""The same object on the same links without us: libtorrent, with the origin as seed or as web seed."""

import contextlib
import http.client
import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from deploy.programs import ROOT, Program
from loadtests.netlab import cpu
from loadtests.netlab.laboratory import Setting, bare_goodput, make_object, network, not_the_object, settled, temporary
from loadtests.netlab.limit import void_reasons
from loadtests.netlab.links import Host
from loadtests.netlab.programs import ADMIN_PORT, ORIGIN_PORT, VIEWER_PORT, start_nginx
from loadtests.netlab.results import RivalRun
from loadtests.netlab.viewers import ask_all

PYTHON = ROOT / ".venv-rivals" / "bin" / "python"  # deploy/setup.sh rivals
SCRIPT = Path(__file__).with_name("torrent.py")


class Torrents:
    """A session on every host. `web_seed`: the origin is nginx, asked over HTTP, and seeds nothing itself."""

    def __init__(
        self, hosts: Sequence[Host], directory: Path, *, web_seed: bool, settings: Mapping[str, object]
    ) -> None:
        if not PYTHON.exists():
            raise RuntimeError("libtorrent is not installed: run deploy/setup.sh rivals")
        self.origin_host, *self.edge_hosts = hosts
        self.directory = directory
        self.media = directory / "media"
        self.media.mkdir()
        (directory / "settings.json").write_text(json.dumps(dict(settings)))
        self._web_seed = web_seed
        self._started: list[Program] = []

    def __enter__(self) -> "Torrents":
        try:
            if self._web_seed:
                start_nginx(self.origin_host, self.directory, self.media, self._started)
            everybody = [self.origin_host, *self.edge_hosts]
            for host in everybody:
                self._start(host, everybody)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for program in self._started:
            if program.process.poll() is None:
                program.kill()

    def pids(self) -> dict[str, int]:
        return {program.name: program.process.pid for program in self._started}

    def _start(self, host: Host, everybody: Sequence[Host]) -> None:
        seed = host is self.origin_host
        listen = f"127.0.0.1:{ADMIN_PORT if seed else VIEWER_PORT}"
        # As web seed the origin's own session only makes torrents: nobody connects to it, and it to nobody.
        known = [] if seed and self._web_seed else everybody[self._web_seed :]
        others = ",".join(one.address for one in known)
        url = [f"http://{self.origin_host.address}:{ORIGIN_PORT}"] if self._web_seed else []
        role = "seed" if seed else "peer"
        command = [str(PYTHON), str(SCRIPT), role, str(self.directory), host.address, listen, others, *url]
        with host.space.entered():
            Program(host.name, command, self.directory / f"{host.name}.log", on_started=self._started.append)

    def prepare(self, path: str) -> None:
        """Everybody knows the torrent, and connections stand, before anybody wants it."""
        for host in (self.origin_host, *self.edge_hosts):
            port = ADMIN_PORT if host is self.origin_host else VIEWER_PORT
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(connection):
                connection.sock = host.space.connect(port)
                connection.request("POST", path, headers={"Content-Length": "0"})
                if connection.getresponse().status != 200:
                    raise RuntimeError(f"{host.name}: {path} was not prepared")


def torrent_runs(
    setting: Setting, runs: int, *, web_seed: bool, settings: Mapping[str, object] | None = None
) -> Generator[RivalRun, None, None]:
    """Each with an object of its own, in one swarm of sessions."""
    with (
        temporary() as directory,
        network(setting, directory) as hosts,
        Torrents(hosts, directory, web_seed=web_seed, settings=settings or {}) as torrents,
    ):
        for number in range(runs):
            yield _run(setting, hosts, torrents, f"/object-{number}.bin", web_seed)


def _run(setting: Setting, hosts: Sequence[Host], torrents: Torrents, path: str, web_seed: bool) -> RivalRun:
    goodput = bare_goodput(hosts)
    sha256 = make_object(torrents.media, path, setting.size_bytes)
    torrents.prepare(path)
    settled(hosts)
    heard, busy = sum(host.heard_from_origin() for host in hosts[1:]), cpu.busy(torrents.pids())
    got = ask_all(hosts[1:], VIEWER_PORT, path, setting.patience_s())
    idle = cpu.busy(torrents.pids()).idle_since(busy)
    settled(hosts)
    from_origin = sum(host.heard_from_origin() for host in hosts[1:]) - heard
    return RivalRun(
        name="libtorrent, origin as " + ("web seed" if web_seed else "seed"),
        limit_s=setting.limit_s(max(goodput)),
        goodput=goodput,
        last_s=max(one.took_s for one in got),
        copies=from_origin / setting.size_bytes,
        idle=idle,
        wrong=not_the_object(got, sha256),
        void=tuple(void_reasons(goodput, idle, ())),
    )
