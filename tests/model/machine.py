"""Any interleaving of requests, changes and mishaps at one edge, held against what a correct cache may answer.

The model knows no cache: it knows which versions a path has had and when, and from that which answers are lawful.
- `never`: the answer is of a version that was current while the request was under way; `always`: while it, or a
  question that it joined, was.
- `for-ever`: never older than one answered before it was asked, nor than the last unsafe request; and the origin sends
  each version of each language at most once, cut ones aside.
- every body, part, length and condition is that of the version its ETag names.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from multidict import CIMultiDict

from daemon.config_reader import Reader
from edge.app import Edge
from edge.config import EdgeConfig
from tests.model.origin import KINDS, LANGUAGES, MOST, Kind, ModelOrigin, body_of, etag_of

WITHIN_S = 20.0
MOST_UNDER_WAY = 12
MOST_KINDS = 3  # in one run: so that much happens to each
STEPS_OF_LOOP = 40  # turns of the loop after each request: far enough to be under way, wherever that is
ETAG = re.compile(r'"(\d+)-([a-z]*)"')
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

_T = TypeVar("_T")


@dataclass
class Request:
    """One request, what was true when it was sent, and what came of it."""

    kind: Kind
    language: str
    method: str
    headers: dict[str, str]
    current_at_start: int
    floor: int  # no version below this may be answered
    cuts_at_start: int
    task: "asyncio.Task[tuple[int, CIMultiDict[str], bytes | None]]" = field(init=False)
    done_at: int = 0  # the version current when its answer was complete
    cuts_at_end: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.kind.path} {self.headers}"


def config(origin: str) -> EdgeConfig:
    tree: dict[object, object] = {
        "node": "edge-1",
        "viewer": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "origin": {"url": origin, "trust": "attested"},
        "cache": {"disk": "0", "memory": "8MiB"},
        "drain": {"grace": "0s"},
    }
    made = Reader(source="model", known=()).read_struct(tree, EdgeConfig, "")
    assert isinstance(made, EdgeConfig)
    return made


class CacheMachine(RuleBasedStateMachine):
    """Requests start, wait and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.origin = ModelOrigin()
        self.run(self._start())
        self.under_way: list[Request] = []
        self.given_up: list[Request] = []  # since everything came to its end: what they began goes on
        self.floors: defaultdict[tuple[Kind, str], int] = defaultdict(int)
        self.checked = 0

    def run(self, doing: Coroutine[None, None, _T]) -> _T:
        return self.loop.run_until_complete(asyncio.wait_for(doing, WITHIN_S))

    async def _start(self) -> None:
        await self.origin.start()
        self.edge = Edge(config(self.origin.url))
        await self.edge.start()
        self.base = f"http://{self.edge.ready()['viewer']}"
        self.http = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.run(self._stop())
            self.loop.close()

    async def _stop(self) -> None:
        self.origin.open_all()
        for request in self.under_way:
            request.task.cancel()
        await asyncio.gather(*(request.task for request in self.under_way), return_exceptions=True)
        await self.http.close()
        await self.edge.stop()
        await self.origin.stop()

    @initialize(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=MOST_KINDS, unique=True))
    def choose(self, kinds: list[Kind]) -> None:
        self.kinds_chosen = kinds

    def _kind(self, which: int) -> Kind:
        return self.kinds_chosen[which % len(self.kinds_chosen)]

    # --- what may happen

    kinds = st.integers(0, MOST_KINDS - 1)  # which of those chosen
    languages = st.sampled_from(LANGUAGES)
    places = st.integers(0, MOST + 10_000)

    @precondition(lambda self: len(self.under_way) < MOST_UNDER_WAY)
    @rule(which=kinds, language=languages, method=st.sampled_from(["GET", "GET", "GET", "HEAD"]))
    def ask(self, which: int, language: str, method: str) -> None:
        self._ask(self._kind(which), language, method, {})

    @precondition(lambda self: len(self.under_way) < MOST_UNDER_WAY)
    @rule(which=kinds, language=languages, start=places, length=st.none() | places)
    def ask_for_a_part(self, which: int, language: str, start: int, length: int | None) -> None:
        last = "" if length is None else str(start + length)
        self._ask(self._kind(which), language, "GET", {"Range": f"bytes={start}-{last}"})

    @precondition(lambda self: len(self.under_way) < MOST_UNDER_WAY)
    @rule(which=kinds, language=languages, length=places, back=st.integers(0, 2))
    def ask_for_the_end_if_it_is_the_same(self, which: int, language: str, length: int, back: int) -> None:
        etag = self._etag(self._kind(which), language, back)
        self._ask(self._kind(which), language, "GET", {"Range": f"bytes=-{length}", "If-Range": etag})

    @precondition(lambda self: len(self.under_way) < MOST_UNDER_WAY)
    @rule(which=kinds, language=languages, method=st.sampled_from(["GET", "HEAD"]), back=st.integers(0, 2))
    def ask_unless_it_is_the_same(self, which: int, language: str, method: str, back: int) -> None:
        self._ask(self._kind(which), language, method, {"If-None-Match": self._etag(self._kind(which), language, back)})

    @rule(which=kinds)
    def change(self, which: int) -> None:
        self.origin.versions[self._kind(which)] += 1

    @rule(which=kinds)
    def invalidate(self, which: int) -> None:
        """An unsafe request changes the resource: what is stored of it may not be used again (RFC 9111 section 4.4)."""
        kind = self._kind(which)
        status, _, _ = self.run(self._exchange("POST", kind, {}))
        assert status == 204
        for language in LANGUAGES:
            self.floors[kind, language] = self.origin.versions[kind]

    @rule(which=kinds)
    def hold_back(self, which: int) -> None:
        self.origin.shut(self._kind(which))

    @rule(which=kinds)
    def cut_the_next(self, which: int) -> None:
        self.origin.cut_next.add(self._kind(which))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, MOST_UNDER_WAY - 1))
    def give_up(self, which: int) -> None:
        """A viewer goes away."""
        request = self.under_way.pop(which % len(self.under_way))
        self.given_up.append(request)
        request.task.cancel()
        self.run(self._turn())
        if not request.task.cancelled():
            request.task.exception()

    @rule()
    def finish(self) -> None:
        """Everything under way comes to its end."""
        self.origin.open_all()
        if self.under_way:
            self.run(self._wait([request.task for request in self.under_way]))
        for request in self.under_way:
            self._check(request)
        self.under_way, self.given_up = [], []

    @invariant()
    def what_is_kept_for_ever_is_fetched_once(self) -> None:
        """Unless a body was cut: then the rest is asked for, and another version may come instead."""
        cuts = {kind.path: times for kind, times in self.origin.cuts.items()}
        for (path, version, language), times in self.origin.asked.sent.items():
            if path.startswith("/for-ever"):
                assert times <= 1 + cuts.get(path, 0), f"{path} {version} {language}: sent {times} times"

    # --- asking

    def _etag(self, kind: Kind, language: str, back: int) -> str:
        return etag_of(max(1, self.origin.versions[kind] - back), language if kind.varies else "")

    def _ask(self, kind: Kind, language: str, method: str, headers: dict[str, str]) -> None:
        headers = headers | ({"Accept-Language": language} if language else {})
        current = self.origin.versions[kind]
        floor = self._floor(kind, language if kind.varies else "")
        request = Request(
            kind, language if kind.varies else "", method, headers, current, floor, self.origin.cuts[kind]
        )
        request.task = self.loop.create_task(self._exchange(method, kind, headers))
        request.task.add_done_callback(lambda _: self._on_done(request))
        self.under_way.append(request)
        self.run(self._turn())

    def _floor(self, kind: Kind, language: str) -> int:
        """No version below it may be answered. Who joins a question gets its answer, which may be that much older."""
        current = self.origin.versions[kind]
        if kind.cache == "for-ever":
            return self.floors[kind, language]
        if kind.cache == "never":
            return current
        joined = [one.floor for one in self.under_way if one.kind == kind and not one.task.done()]
        return min([current, *joined, *(one.floor for one in self.given_up if one.kind == kind)])

    def _on_done(self, request: Request) -> None:
        request.done_at, request.cuts_at_end = self.origin.versions[request.kind], self.origin.cuts[request.kind]

    async def _exchange(
        self, method: str, kind: Kind, headers: dict[str, str]
    ) -> tuple[int, CIMultiDict[str], bytes | None]:
        """Status, headers and body; body None if it broke off."""
        async with self.http.request(method, self.base + kind.path, headers=headers) as response:
            try:
                body: bytes | None = await response.read()
            except aiohttp.ClientPayloadError:
                body = None
            return response.status, response.headers.copy(), body

    async def _turn(self) -> None:
        for _ in range(STEPS_OF_LOOP):
            await asyncio.sleep(0)

    async def _wait(self, tasks: "list[asyncio.Task[tuple[int, CIMultiDict[str], bytes | None]]]") -> None:
        await asyncio.wait(tasks)

    # --- judging

    def _check(self, request: Request) -> None:
        self.checked += 1
        was_cut = request.cuts_at_end > request.cuts_at_start or request.kind in self.origin.cut_next
        status, headers, body = request.task.result()
        if status in (502, 504) or body is None:
            assert was_cut, f"{request}: {status} although the origin is well"
            return
        named = ETAG.fullmatch(headers.get("ETag", ""))
        assert named, f"{request}: {status} without an ETag: {headers}"
        version, language = int(named[1]), named[2]
        assert language == request.language, f"{request}: another language, {language!r}"
        assert request.floor <= version <= request.done_at, (
            f"{request}: version {version} where {request.floor} to {request.done_at} are lawful"
        )
        if request.kind.cache == "for-ever":
            key = request.kind, request.language
            self.floors[key] = max(self.floors[key], version)
        self._check_body(request, status, headers, body, body_of(request.kind, version, language))

    def _check_body(self, request: Request, status: int, headers: CIMultiDict[str], body: bytes, whole: bytes) -> None:
        asked, etag = request.headers, headers["ETag"]
        if request.kind.cache == "never" and status == 200 and request.method == "GET":
            assert body == whole, f"{request}: {len(body)} bytes, not the {len(whole)} of {etag}"  # asked for whole
        elif asked.get("If-None-Match") == etag:
            assert (status, body) == (304, b""), f"{request}: {status}"
        elif request.method == "HEAD":
            length = headers.get("Content-Length")
            assert (status, body) == (200, b""), f"{request}: {status}"
            assert length in (str(len(whole)), None), f"{request}: length {length}, not {len(whole)}"
        elif status == 416:
            start = int(asked["Range"].removeprefix("bytes=").partition("-")[0] or len(whole))
            assert start >= len(whole) or asked["Range"] == "bytes=-0", f"{request}: 416 of {len(whole)} bytes"
        elif status == 206:
            assert asked.get("If-Range") in (None, etag), f"{request}: a part of another version"
            stated = CONTENT_RANGE.fullmatch(headers["Content-Range"])
            assert stated, f"{request}: {headers['Content-Range']}"
            start, last = int(stated[1]), int(stated[2])
            # A star: it still grew, and the viewer was not made to wait until its size was known.
            assert stated[3] == str(len(whole)) or (stated[3] == "*" and request.kind.chunked)
            assert (start, last) == _expected(asked["Range"], len(whole)), f"{request}: {headers['Content-Range']}"
            assert body == whole[start : last + 1], f"{request}: other bytes"
        else:
            assert status == 200, f"{request}: {status}"
            assert body == whole, f"{request}: {len(body)} bytes, not the {len(whole)} of {etag}"


def _expected(asked: str, size: int) -> tuple[int, int]:
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last) if last else size - 1, size - 1)
