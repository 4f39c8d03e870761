"""The netlab with real programs on shaped links, briefly. No times but lower bounds: the machine may be busy."""

import contextlib
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.netlab.laboratory import PREFIX, Setting, laboratory
from loadtests.netlab.links import Host, Link, bridged, delayed
from loadtests.netlab.programs import Plan

pytestmark = [pytest.mark.root, pytest.mark.processes]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
PORT = 5000
LINK = Link(40_000_000, 40_000_000)
LONG = ("--edges", "2", "--rate", "2mbit", "--size", "32MiB", "--runs", "1")


def test_four_edges_get_an_object_that_leaves_our_origin_once_by_every_count():
    with laboratory(Setting(edges=4, size_bytes=4 * MIB)) as lab:
        run = lab.run()
    assert run.wrong == ()
    assert [str(account) for account in run.accounts if not account.agrees] == []
    assert run.copies == 1.0
    assert run.reasons == {"first_copy": 4 * MIB}
    assert list(run.finished_s) == ["edge-1", "edge-2", "edge-3", "edge-4"]


def test_two_edges_before_nginx_over_delaying_links():
    with laboratory(Setting(edges=2, size_bytes=2 * MIB, rtt_s=0.02, plan=Plan(foreign=True))) as lab:
        run = lab.run()
    assert run.wrong == ()
    assert [str(account) for account in run.accounts if not account.agrees] == []
    assert run.origin_requests >= 1


@contextlib.contextmanager
def talking(here: Host, there: Host, port: int = PORT) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection between two hosts, from both ends."""
    with there.space.entered():
        listener = socket.create_server((there.address, port))
    with listener, here.space.connect(port, there.address) as connected:
        accepted, _ = listener.accept()
        with accepted:
            yield connected, accepted


def congestion(connection: socket.socket) -> str:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


@pytest.mark.parametrize("named", ["bbr", "cubic"])
def test_both_ends_of_a_connection_have_the_congestion_control_of_the_links(named: str):
    with bridged([("a", LINK), ("b", LINK)], named) as (a, b), talking(a, b) as ends:
        assert [congestion(end) for end in ends] == [named, named]


def test_the_switch_delays_both_ways(tmp_path: Path):
    with delayed([("a", LINK), ("b", LINK)], "bbr", 0.05, tmp_path) as (a, b), talking(a, b) as (here, there):
        began = time.monotonic()
        here.sendall(b"there")
        there.sendall(there.recv(5) + b" and back")
        assert here.recv(14) == b"there and back"
        assert time.monotonic() - began >= 0.1


def test_a_host_hears_nothing_from_those_it_is_cut_off_from():
    with (
        bridged([(name, LINK) for name in ("a", "b", "c")], "bbr") as (a, b, c),
        talking(a, b) as (here, there),
        talking(c, b, PORT + 1) as (other, elsewhere),
    ):
        b.cut([a])
        here.sendall(b"lost, for now")
        other.sendall(b"heard")
        assert elsewhere.recv(5) == b"heard"
        there.setblocking(False)
        with pytest.raises(BlockingIOError):
            there.recv(5)
        b.heal()
        there.setblocking(True)
        assert there.recv(13) == b"lost, for now"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_netlab_that_was_ended(how: signal.Signals):
    command = [sys.executable, "-m", "loadtests.netlab", *LONG]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as netlab:
        wait_for(lambda: len(children(netlab.pid)) >= 3)  # an origin and two edges
        programs = children(netlab.pid)
        netlab.send_signal(how)
        netlab.wait(20)
        wait_for(lambda: not [pid for pid in programs if running(pid)])
    if how is signal.SIGKILL:  # the directory waits for the next one
        with laboratory(Setting(edges=1, size_bytes=MIB)):
            pass
    assert list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{netlab.pid}-*")) == []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(fact: Callable[[], bool], within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < until
        select.select([], [], [], 0.02)
