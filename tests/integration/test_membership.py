"""Edges that may not join, cannot be reached, or bear a name that is taken: each says so, and no viewer suffers."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.programs import Program, Swarm, running_swarm
from tests.deploy.panels import wait_until
from tests.integration.by_hand import get, raw, status_of

pytestmark = pytest.mark.processes
WITHIN_S = 30.0
FILM = os.urandom(700_000)


@contextlib.contextmanager
def swarm_with_a_film(directory: Path, nodes: list[str]) -> Iterator[Swarm]:
    with running_swarm(directory, nodes) as programs:
        (programs.media / "film.bin").write_bytes(FILM)
        yield programs


def readiness(programs: Swarm, node: str) -> tuple[int, str]:
    answer = get(programs.admin_url(node, "/readyz"))
    return answer.status, answer.body.decode()


def wait_to_be_noted(programs: Swarm, node: str, words: str) -> None:
    """Until `/readyz` says 200 with these words."""

    def noted() -> bool:
        status, text = readiness(programs, node)
        return status == 200 and words in text

    wait_until(noted, WITHIN_S, lambda: str(readiness(programs, node)))


def wait_alive(programs: Swarm, node: str, of: str) -> None:
    """Until edge `of` sees `node` carry weight."""

    def alive() -> bool:
        return (node, "alive") in {(peer["node"], peer["state"]) for peer in programs.status(of)["peers"]}

    wait_until(alive, WITHIN_S, lambda: f"{of} sees {programs.status(of)['peers']}")


def another_secret(directory: Path) -> str:
    path = directory / "other.secret"
    path.write_text(secrets.token_hex(32) + "\n")
    return str(path)


# --- a wrong secret


def test_an_edge_with_a_wrong_secret_serves_from_the_origin_and_says_so(tmp_path):
    with swarm_with_a_film(tmp_path, ["edge-1", "edge-2"]) as programs:
        config = programs.edge_config("edge-3")
        config["swarm"]["secret_file"] = another_secret(tmp_path)
        stranger = programs.start_edge("edge-3", config)
        at_once = get(programs.url("edge-3", "/film.bin"))  # before it can know that it is refused
        assert (at_once.status, at_once.body) == (200, FILM[: len(at_once.body)])
        assert at_once.size == len(FILM)
        wait_to_be_noted(programs, "edge-3", "note: standalone: wrong swarm secret")
        assert get(programs.url("edge-3", "/-/health")).status == 200

        (programs.media / "second.bin").write_bytes(FILM)
        assert get(programs.url("edge-3", "/second.bin")).body == FILM[: 1 << 18]
        metrics = programs.metrics("edge-3")
        assert metrics['starling_origin_bytes_total{reason="standalone"}'] >= len(FILM)
        assert metrics['starling_fetched_bytes_total{source="peer"}'] == 0
        assert metrics['starling_peers{state="refused"}'] == 1
        assert "wrong swarm secret" in stranger.said() or "secret" in stranger.said()
        assert {peer["node"] for peer in programs.status("edge-1")["peers"]} == {"edge-2"}
        assert programs.origin is not None
        assert "edge-3" not in {row["node"] for row in members(programs)}
        assert '{edge="edge-3"' not in "".join(programs.metrics("origin"))


def members(programs: Swarm) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = programs.status("origin")["members"]
    return rows


def test_an_edge_whose_secret_was_changed_is_refused_by_all_it_knew(tmp_path):
    """Its view on disk still names the others: they, too, refuse it, and viewers get their bytes all the same."""
    with swarm_with_a_film(tmp_path, ["edge-1", "edge-2", "edge-3"]) as programs:
        assert programs.edges["edge-3"].stop() == 0
        config = programs.edge_config("edge-3")
        config["swarm"]["secret_file"] = another_secret(tmp_path)
        programs.start_edge("edge-3", config)
        at_once = get(programs.url("edge-3", "/film.bin"))
        assert (at_once.status, at_once.size) == (200, len(FILM))
        wait_to_be_noted(programs, "edge-3", "note: standalone: wrong swarm secret")
        assert programs.total("edge-3", "starling_origin_bytes_total") == len(FILM)


def test_nobody_answers_a_question_without_the_secret(tmp_path):
    with swarm_with_a_film(tmp_path, ["edge-1"]) as programs:
        peer_port = programs.edges["edge-1"].ready["peer"]
        for address, path in ((peer_port, "ask"), (programs.origin_address, "announce")):
            head = f"POST /-/swarm/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n"
            for session in ("", "Starling-Session: 00.1.00\r\n", "Starling-Session: nonsense\r\n"):
                answer = raw(address, f"{head}{session}\r\n".encode() + b"\x80")
                assert status_of(answer) in (400, 401)
                assert FILM[:100] not in answer


# --- an address that nobody reaches


def test_an_edge_whose_address_nobody_reaches_is_a_ready_leaf(tmp_path):
    with swarm_with_a_film(tmp_path, ["edge-1", "edge-2"]) as programs, unused_port() as port:
        address = f"http://127.0.0.1:{port}"
        config = programs.edge_config("edge-3")
        config["peer"]["advertise"] = address
        leaf = programs.start_edge("edge-3", config)
        wait_to_be_noted(programs, "edge-3", f"note: leaf: not reached at {address}")
        assert programs.status("edge-3")["state"] == "leaf"
        assert f"not reached at {address}" in leaf.said()
        for node in ("edge-3", "edge-1", "edge-2"):
            answer = get(programs.url(node, "/film.bin"))
            assert (answer.status, answer.size) == (200, len(FILM))
        metrics = programs.metrics("edge-3")
        assert metrics['starling_fetched_bytes_total{source="peer"}'] == len(FILM)
        assert metrics['starling_fetched_bytes_total{source="origin"}'] == 0
        assert sum(programs.total(node, "starling_origin_bytes_total") for node in programs.edges) == len(FILM)


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """Bound, so that nobody else gets it, and not listened at: connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# --- names


def start_second(programs: Swarm, directory: Path, *, with_key_of: Path | None = None) -> Program:
    """A second edge named edge-1, with a directory of its own."""
    second = Swarm.__new__(Swarm)
    second.__dict__.update(programs.__dict__, directory=directory, edges={})
    directory.mkdir()
    if with_key_of is not None:
        (directory / "edge-1").mkdir()
        shutil.copy(with_key_of / "node.key", directory / "edge-1")
    return second.start_edge("edge-1")


@pytest.mark.parametrize("copies_key", [False, True])
def test_the_later_of_two_edges_under_one_name_exits_and_names_both_addresses(copies_key, tmp_path):
    with swarm_with_a_film(tmp_path / "first", ["edge-1", "edge-2"]) as programs:
        first_address = programs.edges["edge-1"].ready["peer"]
        key_of = programs.directory / "edge-1" if copies_key else None
        second = start_second(programs, tmp_path / "second", with_key_of=key_of)
        try:
            assert second.process.wait(WITHIN_S) == 2
        finally:
            second.stop()
        last = second.said().splitlines()[-1]
        assert last.startswith("starling-edge: ")
        assert "edge-1" in last
        assert first_address in last
        assert second.ready["peer"] in last
        assert "Traceback" not in second.said()
        programs.wait_joined()  # the first goes on as if nothing had been
        assert get(programs.url("edge-1", "/film.bin")).size == len(FILM)


@pytest.mark.parametrize("loses_key", [False, True])
def test_an_edge_that_was_killed_may_come_back_at_once(loses_key, tmp_path):
    """At the same address, with its key or (its directory emptied) with a new one: its name is its own again."""
    with swarm_with_a_film(tmp_path, ["edge-1", "edge-2"]) as programs:
        address = programs.edges["edge-2"].ready["peer"]
        before = get(programs.url("edge-2", "/film.bin"))
        programs.edges["edge-2"].kill()
        if loses_key:
            shutil.rmtree(programs.directory / "edge-2")
        config = programs.edge_config("edge-2")
        config["peer"]["listen"] = address
        back = programs.start_edge("edge-2", config)
        wait_alive(programs, "edge-2", of="edge-1")
        programs.wait_joined(WITHIN_S)
        assert back.process.poll() is None
        assert get(programs.url("edge-2", "/film.bin")).sha256 == before.sha256


def test_an_edge_that_was_killed_may_come_back_at_another_address(tmp_path):
    with swarm_with_a_film(tmp_path, ["edge-1", "edge-2"]) as programs:
        programs.edges["edge-2"].kill()
        back = programs.start_edge("edge-2")
        programs.wait_joined(WITHIN_S)
        assert back.process.poll() is None
        assert str(back.ready["peer"]) in str(programs.status("edge-1")["peers"])


def test_programs_say_what_they_are_and_check_a_configuration(tmp_path):
    with swarm_with_a_film(tmp_path, ["edge-1"]) as programs:
        command = [*programs.edges["edge-1"].process.args, "--check"]  # type: ignore[misc]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "configuration ok\n", "")
