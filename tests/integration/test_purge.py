"""POST /purge on five real edges before an origin whose answers change: by URL, prefix and key, soft and hard; edges
that were stopped, killed or never had a disk; answers under way while a purge is made."""

import itertools
import signal
import threading
from collections.abc import Iterator

import pytest

from deploy.programs import Swarm
from tests.integration import clocks
from tests.integration.by_hand import get
from tests.integration.changing_origin import ChangingOrigin, Resource
from tests.integration.conftest import nodes
from tests.integration.downloads import sent_by_origin
from tests.integration.purging import bodies, config_of, in_force, purge, start_edges, until

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]

OLD, NEW = b"old" * 1000, b"new" * 1000
LONG = {"Cache-Control": "max-age=3600, stale-if-error=600", "ETag": '"1"'}
ALL = nodes(5)
DISKLESS = "edge-5"


@pytest.fixture(scope="module")
def origin() -> Iterator[ChangingOrigin]:
    with ChangingOrigin().running() as origin:
        yield origin


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory, origin: ChangingOrigin) -> Iterator[Swarm]:
    """Five edges for all tests of this module; one has no disk."""
    programs = Swarm(tmp_path_factory.mktemp("purge"))
    try:
        start_edges(programs, origin.url, ALL, memory_only=DISKLESS)
        yield programs
    finally:
        programs.stop()


class Ground:
    """Paths of one test alone, and the keys their answers bear."""

    _numbers = itertools.count()

    def __init__(self, origin: ChangingOrigin) -> None:
        self.name = f"/ground-{next(self._numbers)}"
        self.resources: dict[str, Resource] = {}
        for path in ("/a/1", "/a/1?q=2", "/a/2", "/b/1", "/b/2"):
            keys = f"{self.name} {self.name}-{path[3:]}"
            self.resources[path] = Resource(OLD, LONG | {"Surrogate-Key": keys})
            origin.paths[self.name + path] = self.resources[path]

    def change(self) -> None:
        """New bodies, under the validators of the old ones: only who forgets what it holds will notice."""
        for resource in self.resources.values():
            resource.body = NEW
            resource.requests.clear()

    def bodies(self, swarm: Swarm, path: str) -> set[bytes]:
        return bodies(swarm, self.name + path)

    def body(self, swarm: Swarm, node: str, path: str) -> bytes:
        return get(swarm.url(node, self.name + path)).body


@pytest.fixture
def ground(swarm: Swarm, origin: ChangingOrigin) -> Ground:
    """Every edge has served each of its paths, and now they mean something else at the origin."""
    ground = Ground(origin)
    for path in ground.resources:
        assert ground.bodies(swarm, path) == {OLD}
    ground.change()
    return ground


@pytest.mark.parametrize(
    "fields, gone",
    [
        ({"url": "http://any.example{}/a/1"}, {"/a/1"}),
        ({"url": ["{}/a/1?q=2", "{}/b/2"]}, {"/a/1?q=2", "/b/2"}),
        ({"prefix": "{}/a/"}, {"/a/1", "/a/1?q=2", "/a/2"}),
        ({"key": "{}-2"}, {"/a/2", "/b/2"}),
        ({"prefix": "/"}, {"/a/1", "/a/1?q=2", "/a/2", "/b/1", "/b/2"}),
    ],
)
def test_what_is_purged_is_fetched_anew_once_for_all_edges(swarm, ground, fields, gone):
    named = {
        kind: [value.format(ground.name) for value in ([values] if isinstance(values, str) else values)]
        for kind, values in fields.items()
    }
    answer = purge(swarm, "edge-2", **named)
    assert (answer.status, sorted(answer.told["applied"]), answer.told["failed"]) == (200, ALL, {})
    for path, resource in ground.resources.items():
        assert ground.bodies(swarm, path) == {NEW if path in gone else OLD}, path
        assert resource.requests == ([""] if path in gone else [])  # unconditionally, by one edge


def test_a_soft_purge_asks_the_origin_and_keeps_what_it_confirms(swarm, ground):
    assert purge(swarm, "edge-1", prefix=f"{ground.name}/a/", soft=True).status == 200
    assert ground.bodies(swarm, "/a/1") == {OLD}  # the validator still fits
    assert ground.resources["/a/1"].requests == ['"1"']
    ground.resources["/a/2"].headers["ETag"] = '"2"'
    assert ground.bodies(swarm, "/a/2") == {NEW}


def test_when_the_origin_is_gone_a_soft_purge_leaves_what_may_stand_in_and_a_hard_one_nothing(swarm, origin, ground):
    origin.down = True
    try:
        assert purge(swarm, "edge-1", url=f"{ground.name}/a/1", soft=True).status == 200
        assert ground.bodies(swarm, "/a/1") == {OLD}
        assert purge(swarm, "edge-1", url=f"{ground.name}/a/1").status == 200
        assert {get(swarm.url(node, f"{ground.name}/a/1")).status for node in ALL} <= {502, 504}
    finally:
        origin.down = False
    assert ground.bodies(swarm, "/a/1") == {NEW}


def test_purging_again_purges_what_was_fetched_in_between(swarm, ground):
    for number in range(3):
        ground.resources["/a/1"].body = newest = b"%d" % number * 3000
        assert purge(swarm, ALL[number], url=f"{ground.name}/a/1").status == 200
        assert ground.bodies(swarm, "/a/1") == {newest}


def test_a_url_is_purged_in_all_its_variants(swarm, ground):
    ground.resources["/a/1"].headers["Vary"] = "Accept-Language"
    ground.resources["/a/1"].body = OLD
    url, languages = f"{ground.name}/a/1", ({"Accept-Language": "de"}, {"Accept-Language": "fr"})
    assert purge(swarm, "edge-1", url=url).status == 200

    def found() -> set[bytes]:
        return {get(swarm.url(node, url), headers=language).body for node in ALL for language in languages}

    assert found() == {OLD}
    ground.change()
    assert found() == {OLD}
    assert purge(swarm, "edge-4", url=url).status == 200
    assert found() == {NEW}
    first, *others = ground.resources["/a/1"].requests
    assert (first, len(others)) == ("", 1)  # the second variant may be confirmed to be the new first one


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


def test_a_purge_that_cannot_be_read_purges_nothing(swarm, ground):
    before = in_force(swarm, "edge-1")
    answer = purge(swarm, "edge-1", ulr=f"{ground.name}/a/1")
    assert (answer.status, answer.text) == (400, "'ulr': no such field, did you mean url?\n")
    assert ground.bodies(swarm, "/a/1") == {OLD}
    assert in_force(swarm, "edge-1") == before


def test_an_edge_that_was_stopped_learns_of_a_purge_when_it_goes_on(swarm, ground):
    stopped = swarm.edges["edge-4"].process
    stopped.send_signal(signal.SIGSTOP)
    try:
        answer = purge(swarm, "edge-1", prefix=f"{ground.name}/a/")
        others = [node for node in ALL if node != "edge-4"]
        served = {ground.body(swarm, node, "/a/1") for node in others}
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert (answer.status, set(answer.told["failed"]), served) == (202, {"edge-4"}, {NEW})
    until(lambda: in_force(swarm, "edge-4") == in_force(swarm, "edge-1"), "edge-4 knows of the purge")
    swarm.wait_joined()
    assert ground.bodies(swarm, "/a/1") == {NEW}
    assert ground.bodies(swarm, "/a/2") == {NEW}


@pytest.mark.parametrize("node", ["edge-4", DISKLESS])
def test_an_edge_that_was_dead_knows_of_a_purge_before_it_serves_again(swarm, origin, ground, node):
    swarm.edges[node].kill()
    assert node in purge(swarm, "edge-1", url=f"{ground.name}/a/1").told["failed"]
    swarm.start_edge(node, config_of(swarm, node, origin.url, on_disk=node != DISKLESS))
    assert ground.body(swarm, node, "/a/1") == NEW
    assert purge(swarm, "edge-1", url=f"{ground.name}/b/2").status in (200, 202)  # it may be thought dead still
    until(lambda: ground.body(swarm, node, "/b/2") == NEW, f"{node} learns of the next purge")
    swarm.wait_joined()
    if node != DISKLESS:
        assert ground.body(swarm, node, "/b/1") == OLD  # not purged, and still on its disk
    until(lambda: in_force(swarm, node) == in_force(swarm, "edge-1"), f"{node} has every purge")


def test_a_purge_outlives_the_edge_that_made_it_and_every_other(tmp_path, origin):
    ground = Ground(origin)
    programs = Swarm(tmp_path)
    try:
        start_edges(programs, origin.url, ALL[:2])
        assert ground.bodies(programs, "/a/1") == {OLD}
        ground.change()
        assert purge(programs, "edge-1", key=ground.name).status == 200
        for node in ALL[:2]:
            programs.edges[node].kill()
        programs.start_edge("edge-2", config_of(programs, "edge-2", origin.url))
        assert ground.body(programs, "edge-2", "/a/1") == NEW
        assert programs.status("edge-2")["purges"]["latest"][0]["issuer"] == "edge-1"
    finally:
        programs.stop()


def test_an_edge_that_stands_alone_purges_too(tmp_path, origin):
    ground = Ground(origin)
    programs = Swarm(tmp_path, swarm=False)
    try:
        programs.start_origin()
        programs.start_edge("alone", config_of(programs, "alone", origin.url))
        assert ground.bodies(programs, "/b/1") == {OLD}
        ground.change()
        answer = purge(programs, "alone", url=f"{ground.name}/b/1")
        assert (answer.status, answer.told["applied"]) == (200, ["alone"])
        assert ground.bodies(programs, "/b/1") == {NEW}
        assert ground.bodies(programs, "/b/1") == {NEW}
        assert ground.resources["/b/1"].requests == [""]
    finally:
        programs.stop()


@pytest.mark.parametrize("off_s", [-30.0, 30.0])
def test_a_purge_made_by_an_edge_whose_clock_is_wrong_covers_what_is_there_and_nothing_that_comes(tmp_path, off_s):
    programs = Swarm(tmp_path)
    file = programs.media / "film.mp4"
    try:
        programs.start_origin()
        programs.start_edge("right")
        clocks.start_edge(programs, "wrong", off_s)
        programs.wait_joined()
        file.write_bytes(OLD)
        assert bodies(programs, "/film.mp4") == {OLD}
        file.write_bytes(NEW)
        assert purge(programs, "wrong", url="/film.mp4").status == 200
        assert bodies(programs, "/film.mp4") == {NEW}
        assert programs.total("right", "starling_origin_requests_total") <= 2
        assert bodies(programs, "/film.mp4") == {NEW}
        assert programs.total("right", "starling_origin_requests_total") <= 2
    finally:
        programs.stop()


def test_the_status_page_tells_of_purges(swarm, ground):
    assert purge(swarm, "edge-3", key=f"{ground.name}<b>", soft=True).status == 200
    page = get(swarm.admin_url("edge-1", "/")).body.decode()
    assert f"{ground.name}&lt;b&gt;" in page
    assert "every site" in page


def test_what_our_origin_signed_is_fetched_anew_too(swarm_of):
    swarm = swarm_of(3)
    file = swarm.media / "film.mp4"
    file.write_bytes(OLD)
    assert bodies(swarm, "/film.mp4") == {OLD}
    assert purge(swarm, "edge-1", url="/film.mp4").status == 200
    assert bodies(swarm, "/film.mp4") == {OLD}
    assert sent_by_origin(swarm) == 2 * len(OLD)  # once more for all, though it is the same version
    file.write_bytes(NEW + b"!")
    assert bodies(swarm, "/film.mp4") == {OLD}  # good for an hour
    assert purge(swarm, "edge-3", url="/film.mp4").status == 200
    assert bodies(swarm, "/film.mp4") == {NEW + b"!"}
    file.unlink()
    assert purge(swarm, "edge-2", prefix="/film", soft=True).status == 200
    until(  # stale answers meanwhile: its Cache-Control allows them for a minute
        lambda: {get(swarm.url(node, "/film.mp4")).status for node in swarm.edges} == {404}, "gone at every edge"
    )
