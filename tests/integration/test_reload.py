"""SIGHUP at a real edge: a new configuration under way, with the cache and the connections kept."""

import http.client
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.programs import ROOT
from tests.integration.alone import Alone, alone_config, running_alone
from tests.integration.by_hand import get
from tests.integration.plain_origin import PlainOrigin, Stored, plain_origin

pytestmark = pytest.mark.processes

FRESH = {"Cache-Control": "max-age=600", "ETag": '"one"'}
PATHS = {f"/{number}.m4s": Stored(bytes([number]) * (1 << 20), FRESH) for number in range(8)}


@pytest.fixture
def origin() -> Iterator[PlainOrigin]:
    with plain_origin(PATHS) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, origin: PlainOrigin) -> dict[str, Any]:
    return alone_config(tmp_path, origin.url)


@pytest.fixture
def edge(tmp_path: Path, config: dict[str, Any]) -> Iterator[Alone]:
    with running_alone(tmp_path, config) as running:
        yield running


def reload(edge: Alone, config: dict[str, Any] | None = None, says: str = "configuration reloaded") -> str:
    """SIGHUP with this configuration; what the log says of it, once it does."""
    if config is not None:
        edge.write(config)
    before = len(edge.program.said())
    edge.program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: says in edge.program.said()[before:])
    return edge.program.said()[before:]


def wait_for(fact: Callable[[], bool], within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_cache_and_the_connections_outlive_a_reload(edge: Alone, config: dict[str, Any], origin: PlainOrigin):
    host, _, port = edge.program.ready["viewer"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)

    def get_it() -> object:
        connection.request("GET", "/1.m4s")
        answer = connection.getresponse()
        assert (answer.read(), answer.will_close) == (PATHS["/1.m4s"].body, False)
        return connection.sock

    before = get_it()
    said = reload(edge, config | {"drain": {"grace": "10ms"}, "node": "other", "zone": "z"})
    assert "changed=drain.grace" in said
    wait_for(lambda: "needs a restart, and is as before: node, zone" in edge.program.said())
    assert get_it() is before
    connection.close()
    assert len(origin.asked) == 1
    assert "changed=nothing" in reload(edge)  # though what needs a restart still does


def test_a_wrong_file_changes_nothing_and_is_one_line(edge: Alone, config: dict[str, Any], tmp_path: Path):
    get(edge.url("/1.m4s"))
    wrong: list[tuple[dict[str, Any], str]] = [
        (config | {"drian": {}}, "unknown key 'drian' (did you mean 'drain'?)"),
        (config | {"log": {"access": "/none/log"}}, "log.access /none/log: no such directory"),
        (
            config | {"origin": config["origin"] | {"tokens": {"keys_file": str(tmp_path / "none")}}},
            f"origin.tokens.keys_file {tmp_path / 'none'}: No such file or directory",
        ),
    ]
    for new, line in wrong:
        said = reload(edge, new | {"cache": config["cache"] | {"ignore_query": ["x"]}}, "not reloaded")
        (told,) = said.splitlines()
        assert "ERROR" in told
        assert told.endswith(line)
        assert "miss" in get(edge.url(f"/1.m4s?x={len(line)}")).cache_status


def test_tokens_come_into_force_change_and_go(edge: Alone, config: dict[str, Any], tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("a hmac-sha256 00112233445566778899aabbccddeeff\n")
    command = ["token", "--keys", str(keys), "--prefix", "/", "--expires", "1h"]
    for _ in range(2):
        assert get(edge.url("/1.m4s")).status == 200
    origin = config["origin"] | {"tokens": {"keys_file": str(keys)}}
    assert "changed=origin.tokens" in reload(edge, config | {"origin": origin})
    wait_for(lambda: get(edge.url("/1.m4s")).status == 403)
    token = edge_command(command)
    assert "hit" in get(edge.url(f"/1.m4s?{token}")).cache_status
    keys.write_text("b hmac-sha256 ffeeddccbbaa99887766554433221100\n")
    reload(edge)  # the same configuration: the file under the same name is another
    assert get(edge.url(f"/1.m4s?{token}")).status == 403
    assert get(edge.url(f"/1.m4s?{edge_command(command)}")).status == 200
    reload(edge, config)
    assert get(edge.url("/1.m4s")).status == 200


def edge_command(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "edge", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_a_smaller_memory_drops_what_does_not_fit(edge: Alone, config: dict[str, Any]):
    for path in PATHS:
        get(edge.url(path))
    assert edge.metrics()['starling_cache_bytes{tier="memory"}'] == 8 << 20
    reload(edge, config | {"cache": config["cache"] | {"memory": "3MiB"}})
    assert edge.metrics()['starling_cache_bytes{tier="memory"}'] <= 3 << 20
    assert edge.metrics()['starling_cache_limit_bytes{tier="memory"}'] == 3 << 20
    for path, stored in PATHS.items():
        assert get(edge.url(path)).body[:100] == stored.body[:100]
    assert edge.metrics()['starling_cache_bytes{tier="memory"}'] <= 3 << 20


def test_another_origin_is_asked_from_then_on(edge: Alone, config: dict[str, Any]):
    get(edge.url("/1.m4s"))
    with plain_origin({"/2.m4s": Stored(b"elsewhere", FRESH)}) as other:
        reload(edge, config | {"origin": {"url": other.url}})
        assert get(edge.url("/2.m4s")).body == b"elsewhere"
        assert "hit" in get(edge.url("/1.m4s")).cache_status


def test_an_access_log_can_be_turned_on_and_rotated(edge: Alone, config: dict[str, Any], tmp_path: Path):
    path = tmp_path / "access.log"
    get(edge.url("/1.m4s"))
    reload(edge, config | {"log": {"access": str(path)}})
    for _ in range(3):
        get(edge.url("/1.m4s"))
    wait_for(lambda: path.exists() and path.read_text().count("\n") == 3)
    path.rename(tmp_path / "access.log.1")
    reload(edge)
    get(edge.url("/1.m4s"))
    wait_for(lambda: path.exists() and path.read_text().count("\n") == 1)
    assert (tmp_path / "access.log.1").read_text().count("\n") == 3


def test_new_connections_get_the_new_certificate(tmp_path: Path, origin: PlainOrigin):
    made = [certificate(tmp_path, name) for name in ("one", "two")]
    place = tmp_path / "live.pem", tmp_path / "live.key"

    def install(which: int) -> None:
        for source, target in zip(made[which], place, strict=True):
            target.write_bytes(source.read_bytes())

    install(0)
    config = alone_config(tmp_path, origin.url)
    config["viewer"]["tls"] = {"certificate": str(place[0]), "key": str(place[1])}
    with running_alone(tmp_path, config) as edge:
        assert shown(edge) == made[0][0].read_text()
        install(1)
        reload(edge)
        assert shown(edge) == made[1][0].read_text()
        place[0].write_text("nonsense")
        assert "viewer.tls" in reload(edge, says="not reloaded")
        assert shown(edge) == made[1][0].read_text()


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed one and its key, as PEM."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", f"/CN={name}", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def shown(edge: Alone) -> str:
    """The certificate that a new connection is shown."""
    host, _, port = edge.program.ready["viewer"].rpartition(":")
    return ssl.get_server_certificate((host, int(port)))
