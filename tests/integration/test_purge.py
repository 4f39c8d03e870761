"""POST /purge on five real edges before an origin whose answers change: by URL, prefix and key, soft and hard; edges
that were stopped, killed or never had a disk; answers under way while a purge is made."""

import signal
import threading
from collections.abc import Iterator

import pytest

from deploy.programs import Swarm
from tests.integration.by_hand import get
from tests.integration.changing_origin import ChangingOrigin, Resource
from tests.integration.conftest import nodes
from tests.integration.purging import bodies, config_of, in_force, purge, start_edges, until

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]

OLD, NEW = b"old" * 1000, b"new" * 1000
LONG = {"Cache-Control": "max-age=3600, stale-if-error=600", "ETag": '"1"'}
ALL = nodes(5)
DISKLESS = "edge-5"


@pytest.fixture
def origin() -> Iterator[ChangingOrigin]:
    with ChangingOrigin().running() as origin:
        for path in ("/a/1", "/a/1?q=2", "/a/2", "/b/1", "/b/2"):
            origin.paths[path] = Resource(OLD, LONG | {"Surrogate-Key": f"page {path[3:]}"})
        yield origin


@pytest.fixture
def swarm(tmp_path, origin: ChangingOrigin) -> Iterator[Swarm]:
    """Five edges; each has served every path."""
    programs = Swarm(tmp_path)
    try:
        start_edges(programs, origin.url, ALL, memory_only=DISKLESS)
        for path in origin.paths:
            assert bodies(programs, path) == {OLD}
        yield programs
    finally:
        programs.stop()


def change(origin: ChangingOrigin) -> None:
    """New bodies, under the validators of the old ones: only who forgets what it holds will notice."""
    for resource in origin.paths.values():
        resource.body = NEW
        resource.requests.clear()


@pytest.mark.parametrize(
    "fields, gone",
    [
        ({"url": "http://any.example/a/1"}, {"/a/1"}),
        ({"url": ["/a/1?q=2", "/b/2"]}, {"/a/1?q=2", "/b/2"}),
        ({"prefix": "/a/"}, {"/a/1", "/a/1?q=2", "/a/2"}),
        ({"key": "2"}, {"/a/2", "/b/2"}),
        ({"prefix": "/"}, {"/a/1", "/a/1?q=2", "/a/2", "/b/1", "/b/2"}),
    ],
)
def test_what_is_purged_is_fetched_anew_once_for_all_edges(swarm, origin, fields, gone):
    change(origin)
    answer = purge(swarm, "edge-2", **fields)
    assert (answer.status, sorted(answer.told["applied"]), answer.told["failed"]) == (200, ALL, {})
    for path, resource in origin.paths.items():
        assert bodies(swarm, path) == {NEW if path in gone else OLD}, path
        assert resource.requests == ([""] if path in gone else [])  # unconditionally, by one edge
    assert [in_force(swarm, node) for node in ALL] == [len(answer.told["purged"])] * 5


def test_a_soft_purge_asks_the_origin_and_keeps_what_it_confirms(swarm, origin):
    change(origin)
    assert purge(swarm, "edge-1", prefix="/a/", soft=True).status == 200
    assert bodies(swarm, "/a/1") == {OLD}  # the validator still fits
    assert origin.paths["/a/1"].requests == ['"1"']
    origin.paths["/a/2"].headers["ETag"] = '"2"'
    assert bodies(swarm, "/a/2") == {NEW}


def test_when_the_origin_is_gone_a_soft_purge_leaves_what_may_stand_in_and_a_hard_one_nothing(swarm, origin):
    origin.down = True
    assert purge(swarm, "edge-1", url="/a/1", soft=True).status == 200
    assert bodies(swarm, "/a/1") == {OLD}
    assert purge(swarm, "edge-1", url="/a/1").status == 200
    assert {get(swarm.url(node, "/a/1")).status for node in ALL} <= {502, 504}
    origin.down = False
    assert bodies(swarm, "/a/1") == {OLD}


def test_purging_twice_purges_what_was_fetched_in_between(swarm, origin):
    change(origin)
    for number in range(3):
        origin.paths["/a/1"].body = newest = b"%d" % number * 3000
        assert purge(swarm, ALL[number], url="/a/1").status == 200
        assert bodies(swarm, "/a/1") == {newest}


def test_an_answer_that_was_under_way_when_the_purge_was_made_is_not_kept(swarm, origin):
    origin.paths["/slow"] = slow = Resource(OLD)
    slow.held.clear()
    got: list[bytes] = []
    viewer = threading.Thread(target=lambda: got.append(get(swarm.url("edge-3", "/slow")).body))
    viewer.start()
    assert slow.asked.wait(10)
    slow.body = NEW  # the answer under way was made before
    assert purge(swarm, "edge-1", url="/slow").status == 200
    slow.held.set()
    viewer.join(10)
    assert got == [NEW]
    assert bodies(swarm, "/slow") == {NEW}


def test_an_edge_that_was_stopped_learns_of_a_purge_when_it_goes_on(swarm, origin):
    change(origin)
    stopped = swarm.edges["edge-4"].process
    stopped.send_signal(signal.SIGSTOP)
    answer = purge(swarm, "edge-1", prefix="/a/")
    assert (answer.status, set(answer.told["failed"])) == (202, {"edge-4"})
    others = [node for node in ALL if node != "edge-4"]
    assert {get(swarm.url(node, "/a/1")).body for node in others} == {NEW}
    stopped.send_signal(signal.SIGCONT)
    until(lambda: in_force(swarm, "edge-4") == 1, "edge-4 knows of the purge")
    assert bodies(swarm, "/a/1") == {NEW}
    assert bodies(swarm, "/a/2") == {NEW}


@pytest.mark.parametrize("node", ["edge-4", DISKLESS])
def test_an_edge_that_was_dead_knows_of_a_purge_before_it_serves_again(swarm, origin, node):
    change(origin)
    swarm.edges[node].kill()
    answer = purge(swarm, "edge-1", url="/a/1")
    assert set(answer.told["failed"]) <= {node}
    swarm.start_edge(node, config_of(swarm, node, origin.url, on_disk=node != DISKLESS))
    assert get(swarm.url(node, "/a/1")).body == NEW
    assert get(swarm.url(node, "/b/1")).body == (OLD if node != DISKLESS else NEW)
    until(lambda: in_force(swarm, node) == 1, f"{node} knows of the purge")


def test_a_purge_outlives_the_edge_that_made_it_and_every_other(tmp_path, origin):
    programs = Swarm(tmp_path)
    try:
        start_edges(programs, origin.url, ALL[:2])
        assert bodies(programs, "/a/1") == {OLD}
        change(origin)
        assert purge(programs, "edge-1", key="page").status == 200
        for node in ALL[:2]:
            programs.edges[node].kill()
        programs.start_edge("edge-2", config_of(programs, "edge-2", origin.url))
        assert get(programs.url("edge-2", "/a/1")).body == NEW
        assert programs.status("edge-2")["purges"]["latest"][0]["issuer"] == "edge-1"
    finally:
        programs.stop()


def test_an_edge_that_stands_alone_purges_too(tmp_path, origin):
    programs = Swarm(tmp_path, swarm=False)
    try:
        programs.start_origin()
        programs.start_edge("alone", config_of(programs, "alone", origin.url))
        assert bodies(programs, "/b/1") == {OLD}
        change(origin)
        answer = purge(programs, "alone", url="/b/1")
        assert (answer.status, answer.told["applied"]) == (200, ["alone"])
        assert bodies(programs, "/b/1") == {NEW}
        assert bodies(programs, "/b/1") == {NEW}
        assert origin.paths["/b/1"].requests == [""]
    finally:
        programs.stop()


def test_what_our_origin_signed_is_fetched_anew_too(swarm_of):
    swarm = swarm_of(5)
    file = swarm.media / "film.mp4"
    file.write_bytes(OLD)
    assert bodies(swarm, "/film.mp4") == {OLD}
    file.write_bytes(NEW + b"!")
    assert bodies(swarm, "/film.mp4") == {OLD}  # good for an hour
    assert purge(swarm, "edge-3", url="/film.mp4").status == 200
    assert bodies(swarm, "/film.mp4") == {NEW + b"!"}
    file.unlink()
    assert purge(swarm, "edge-4", prefix="/film", soft=True).status == 200
    until(  # stale answers meanwhile: its Cache-Control allows them for a minute
        lambda: {get(swarm.url(node, "/film.mp4")).status for node in swarm.edges} == {404}, "gone at every edge"
    )


def test_a_purge_that_cannot_be_read_purges_nothing(swarm, origin):
    change(origin)
    answer = purge(swarm, "edge-1", ulr="/a/1")
    assert (answer.status, answer.text) == (400, "'ulr': no such field, did you mean url?\n")
    assert bodies(swarm, "/a/1") == {OLD}
    assert in_force(swarm, "edge-1") == 0
