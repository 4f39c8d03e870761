"""Edges that may not join, cannot be reached, or bear a name that is taken: each says so, and no viewer suffers."""

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.programs import Program, Swarm, running_swarm
from tests.deploy.panels import wait_until
from tests.integration.by_hand import get, raw, status_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]
WITHIN_S = 30.0
FILM = os.urandom(700_000)
SHA256 = hashlib.sha256(FILM).hexdigest()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Two healthy edges; what a test adds, it takes away."""
    with running_swarm(tmp_path_factory.mktemp("swarm"), ["edge-1", "edge-2"]) as programs:
        yield programs


@contextlib.contextmanager
def another_edge(programs: Swarm, node: str, config: dict[str, Any]) -> Iterator[Program]:
    edge = programs.start_edge(node, config)
    try:
        yield edge
    finally:
        edge.stop()
        del programs.edges[node]


def film(programs: Swarm, name: str) -> str:
    """A file of its own for each test: nobody has it yet."""
    (programs.media / name).write_bytes(FILM)
    return f"/{name}"


def readiness(programs: Swarm, node: str) -> tuple[int, str]:
    answer = get(programs.admin_url(node, "/readyz"))
    return answer.status, answer.body.decode()


def wait_to_be_noted(programs: Swarm, node: str, words: str) -> None:
    """Until `/readyz` says 200 with these words."""

    def noted() -> bool:
        status, text = readiness(programs, node)
        return status == 200 and words in text

    wait_until(noted, WITHIN_S, lambda: str(readiness(programs, node)))


def another_secret(directory: Path) -> str:
    path = directory / "other.secret"
    path.write_text(secrets.token_hex(32) + "\n")
    return str(path)


# --- a wrong secret


def test_an_edge_with_a_wrong_secret_serves_from_the_origin_and_says_so(programs, tmp_path):
    config = programs.edge_config("edge-3")
    config["swarm"]["secret_file"] = another_secret(tmp_path)
    first, second = film(programs, "first.bin"), film(programs, "second.bin")
    with another_edge(programs, "edge-3", config) as stranger:
        at_once = get(programs.url("edge-3", first))  # before it can know that it is refused
        assert (at_once.status, at_once.sha256) == (200, SHA256)
        wait_to_be_noted(programs, "edge-3", "note: standalone: wrong swarm secret")
        assert get(programs.url("edge-3", "/-/health")).status == 200
        assert get(programs.url("edge-3", second)).sha256 == SHA256
        metrics = programs.metrics("edge-3")
        assert metrics['starling_origin_bytes_total{reason="standalone"}'] >= len(FILM)
        assert programs.total("edge-3", "starling_origin_bytes_total") == 2 * len(FILM)
        assert metrics['starling_fetched_bytes_total{source="peer"}'] == 0
        assert metrics['starling_peers{state="refused"}'] == 1
        assert "does not know the swarm's secret" in stranger.said()
        assert "standalone" in stranger.said()
        assert {peer["node"] for peer in programs.status("edge-1")["peers"]} == {"edge-2"}
        assert "edge-3" not in {row["node"] for row in members(programs)}
        assert 'edge="edge-3"' not in "".join(programs.metrics("origin"))


def members(programs: Swarm) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = programs.status("origin")["members"]
    return rows


def test_an_edge_whose_secret_was_changed_is_refused_by_all_it_knew(programs, tmp_path):
    """Its view on disk still names the others: they, too, refuse it, and viewers get their bytes all the same."""
    with another_edge(programs, "edge-3", programs.edge_config("edge-3")):
        programs.wait_joined(WITHIN_S)
    config = programs.edge_config("edge-3")
    config["swarm"]["secret_file"] = another_secret(tmp_path)
    path = film(programs, "changed.bin")
    with another_edge(programs, "edge-3", config):
        assert get(programs.url("edge-3", path)).sha256 == SHA256
        wait_to_be_noted(programs, "edge-3", "note: standalone: wrong swarm secret")
        assert programs.total("edge-3", "starling_origin_bytes_total") == len(FILM)


def test_nobody_answers_a_question_without_the_secret(programs):
    peer_port = programs.edges["edge-1"].ready["peer"]
    for address, path in ((peer_port, "ask"), (programs.origin_address, "announce")):
        head = f"POST /-/swarm/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n"
        for session in ("", "Starling-Session: 00.1.00\r\n", "Starling-Session: nonsense\r\n"):
            answer = raw(address, f"{head}{session}\r\n".encode() + b"\x80")
            assert status_of(answer) in (400, 401)


# --- an address that nobody reaches


def test_an_edge_whose_address_nobody_reaches_is_a_ready_leaf(programs):
    path = film(programs, "leaf.bin")
    before = sum(programs.total(node, "starling_origin_bytes_total") for node in programs.edges)
    with unused_port() as port:
        config = programs.edge_config("edge-3")
        config["peer"]["advertise"] = f"http://127.0.0.1:{port}"
        with another_edge(programs, "edge-3", config) as leaf:
            wait_to_be_noted(programs, "edge-3", f"note: leaf: not reached at http://127.0.0.1:{port}")
            assert programs.status("edge-3")["state"] == "leaf"
            assert f"not reached at http://127.0.0.1:{port}" in leaf.said()
            for node in ("edge-3", "edge-1", "edge-2"):
                assert get(programs.url(node, path)).sha256 == SHA256
            metrics = programs.metrics("edge-3")
            assert metrics['starling_fetched_bytes_total{source="peer"}'] == len(FILM)
            assert metrics['starling_fetched_bytes_total{source="origin"}'] == 0
            after = sum(programs.total(node, "starling_origin_bytes_total") for node in programs.edges)
            assert after - before == len(FILM)


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """Bound, so that nobody else gets it, and not listened at: connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# --- names


def start_second(programs: Swarm, directory: Path, *, with_key_of: Path | None = None) -> Program:
    """A second edge named edge-1, with a directory of its own."""
    config = programs.edge_config("edge-1")
    config["cache"]["directory"] = str(directory / "cache")
    (directory / "cache").mkdir(parents=True)
    if with_key_of is not None:
        shutil.copy(with_key_of / "node.key", directory / "cache")
    file = directory / "edge.yaml"
    file.write_text(yaml.safe_dump(config))
    return Program("second edge-1", [sys.executable, "-m", "edge", "--config", str(file)], directory / "log")


def test_the_later_of_two_edges_under_one_name_exits_and_names_both_addresses(programs, tmp_path):
    """With a key of its own, and with a copy of the first one's."""
    first_address = programs.edges["edge-1"].ready["peer"]
    with contextlib.ExitStack() as started:
        stranger = start_second(programs, tmp_path / "stranger")
        started.callback(stranger.stop)
        copy = start_second(programs, tmp_path / "copy", with_key_of=programs.directory / "edge-1")
        started.callback(copy.stop)
        for second in (stranger, copy):
            assert second.process.wait(WITHIN_S) == 2
            last = second.said().splitlines()[-1]
            assert last.startswith("starling-edge: node name 'edge-1' is taken: ")
            assert first_address in last
            assert second.ready["peer"] in last
            assert "Traceback" not in second.said()
    programs.wait_joined()  # the first goes on as if nothing had been
    assert get(programs.url("edge-1", film(programs, "taken.bin"))).sha256 == SHA256


def test_an_edge_that_was_killed_may_come_back_at_once(tmp_path):
    """With its key at its address or at another, or at its address with a new key, its directory emptied."""
    with running_swarm(tmp_path, ["edge-1", "same", "moved", "emptied"]) as programs:
        path = film(programs, "film.bin")
        assert {get(programs.url(node, path)).sha256 for node in programs.edges} == {SHA256}
        for node in ("same", "moved", "emptied"):
            programs.edges[node].kill()
        shutil.rmtree(programs.directory / "emptied")
        for node in ("same", "moved", "emptied"):
            config = programs.edge_config(node)
            if node != "moved":
                config["peer"]["listen"] = programs.edges[node].ready["peer"]
            programs.start_edge(node, config)
        programs.wait_joined(WITHIN_S)
        assert {get(programs.url(node, path)).sha256 for node in programs.edges} == {SHA256}
        addresses = {peer["node"]: peer["address"] for peer in programs.status("edge-1")["peers"]}
        assert addresses == {node: f"http://{programs.edges[node].ready['peer']}" for node in addresses}
        assert all(edge.process.poll() is None for edge in programs.edges.values())
