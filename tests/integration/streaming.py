"""What a streaming audience does to one edge before a plain HTTP origin: counts that are strict, times that are told.

An origin whose every byte is scripted, and viewers that note when their first byte came, on one event loop; the edge is
a real process. Each row is one situation.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

VIEWERS = 40
DELAY_S = 0.1
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One situation: what must hold, each with whether it did, and times as (what, seconds, target in seconds)."""

    name: str
    held: dict[str, bool]
    times: list[tuple[str, float, float]] = field(default_factory=list)
    told: str = ""


# --- viewers


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes
    ttfb_s: float
    took_s: float


class Viewer:
    """One viewer's connection, open."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer

    @classmethod
    async def come(cls, address: str) -> "Viewer":
        host, _, port = address.rpartition(":")
        return cls(address, *await asyncio.open_connection(host, int(port)))

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Got:
        """OSError, IncompleteReadError if the answer is not whole."""
        began = time.perf_counter()
        await _ask(self._writer, self._address, target, headers)
        status, fields = await _head(self._reader)
        first = await self._reader.read(1) if fields.get("content-length") != "0" else b""
        ttfb_s = time.perf_counter() - began
        body = await _body(self._reader, fields, first)
        return Got(status, fields, body, ttfb_s, time.perf_counter() - began)

    def leave(self) -> None:
        self._writer.transport.abort()


async def get(address: str, target: str, headers: Mapping[str, str] | None = None) -> Got:
    """One GET on a connection of its own."""
    viewer = await Viewer.come(address)
    try:
        return await viewer.get(target, headers)
    finally:
        viewer.leave()


async def at_once(count: int, edge: str, target: str) -> list[Got]:
    """So many viewers who have all come before the first of them asks."""
    viewers = [await Viewer.come(edge) for _ in range(count)]
    try:
        return await asyncio.gather(*(viewer.get(target) for viewer in viewers))
    finally:
        for viewer in viewers:
            viewer.leave()


async def _ask(writer: asyncio.StreamWriter, address: str, target: str, headers: Mapping[str, str] | None) -> None:
    lines = [f"GET {target} HTTP/1.1", f"Host: {address}", *(f"{k}: {v}" for k, v in (headers or {}).items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = raw.rstrip("\r\n").split("\r\n")
    pairs = (one.split(":", 1) for one in fields)
    return int(line.split()[1]), {name.lower(): value.strip() for name, value in pairs}


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str], first: bytes) -> bytes:
    if (length := fields.get("content-length")) is not None:
        return first + await reader.readexactly(int(length) - len(first))
    body, line = bytearray(), first
    while True:
        size = int(line + await reader.readuntil(b"\r\n"), 16)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        line = b""
        if size == 0:
            return bytes(body)


# --- the origin


class Request:
    """One request at the origin, and how to answer it. `headers`: in lower case."""

    def __init__(self, origin: "Origin", raw: bytes, writer: asyncio.StreamWriter) -> None:
        line, *fields = raw.decode().rstrip("\r\n").split("\r\n")
        pairs = (field.split(":", 1) for field in fields)
        self.origin = origin
        self.method, self.target, _ = line.split(" ")
        self.headers = {name.lower(): value.strip() for name, value in pairs}
        self._writer = writer

    async def answer(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        await self.begin({"Content-Length": str(len(body)), **headers}, status)
        await self.send(body)

    async def begin(self, headers: Mapping[str, str], status: int = 200) -> None:
        lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())
        await self._writer.drain()

    async def send(self, data: bytes) -> None:
        self.origin.sent[self.target] += len(data)
        self._writer.write(data)
        await self._writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def drop(self) -> None:
        self._writer.transport.abort()


Behaviour = Callable[[Request], Awaitable[None]]


class Origin:
    """Answers each path as its behaviour says; `hits` and `sent` (bytes) by target, `asked` in order."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.hits: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.asked: list[Request] = []
        self.address = ""
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Origin"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer_all(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = Request(self, await reader.readuntil(b"\r\n\r\n"), writer)
                await reader.readexactly(int(request.headers.get("content-length", 0)))
                if request.headers.get("starling-reason") == "audit":
                    await request.begin({"Content-Length": "0"}, 404)  # they come by chance: tests count without them
                    continue
                self.hits[request.target] += 1
                self.asked.append(request)
                await self.behaviours[request.target.partition("?")[0]](request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # whoever asked has gone
        finally:
            writer.close()


def stored(body: bytes, cache_control: str, *, status: int = 200, delay_s: float = DELAY_S) -> Behaviour:
    async def answer(request: Request) -> None:
        await asyncio.sleep(delay_s)
        await request.answer(body, {"Cache-Control": cache_control}, status)

    return answer


# --- rows


Scene = Callable[[Origin, str], Awaitable[Row]]


def times(got: Sequence[Got]) -> list[float]:
    return [one.took_s for one in got]


async def cold_stampede(origin: Origin, edge: str) -> Row:
    body = b"x" * 4096
    origin.behaviours["/cold"] = stored(body, "max-age=60")
    got = await at_once(VIEWERS, edge, "/cold")
    return Row(
        f"cold stampede of {VIEWERS}",
        {"one origin request": origin.hits["/cold"] == 1, "all whole": {one.body for one in got} == {body}},
        [("p50", median(times(got)), 0.120)],
    )


async def leader_fails(origin: Origin, edge: str) -> Row:
    """The connection on which all wait is dropped: one of those who waited tries again for the others."""

    async def drop_once(request: Request) -> None:
        await asyncio.sleep(DELAY_S)
        if origin.hits["/dropped"] == 1:
            request.drop()
        else:
            await request.answer(b"x" * 1000, {"Cache-Control": "max-age=60"})

    origin.behaviours["/dropped"] = drop_once
    statuses = Counter(one.status for one in await at_once(20, edge, "/dropped"))
    return Row(
        "20 wait on a connection that is dropped",
        {
            "two origin requests": origin.hits["/dropped"] == 2,
            "all, or all but the first, are answered": statuses in ({200: 20}, {200: 19, 502: 1}),
        },
        told=f"{dict(statuses)}",
    )


async def cold_variants(origin: Origin, edge: str) -> Row:
    """Nobody knows yet that it varies: whoever waited for another's variant asks for his own, again together."""
    languages = ("de", "en", "fr")

    async def by_language(request: Request) -> None:
        await asyncio.sleep(DELAY_S)
        language = request.headers["accept-language"]
        await request.answer(language.encode(), {"Cache-Control": "max-age=60", "Vary": "Accept-Language"})

    origin.behaviours["/variants"] = by_language
    asked = languages * 12
    got = await asyncio.gather(*(get(edge, "/variants", {"Accept-Language": language}) for language in asked))
    return Row(
        f"{len(languages)} variants asked cold by {len(asked)} at once",
        {
            "one origin request each": origin.hits["/variants"] == len(languages),
            "to each his own": [one.body.decode() for one in got] == list(asked),
        },
    )


async def join_a_growing_fill(origin: Origin, edge: str) -> Row:
    """A body that grows for two seconds; somebody comes after half a second, and sees what there is at once."""
    parts = [bytes([65 + number]) * 1000 for number in range(20)]

    async def grow(request: Request) -> None:
        await request.begin({"Transfer-Encoding": "chunked", "Cache-Control": "max-age=60"})
        for part in parts:
            await request.send_chunk(part)
            await asyncio.sleep(0.1)
        await request.send(b"0\r\n\r\n")

    origin.behaviours["/growing"] = grow
    first = asyncio.create_task(get(edge, "/growing"))
    await asyncio.sleep(0.5)
    joined = await get(edge, "/growing")
    whole = b"".join(parts)
    return Row(
        "join a fill that grows for 2 s",
        {
            "one origin request": origin.hits["/growing"] == 1,
            "both whole": {joined.body, (await first).body} == {whole},
            "first byte long before the last": joined.ttfb_s < joined.took_s / 2,
        },
        [("joiner's first byte", joined.ttfb_s, 0.005)],
    )


async def range_of_a_growing_body(origin: Origin, edge: str) -> Row:
    """A part as a byte range of the segment that is being made: sent when it is there, not when the segment is."""
    part, more = bytes(range(250)) * 8, asyncio.Event()

    async def grow(request: Request) -> None:
        await request.begin({"Transfer-Encoding": "chunked", "Cache-Control": "max-age=60"})
        await request.send_chunk(part)
        await more.wait()
        await request.send_chunk(part)
        await request.send(b"0\r\n\r\n")

    origin.behaviours["/segment"] = grow
    whole = asyncio.create_task(get(edge, "/segment"))
    first = await get(edge, "/segment", {"Range": "bytes=500-1999"})
    second = asyncio.create_task(get(edge, "/segment", {"Range": "bytes=2000-9999"}))
    more.set()
    rest = await second
    return Row(
        "ranges of a body that still grows",
        {
            "what is there": (first.status, first.body) == (206, part[500:]),
            "of a size not known yet": first.headers.get("content-range") == "bytes 500-1999/*",
            "to where it ends": (rest.status, rest.body) == (206, part),
            "by then known": rest.headers.get("content-range") == "bytes 2000-3999/4000",
            "one origin request": (origin.hits["/segment"], (await whole).body) == (1, 2 * part),
        },
    )


async def blocking_reload(origin: Origin, edge: str) -> Row:
    """Low-latency HLS: twenty viewers wait for each of five parts, whose playlist the origin holds back till then."""
    viewers, parts = 20, 5
    released = [asyncio.Event() for _ in range(parts)]
    at = [0.0] * parts

    async def hold(request: Request) -> None:
        part = int(request.target.rpartition("=")[2])
        await released[part].wait()
        await request.answer(
            b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n%d.ts\n" % part, {"Cache-Control": "max-age=24"}
        )

    async def watch(part: int) -> float:
        got = await get(edge, f"/live.m3u8?_HLS_msn=1&_HLS_part={part}")
        assert b"%d.ts" % part in got.body
        return time.perf_counter() - at[part]

    origin.behaviours["/live.m3u8"] = hold
    lags = []
    for part in range(parts):
        waiting = [asyncio.create_task(watch(part)) for _ in range(viewers)]
        await asyncio.sleep(0.15)
        at[part] = time.perf_counter()
        released[part].set()
        lags += await asyncio.gather(*waiting)
    hits = sum(count for target, count in origin.hits.items() if target.startswith("/live.m3u8"))
    return Row(
        f"blocking reload, {viewers} viewers of {parts} parts",
        {"one origin request a part": hits == parts},
        [("lag after release, p50", median(lags), 0.006), ("lag after release, max", max(lags), 0.010)],
    )


async def expiry_stampede(origin: Origin, edge: str) -> Row:
    origin.behaviours["/expiring"] = stored(b"x" * 4096, "max-age=1, stale-while-revalidate=30")
    await get(edge, "/expiring")
    await asyncio.sleep(1.2)
    got = await at_once(VIEWERS, edge, "/expiring")
    await asyncio.sleep(2 * DELAY_S)
    again = await get(edge, "/expiring")
    return Row(
        f"expiry stampede of {VIEWERS}, stale-while-revalidate",
        {
            "one origin request more": origin.hits["/expiring"] == 2,
            "fresh afterwards": "; hit" in again.headers["cache-status"],
        },
        [("p50", median(times(got)), 0.010)],
    )


async def polled_playlist(origin: Origin, edge: str) -> Row:
    """Twenty viewers poll a playlist that is good for a second, for eight seconds."""
    lasting_s, viewers, pause_s = 8.0, 20, 0.5
    staleness: list[float] = []

    async def now(request: Request) -> None:
        body = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#%f\n#EXTINF:2,\n1.ts\n" % time.time()
        await request.answer(body, {"Cache-Control": "max-age=1"})

    async def poll(number: int) -> None:
        await asyncio.sleep(pause_s * number / viewers)
        until = time.monotonic() + lasting_s - pause_s * number / viewers
        while time.monotonic() < until:
            got = await get(edge, "/polled.m3u8")
            staleness.append(time.time() - float(got.body.split(b"\n")[2][1:]))
            await asyncio.sleep(pause_s)

    origin.behaviours["/polled.m3u8"] = now
    await asyncio.gather(*(poll(number) for number in range(viewers)))
    hits = origin.hits["/polled.m3u8"]
    return Row(
        f"{viewers} viewers poll a playlist of max-age=1 for 8 s",
        {"at most one origin request a second": hits <= lasting_s},
        [("staleness, p50", median(staleness), 0.550), ("staleness, max", max(staleness), 1.100)],
        f"{hits} origin requests",
    )


async def uncacheable(origin: Origin, edge: str) -> Row:
    """No-store, twenty at once. The first round learns that it is: whoever came second has waited for the first."""
    origin.behaviours["/private"] = stored(b"x" * 1000, "no-store")
    first = max(times(await at_once(20, edge, "/private")))
    second = max(times(await at_once(20, edge, "/private")))
    return Row(
        "no-store, 20 at once, twice",
        {"one origin request each": origin.hits["/private"] == 40},
        [("slowest, first round (two delays of the origin)", first, 0.215), ("slowest, second round", second, 0.115)],
    )


async def cold_range(origin: Origin, edge: str) -> Row:
    body = bytes(range(256)) * 4096
    origin.behaviours["/range"] = stored(body, "max-age=60")
    first = await get(edge, "/range", {"Range": "bytes=0-99"})
    second = await get(edge, "/range", {"Range": "bytes=500000-500099"})
    return Row(
        "cold range of 1 MiB, then another",
        {
            "206 with its bytes": (first.status, first.body) == (206, body[:100]),
            "one origin request of the whole": (origin.hits["/range"], origin.sent["/range"]) == (1, len(body)),
            "the second is a hit": (second.status, second.body) == (206, body[500000:500100]),
        },
    )


async def warm_ranges(origin: Origin, edge: str) -> Row:
    body = bytes(range(256)) * 4096

    async def tagged(request: Request) -> None:
        await request.answer(body, {"Cache-Control": "max-age=60", "ETag": '"one"'})

    origin.behaviours["/warm"] = tagged
    await get(edge, "/warm")
    suffix = await get(edge, "/warm", {"Range": "bytes=-5"})
    beyond = await get(edge, "/warm", {"Range": f"bytes={len(body)}-"})
    other = await get(edge, "/warm", {"Range": "bytes=0-1", "If-Range": '"two"'})
    several = await get(edge, "/warm", {"Range": "bytes=0-1,5-6"})
    return Row(
        "warm ranges: suffix, beyond, If-Range of another, several",
        {
            "206": (suffix.status, suffix.body) == (206, body[-5:]),
            "416": beyond.status == 416,
            "200": (other.status, other.body) == (200, body),
            "206 or 200": several.status in (200, 206),
            "no origin request": origin.hits["/warm"] == 1,
        },
    )


async def negative(origin: Origin, edge: str) -> Row:
    origin.behaviours["/missing"] = stored(b"no such segment", "max-age=2", status=404)
    got = await at_once(20, edge, "/missing")
    return Row(
        "404 with max-age=2, 20 at once",
        {"one origin request": origin.hits["/missing"] == 1, "all 404": {one.status for one in got} == {404}},
    )


async def stale_if_error(origin: Origin, edge: str) -> Row:
    """A 503, then a connection dropped without a word: with the directive, and without."""
    found = {}
    for name, cache_control in (("with", "max-age=1, stale-if-error=30"), ("without", "max-age=1")):
        for fault in ("503", "dropped"):
            path = f"/{name}-{fault}"
            origin.behaviours[path] = stored(b"good", cache_control, delay_s=0)
            await get(edge, path)

            async def fail(request: Request, fault: str = fault) -> None:
                if fault == "503":
                    await request.answer(b"bad", {}, 503)
                else:
                    request.drop()

            origin.behaviours[path] = fail
    await asyncio.sleep(1.1)
    for name in ("with", "without"):
        found[name] = [(await get(edge, f"/{name}-{fault}")).status for fault in ("503", "dropped")]
    return Row(
        "stale-if-error=30: on 503, on a dropped connection",
        {"with it 200, 200": found["with"] == [200, 200], "without 503, 502": found["without"] == [503, 502]},
    )


async def stale_while_revalidate(origin: Origin, edge: str) -> Row:
    origin.behaviours["/grace"] = stored(b"x" * 4096, "max-age=1, stale-while-revalidate=30", delay_s=0.3)
    await get(edge, "/grace")
    await asyncio.sleep(1.1)
    got = await get(edge, "/grace")
    return Row(
        "stale-while-revalidate=30: the first request after expiry",
        {"a hit": "; hit" in got.headers["cache-status"], "sooner than the origin": got.took_s < 0.3},
        [("first request", got.took_s, 0.005)],
    )


async def abort_in_the_middle(origin: Origin, edge: str) -> Row:
    body = b"x" * (MIB // 2)

    async def slow(request: Request) -> None:
        await request.begin({"Content-Length": str(2 * len(body)), "Cache-Control": "max-age=60"})
        await request.send(body)
        await asyncio.sleep(0.5)
        await request.send(body)

    origin.behaviours["/left"] = slow
    host, _, port = edge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await _ask(writer, edge, "/left", None)
    await _head(reader)
    writer.transport.abort()
    await asyncio.sleep(1.0)
    got = await get(edge, "/left")
    return Row(
        "a viewer leaves in the middle of a fill",
        {
            "one origin request": origin.hits["/left"] == 1,
            "whole": got.body == 2 * body,
            "a hit": "; hit" in got.headers["cache-status"],
        },
    )


async def stalled_reader(origin: Origin, edge: str) -> Row:
    body = bytes(range(256)) * (6 * MIB // 256)
    origin.behaviours["/large"] = stored(body, "max-age=60", delay_s=0)
    host, _, port = edge.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    await _ask(writer, edge, "/large", None)
    await _head(reader)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.5)
    got = await get(edge, "/large")
    writer.transport.abort()
    return Row(
        "one reader stops reading; another takes 6 MiB",
        {"one origin request": origin.hits["/large"] == 1, "whole": got.body == body},
        [("second reader", got.took_s, 0.030)],
    )


async def told_in_headers(origin: Origin, edge: str) -> Row:
    async def answer(request: Request) -> None:
        await request.answer(b"x", {"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=60"})

    origin.behaviours["/told"] = answer
    await get(edge, "/told")
    got = await get(edge, "/told")
    return Row(
        "Age, Cache-Status, CDN-Cache-Control",
        {
            "Age": got.headers.get("age", "").isdigit(),
            "Cache-Status": "; hit; ttl=" in got.headers.get("cache-status", ""),
            "targeted field beats no-store": origin.hits["/told"] == 1,
        },
    )


SCENES: tuple[Scene, ...] = (
    cold_stampede,
    cold_variants,
    leader_fails,
    join_a_growing_fill,
    range_of_a_growing_body,
    blocking_reload,
    expiry_stampede,
    polled_playlist,
    uncacheable,
    cold_range,
    warm_ranges,
    negative,
    stale_if_error,
    stale_while_revalidate,
    abort_in_the_middle,
    stalled_reader,
    told_in_headers,
)
