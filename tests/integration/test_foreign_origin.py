"""A foreign origin behind real edges: bodies without length, empty ones, what varies, what breaks off."""

import asyncio
import threading
from collections.abc import Iterator
from hashlib import sha256

import pytest
from aiohttp import web

from deploy.programs import Swarm
from tests.integration.by_hand import get, get_all

pytestmark = pytest.mark.processes

BODY = bytes(range(256)) * 3000  # 750 KiB
LONG = BODY * 6  # more than four times the smallest memory a cache may have


async def _empty(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "max-age=60"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write_eof()
    return response


async def _chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "max-age=60"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for at in range(0, len(BODY), 10_000):
        await response.write(BODY[at : at + 10_000])
    await response.write_eof()
    return response


async def _none(request: web.Request) -> web.Response:
    return web.Response(status=204, headers={"Cache-Control": "max-age=60"})


async def _varies(request: web.Request) -> web.Response:
    language = request.headers.get("Accept-Language", "none")
    return web.Response(text=language, headers={"Cache-Control": "max-age=60", "Vary": "Accept-Language"})


LARGE = BODY * 14  # 10 MiB and a half: for all homes, run by run
RANGES: list[str] = []  # of it that were asked for, and "all"


async def _large(request: web.Request) -> web.Response:
    """In parts, for whoever names the version."""
    if request.headers.get("Starling-Reason") == "audit":  # they come by chance: the test counts without them
        return web.Response(status=404)
    headers = {"Cache-Control": "max-age=60", "ETag": '"one"', "Accept-Ranges": "bytes"}
    RANGES.append(request.headers.get("Range", "all"))
    if "Range" not in request.headers:
        return web.Response(body=LARGE, headers=headers)
    if request.headers.get("If-Match") != '"one"':
        return web.Response(status=412)
    part = request.http_range
    told = f"bytes {part.start}-{part.stop - 1}/{len(LARGE)}"
    return web.Response(status=206, body=LARGE[part], headers=headers | {"Content-Range": told})


async def _whole(request: web.Request) -> web.Response:
    return web.Response(body=LONG, headers={"Cache-Control": "max-age=60", "ETag": '"one"'})


@pytest.fixture
def foreign() -> Iterator[str]:
    """The address of an origin that is not ours, for the length of a test."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    routes = {
        "/empty": _empty,
        "/chunked": _chunked,
        "/none": _none,
        "/varies": _varies,
        "/whole": _whole,
        "/large": _large,
    }
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    port = runner.addresses[0][1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def edges(tmp_path, foreign: str) -> Iterator[Swarm]:
    """Three edges of one swarm before that origin."""
    programs = Swarm(tmp_path)
    try:
        programs.start_origin()
        for node in ("edge-1", "edge-2", "edge-3"):
            config = programs.edge_config(node) | {"origin": {"url": foreign, "trust": "attested"}}
            programs.start_edge(node, config)
        programs.wait_joined()
        yield programs
    finally:
        programs.stop()


@pytest.mark.parametrize("path", ["/empty", "/none"])
def test_an_empty_body_of_unstated_length_is_answered_each_time_by_every_edge(edges: Swarm, path: str):
    for node in [*edges.edges, *edges.edges]:
        answer = get(edges.url(node, path))
        assert (answer.status, answer.size) == (204 if path == "/none" else 200, 0)


def test_a_body_of_unstated_length_reaches_every_edge_whole_and_accuses_nobody(edges: Swarm):
    for node in [*edges.edges, *edges.edges]:
        assert get(edges.url(node, "/chunked")).sha256 == sha256(BODY).hexdigest()
    assert sum(edges.total(node, "starling_pieces_rejected_total") for node in edges.edges) == 0
    assert sum(edges.total(node, "starling_origin_bytes_total") for node in edges.edges) == len(BODY)


def test_what_varies_by_what_viewers_send_is_never_shared(edges: Swarm):
    for node in edges.edges:
        assert get(edges.url(node, "/varies"), headers={"Accept-Language": "de"}).body == b"de"
        assert get(edges.url(node, "/varies"), headers={"Accept-Language": "fr"}).body == b"fr"


def test_a_body_larger_than_a_memory_only_cache_streams_through_it(tmp_path, foreign: str):
    programs = Swarm(tmp_path, swarm=False)
    try:
        programs.start_origin()
        config = programs.edge_config("tiny") | {
            "origin": {"url": foreign, "trust": "attested"},
            "cache": {"memory": "1MiB", "disk": 0},
        }
        programs.start_edge("tiny", config)
        for _ in range(2):
            answers = get_all([programs.url("tiny", "/whole")] * 3)
            assert {answer.sha256 for answer in answers} == {sha256(LONG).hexdigest()}
    finally:
        programs.stop()


def test_a_large_object_is_fetched_by_its_homes_run_by_run(edges):
    """Each byte once, in at most one request a mebibyte and one to find out (DESIGN 5)."""
    RANGES.clear()
    answers = get_all([edges.url(node, "/large") for node in edges.edges])
    assert {answer.sha256 for answer in answers} == {sha256(LARGE).hexdigest()}
    runs = [tuple(map(int, asked.removeprefix("bytes=").split("-"))) for asked in RANGES if asked != "all"]
    assert RANGES.count("all") == 1
    assert len(RANGES) <= 1 + len(LARGE) // (1 << 20)
    assert sorted(runs)[0][0] == 0
    assert all(before[1] + 1 == after[0] for before, after in zip(sorted(runs), sorted(runs)[1:], strict=False))
    assert sum(edges.total(node, "starling_origin_bytes_total") for node in edges.edges) == len(LARGE)
