"""An origin whose every answer can be held back, cut short, and told apart: the body and the ETag name the version."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

LANGUAGES = ("", "da", "de")
LEAST, MOST = 40_000, 90_000  # bytes: some pieces, the last one short


@dataclass(frozen=True)
class Kind:
    """How a path behaves, for ever; its name says it."""

    cache: str  # for-ever | always | never: how long an answer may be used
    varies: bool = False
    chunked: bool = False

    @property
    def path(self) -> str:
        return f"/{self.cache}{'-varies' if self.varies else ''}{'-chunked' if self.chunked else ''}"


KINDS = [Kind(cache, varies, chunked) for cache in ("for-ever", "always") for varies in (False, True)
         for chunked in (False, True)] + [Kind("never"), Kind("never", chunked=True)]  # fmt: skip
CACHE_CONTROL = {"for-ever": "max-age=86400", "always": "max-age=0, must-revalidate", "never": "no-store"}


def body_of(kind: Kind, version: int, language: str) -> bytes:
    """The bytes of a version, other in every place from those of the next."""
    seed = hashlib.sha256(f"{kind.path} {version} {language}".encode()).digest()
    size = LEAST + int.from_bytes(seed[:4], "big") % (MOST - LEAST)
    return (seed * (size // len(seed) + 1))[:size]


def etag_of(version: int, language: str) -> str:
    return f'"{version}-{language}"'


@dataclass
class Asked:
    """How often the origin sent a body, confirmed one, and cut one short; by path, version and language."""

    sent: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    confirmed: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)


class ModelOrigin:
    """Serves every kind's path at its current version."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(KINDS, 1)
        self.cut_next: set[Kind] = set()
        self.cuts: Counter[Kind] = Counter()
        self.asked = Asked()
        self._gates: defaultdict[Kind, asyncio.Event] = defaultdict(asyncio.Event)
        self.open_all()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        for kind in KINDS:
            app.router.add_route("*", kind.path, self._handler(kind))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.open_all()
        if self._runner is not None:
            await self._runner.cleanup()

    def shut(self, kind: Kind) -> None:
        """Answers of this path stop before their head, and again before their last byte."""
        self._gates[kind].clear()

    def open_all(self) -> None:
        for kind in KINDS:
            self._gates[kind].set()

    def _handler(self, kind: Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.asked.all[kind.path] += 1
            if request.method == "POST":
                self.versions[kind] += 1
                return web.Response(status=204)
            version = self.versions[kind]  # what is held back grows old
            await self._gates[kind].wait()
            return await self._answer(request, kind, version)

        return handle

    async def _answer(self, request: web.Request, kind: Kind, version: int) -> web.StreamResponse:
        language = request.headers.get("Accept-Language", "") if kind.varies else ""
        headers = {"Cache-Control": CACHE_CONTROL[kind.cache], "ETag": etag_of(version, language)}
        if kind.varies:
            headers["Vary"] = "Accept-Language"
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            self.asked.confirmed[kind.path, version, language] += 1
            return web.Response(status=304, headers=headers)
        body = body_of(kind, version, language)
        response = web.StreamResponse(headers=headers)
        if kind.chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(body)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await response.write(body[: len(body) // 2])
        if kind in self.cut_next:
            self.cut_next.discard(kind)
            self.cuts[kind] += 1
            assert request.transport is not None
            request.transport.close()
            return response
        await self._gates[kind].wait()
        await response.write(body[len(body) // 2 :])
        await response.write_eof()
        self.asked.sent[kind.path, version, language] += 1
        return response
