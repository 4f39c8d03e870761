"""Three edges of one swarm before a plain HTTP origin: what holds for one shared cache holds for all together."""

from collections.abc import Iterator

import pytest

from deploy.programs import Swarm
from tests.integration.by_hand import get
from tests.integration.conftest import nodes
from tests.integration.played import Played, played
from tests.integration.streaming import Request

pytestmark = pytest.mark.processes

LASTING = "max-age=60"
EDGES = nodes(3)


@pytest.fixture(scope="module")
def origin() -> Iterator[Played]:
    with played() as running:
        yield running


@pytest.fixture(scope="module")
def swarm(origin: Played, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    programs = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        programs.start_origin()  # the tracker
        for node in EDGES:
            config = programs.edge_config(node)
            config["origin"] = {"url": f"http://{origin.address}", "trust": "attested"}
            programs.start_edge(node, config)
        programs.wait_joined()
        yield programs
    finally:
        programs.stop()


def ask_all(swarm: Swarm, path: str, **headers: str) -> list[bytes]:
    """What each edge answers, one after the other."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [get(swarm.url(node, path), headers=named).body for node in EDGES]


def test_each_variant_leaves_the_origin_once_for_all_edges(swarm: Swarm, origin: Played):
    async def by_language(request: Request) -> None:
        language = request.headers.get("accept-language", "none").encode()
        await request.answer(language * 30_000, {"Cache-Control": LASTING, "Vary": "Accept-Language"})

    origin.behaviours["/varies"] = by_language
    for _ in range(2):
        for language in ("de", "fr"):
            assert set(ask_all(swarm, "/varies", Accept_Language=language)) == {language.encode() * 30_000}
        assert set(ask_all(swarm, "/varies")) == {b"none" * 30_000}
    assert origin.hits["/varies"] == 3


def test_what_may_not_be_shared_reaches_every_viewer_by_itself(swarm: Swarm, origin: Played):
    async def personal(request: Request) -> None:
        await request.answer(request.headers["cookie"].encode(), {"Cache-Control": "private"})

    origin.behaviours["/private"] = personal
    for _ in range(2):
        for viewer in ("anna", "bert"):
            assert ask_all(swarm, "/private", Cookie=viewer) == [viewer.encode()] * 3


def test_what_credentials_opened_stays_with_who_showed_them(swarm: Swarm, origin: Played):
    async def guarded(request: Request) -> None:
        if "authorization" in request.headers:
            await request.answer(b"secret", {"Cache-Control": LASTING})
        else:
            await request.answer(b"who are you?", {"Cache-Control": "no-store"}, 401)

    origin.behaviours["/guarded"] = guarded
    assert ask_all(swarm, "/guarded", Authorization="Basic eDp5") == [b"secret"] * 3
    assert ask_all(swarm, "/guarded") == [b"who are you?"] * 3


def test_an_error_of_the_origins_is_passed_on_by_every_edge_and_then_forgotten(swarm: Swarm, origin: Played):
    origin.at("/down", (503, {"Retry-After": "1"}, b"down"))
    for node in EDGES:
        answer = get(swarm.url(node, "/down"))
        assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "1", b"down")
    origin.at("/down", (200, {"Cache-Control": LASTING}, b"up"))
    asked = origin.hits["/down"]
    assert ask_all(swarm, "/down") == [b"up"] * 3
    assert origin.hits["/down"] == asked + 1


def test_every_edge_tells_the_same_age_and_date(swarm: Swarm, origin: Played):
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    origin.at("/dated", (200, {"Cache-Control": LASTING, "Date": date, "Age": "20", "Server": "theirs"}, b"x"))
    for node in [*EDGES, *EDGES]:
        headers = get(swarm.url(node, "/dated")).headers
        assert (headers["date"], headers["server"]) == (date, "theirs")
        assert 20 <= int(headers["age"]) < 60
    assert origin.hits["/dated"] == 1


def test_a_validator_confirms_for_all_edges_at_once(swarm: Swarm, origin: Played):
    stale, fresh = {"Cache-Control": "max-age=0", "ETag": '"1"'}, {"Cache-Control": LASTING, "ETag": '"1"'}
    origin.at("/tagged.mp4", (200, stale, b"film" * 20_000), (200, fresh, b"film" * 20_000))
    for _ in range(2):
        assert set(ask_all(swarm, "/tagged.mp4")) == {b"film" * 20_000}
    assert origin.sent["/tagged.mp4"] == len(b"film" * 20_000)
    assert origin.hits["/tagged.mp4"] == 2
