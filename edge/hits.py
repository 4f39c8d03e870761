"""Answers that are ready to be sent: what the hit path looks up before any parser is entered (DESIGN 7).

The slow path makes every answer first. One that came whole and fresh from memory is offered here, its head as it was
written; from then on it is sent from here, only what changes from second to second (Age, Date, the remaining ttl)
written anew, until its lifetime ends, its pointer falls, or a piece leaves memory. Requests that are alike but for
their first line are recognised by their header block, byte for byte: it was read once, and found to ask for nothing
that an answer could depend on but the site, Accept-Encoding and Origin.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from itertools import product

from aiohttp import HttpVersion11, hdrs, web

from edge.body_file import BodyFile
from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from edge.sites import Sites
from edge.store import Store
from swarm.accounting import Outcome, Source
from swarm.http_dates import format_http_date
from swarm.names import BadPath
from swarm.request_head import RequestHead
from swarm.tokens import TokenRefused

MOST_READY = 16_384  # answers; the oldest are forgotten, and offered again when they are asked for
MOST_BLOCKS = 4_096  # header blocks; all are forgotten at once
TOUCH_EVERY_S = 5.0  # the store is told that a version is in use: it marks every piece, 40 us for 2 MiB
MOST_SMALL_BYTES = 32 << 10  # is cheaper copied behind its head than written beside it
MOST_LINES = 65_536  # request lines under all blocks; likewise
MOST_BLOCK_BYTES, MOST_KEPT_LINE_BYTES = 8192, 1024  # so that those who send long ones do not fill our memory with them
MOST_FORM_BYTES = 32 << 10  # of a compressed playlist, which is kept here beside the memory tier
CHECK_AFTER = 2  # hits, a version's file is read and checked, so that it can be sent from: a scan is not worth that
MOST_BODY_BYTES = 4 << 20  # what is longer is sent piece by piece, as its viewer takes it

# Fields that change nothing in an answer of ours, beside those read in `_class_of`. Whatever is not here (Range,
# conditions, Authorization, Cache-Control, Expect, framing, …) is for the slow path.
HARMLESS = {
    *("accept", "accept-charset", "accept-language", "cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status"),
    *("cookie", "device-memory", "dnt", "downlink", "dpr", "ect", "forwarded", "icy-metadata", "origin-agent-cluster"),
    *("priority", "referer", "rtt", "save-data", "sec-gpc", "sec-purpose", "ua-cpu", "upgrade-insecure-requests"),
    *("user-agent", "via", "viewport-width", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
    *("x-forwarded-proto", "x-playback-session-id", "x-real-ip", "x-requested-with"),
}
HARMLESS_PREFIXES = ("sec-ch-", "sec-fetch-")
SELECTING = ("accept-encoding", "origin")  # what `Vary` may name of an answer that is ready
ABSENT = "\0"  # the value of a field that was not sent
# In a request whose answer came whole from memory: what it was made of.
OFFERED = web.RequestKey("offered", tuple[Known, Held, bytes | None])

_LINE = re.compile(rb"GET (/(?!-/)[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(?:\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*)?) HTTP/1\.1")
_CHANGING = re.compile(rb"\r\n(?:Age: (?P<age>\d+)|Date: (?P<date>[^\r]*)|Cache-Status: [^\r]*; ttl=(?P<ttl>-?\d+))")

Key = tuple[str, *tuple[str | None, ...]]  # path, and the values of SELECTING where it varies by them, else None


class Ready:
    """One answer: good until `until` (monotonic), as long as its pointer stands and its body is where it was."""

    __slots__ = (
        "_changing",
        "_parts",
        "body_bytes",
        "copied",
        "count",
        "file",
        "form",
        "head",
        "held",
        "is_small",
        "key",
        "known",
        "source",
        "touch_at",
        "until",
    )

    def __init__(
        self,
        key: Key,
        known: Known,
        held: Held,
        head: bytes,
        body_bytes: int,
        form: bytes | None = None,
        source: Source = Source.MEMORY,
    ) -> None:
        self.source = source
        self.form = form  # the body where it is not the version's own: a compressed playlist
        self.key = key
        self.known = known
        self.held = held
        self.body_bytes = body_bytes
        self.head = head
        self.is_small = form is None and 0 < body_bytes <= min(held.metainfo.piece_bytes, MOST_SMALL_BYTES)  # one piece
        self.until = self.touch_at = 0.0
        self.count = 0
        self.file: BodyFile | None = None  # what its body can be sent from, until `until`
        self.copied = 0  # how often it was not, since that was last tried
        self._parts: list[bytes] = []
        self._changing: list[str] = []
        at = 0
        for match in _CHANGING.finditer(head):
            name = str(match.lastgroup)
            if name == "date" and known.pointer.header("date") is not None:
                continue  # when its origin made it
            self._parts.append(head[at : match.start(name)])
            self._changing.append(name)
            at = match.end(name)
        self._parts.append(head[at:])

    def __repr__(self) -> str:
        return f"<Ready {self.key[0]!r} {self.body_bytes} bytes>"

    def renew(self, now: float, swarm_now: float) -> bool:
        """Write the head for this moment; False if the answer is not fresh any more."""
        known = self.known
        ttl_s, age_s = known.pointer.ttl_s, known.age_s(now)
        if age_s >= ttl_s or not known.standing:
            return False
        values = {"age": b"%d" % age_s, "ttl": b"%d" % (ttl_s - age_s), "date": _http_date(int(swarm_now))}
        head = self._parts[:1]
        for name, part in zip(self._changing, self._parts[1:], strict=True):
            head += values[name], part
        self.head = b"".join(head)
        left_s = ttl_s - age_s
        self.until = now + min(int(age_s) + 1 - age_s, 1 - swarm_now % 1, left_s, left_s % 1 or 1.0)
        return True


class Lines(dict[bytes, Ready]):
    """Request lines that were looked up, under header blocks that come to the same."""

    def __init__(self, site: str, selecting: tuple[str, ...]) -> None:
        super().__init__()
        self.site = site
        self.choices = tuple(product(*((None, value) for value in selecting)))  # under which an answer may stand


class Block:
    """A header block that was read: from the CRLF before the first field to the empty line that ends it."""

    __slots__ = ("lines", "size", "text")

    def __init__(self, text: bytes, lines: Lines) -> None:
        self.text = text
        self.size = len(text)
        self.lines = lines


class Hits:
    """The table."""

    def __init__(
        self,
        sites: Sites,
        store: Store,
        metrics: EdgeMetrics,
        swarm_time: Callable[[], float],
    ) -> None:
        self._sites = sites
        self._store = store
        self._metrics = metrics
        self._swarm_time = swarm_time
        self.blocks: dict[bytes, Block] = {}
        self._classes: dict[tuple[str, tuple[str, ...]], Lines] = {}
        self._line_count = 0
        self._ready: dict[Key, Ready] = {}
        self._sending: dict[Ready, None] = {}  # renewed lately: these alone can have been sent since `settle`
        self.open = True

    def __repr__(self) -> str:
        return f"<Hits {len(self._ready)} answers, {len(self.blocks)} header blocks>"

    def clear(self) -> None:
        """Forget every answer, wherever a connection may still know it: the slow path makes it again, once."""
        for ready in self._ready.values():
            ready.until = 0.0
        self._ready.clear()
        self._forget_lines()

    def _forget_lines(self) -> None:
        for lines in self._classes.values():
            lines.clear()  # in place: connections know them
        self._line_count = 0

    def close(self) -> None:
        """Nothing is answered from here any more: the edge is leaving, and its answers say so."""
        self.open = False
        self.clear()

    # --- requests

    def block_for(self, text: bytes, request: RequestHead) -> Block | None:
        """A header block read for the first time; None if what it asks for is not for the hit path."""
        kind = self._class_of(request) if self.open and len(text) <= MOST_BLOCK_BYTES else None
        if kind is None:
            return None
        if len(self.blocks) >= MOST_BLOCKS:
            self.blocks.clear()
            self._forget_lines()
            self._classes.clear()
        lines = self._classes.get(kind)
        if lines is None:
            lines = self._classes[kind] = Lines(*kind)
        block = self.blocks[text] = Block(text, lines)
        return block

    def _class_of(self, request: RequestHead) -> tuple[str, tuple[str, ...]] | None:
        """What an answer may depend on: the site, and the values of SELECTING."""
        read: dict[str, str] = {}
        for name, value in request.fields:
            if name in ("host", "connection", *SELECTING):
                if name in read:
                    return None
                read[name] = value
            elif name not in HARMLESS and not name.startswith(HARMLESS_PREFIXES):
                return None
        site = self._sites.site_of(read.get("host", ""))
        if site is None or "host" not in read or read.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        return site, tuple(read.get(name, ABSENT) for name in SELECTING)

    def find(self, lines: Lines, line: bytes) -> Ready | None:
        """The answer to a request line not seen under these headers yet, or not since its answer was made anew."""
        lines.pop(line, None)
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        target = match[1].decode("ascii")
        try:
            path = self._sites.path(lines.site, target)
            token = self._sites.admit(path, target, self._swarm_time())
        except (BadPath, TokenRefused):
            return None
        found = (self._ready.get((path.key, *values)) for values in lines.choices)
        ready = next((one for one in found if one is not None), None)
        if ready is not None and token is None:  # tokens expire: a request with one is looked at each time
            self._remember(lines, line, ready)
        return ready

    def _remember(self, lines: Lines, line: bytes, ready: Ready) -> None:
        if len(line) > MOST_KEPT_LINE_BYTES:
            return
        if self._line_count >= MOST_LINES:
            self._forget_lines()
        lines[line] = ready
        self._line_count += 1

    def renew(self, ready: Ready, now: float) -> bool:
        """Make an answer good for the current second; forget it if that cannot be."""
        if self._ready.get(ready.key) is not ready:
            return False
        is_here = self._source_of(ready.held) is ready.source
        if not is_here or not ready.renew(now, self._swarm_time()):
            del self._ready[ready.key]
            return False
        if now >= ready.touch_at:
            touch = self._store.touch_on_disk if ready.source is Source.DISK else self._store.touch
            touch(ready.held)
            ready.touch_at = now + TOUCH_EVERY_S
        if ready.form is None and ready.body_bytes > MOST_SMALL_BYTES:
            ready.file = self._store.file(ready.held, now)
        self._sending[ready] = None
        return True

    def check_file(self, ready: Ready) -> None:
        """Its body was copied, or read, once more: soon it may be worth sending from its file."""
        ready.copied += 1
        if ready.copied >= CHECK_AFTER and ready.form is None and ready.body_bytes > MOST_SMALL_BYTES:
            ready.copied = 0
            self._store.check_file(ready.held)

    def _source_of(self, held: Held) -> Source | None:
        """Where all of a version is."""
        if held.ready is not None or self._store.make_ready(held):
            return Source.MEMORY
        return Source.DISK if self._store.is_all_on_disk(held) else None

    def _told_source(self, response: web.StreamResponse, held: Held) -> Source | None:
        """Where the head says that the body is, if all of it is there."""
        if f"detail={Source.DISK}" in response.headers.get("Cache-Status", ""):
            return Source.DISK if self._store.is_all_on_disk(held) else None
        return Source.MEMORY if self._store.make_ready(held) else None

    def body(self, ready: Ready) -> Sequence[bytes | bytearray] | None:
        """What is to be sent. None if it is on disk, and reading it might take a while: that is for the slow path."""
        if ready.form is not None:
            return (ready.form,)
        if ready.source is Source.MEMORY:
            return ready.held.ready
        data = self._store.read_all(ready.held)
        return None if data is None else (data,)

    def count(self, ready: Ready, sent_bytes: int) -> None:
        """One answer that took longer than it takes to hand it to the kernel."""
        metrics = self._metrics
        metrics.viewer_requests[Outcome.HIT] += 1
        metrics.viewer_bytes[ready.source] += sent_bytes
        metrics.hit_path.value += 1
        metrics.viewer_ttfb.observe_at_once(1)
        ready.held.served[ready.source] += sent_bytes

    def settle(self, now: float) -> None:
        """Count what was sent since the last call: once a second, and before anybody reads a metric."""
        metrics = self._metrics
        for ready in tuple(self._sending):
            count, ready.count = ready.count, 0
            metrics.viewer_requests[Outcome.HIT] += count
            metrics.viewer_bytes[ready.source] += count * ready.body_bytes
            metrics.hit_path.value += count
            metrics.viewer_ttfb.observe_at_once(count)
            ready.held.served[ready.source] += count * ready.body_bytes
            if now >= ready.until:
                del self._sending[ready]

    # --- answers

    def offer(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        known: Known,
        held: Held,
        form: bytes | None = None,
    ) -> None:
        """A fresh answer, its whole body in one tier, about to be sent by the slow path, its headers complete."""
        path = known.path
        site = self._sites.site_of(request.headers.get(hdrs.HOST, ""))
        if not (self.open and site == path.site and _is_plain(request, response)) or path.url_path.startswith("/-/"):
            return
        varies = ",".join(response.headers.getall(hdrs.VARY, ()))
        selecting = {name.strip().lower() for name in varies.split(",")} - {""}
        size = held.metainfo.size
        if not selecting.issubset(SELECTING) or size is None or size > MOST_BODY_BYTES:
            return
        if not self._store.pointers.allows(known):  # purged since it was looked up
            return
        values = (request.headers.get(name, ABSENT) if name in selecting else None for name in SELECTING)
        key: Key = (path.key, *values)
        same = self._ready.get(key)
        if same is not None and same.known is known and same.held is held:
            return  # this viewer's headers are not for the hit path; others' are
        if (form is not None and len(form) > MOST_FORM_BYTES) or (source := self._told_source(response, held)) is None:
            return
        displaced = key if key in self._ready else next(iter(self._ready)) if len(self._ready) >= MOST_READY else None
        if displaced is not None:
            self._ready.pop(displaced).until = 0.0
        size = size if form is None else len(form)
        self._ready[key] = Ready(key, known, held, _head_of(response), size, form, source)


@lru_cache(maxsize=4)  # once a second, not once an answer: it takes ten times what the rest of a head does
def _http_date(at: int) -> bytes:
    return format_http_date(at).encode()


def _is_plain(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    """Whether the same head may be sent again to whoever asks the same."""
    headers = response.headers
    return (
        request.method == hdrs.METH_GET
        and hdrs.RANGE not in request.headers  # never compressed, even if it is ignored
        and request.version == HttpVersion11
        and response.status == HTTPStatus.OK
        and bool(response.keep_alive)
        and hdrs.CONTENT_LENGTH in headers
        and "Starling-Trace" not in request.headers  # its answer tells how long it took
        and headers.keys().isdisjoint((hdrs.CONNECTION, hdrs.TRANSFER_ENCODING))
    )


def _head_of(response: web.StreamResponse) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{k}: {v}" for k, v in response.headers.items())]
    return "\r\n".join((*lines, "", "")).encode()
