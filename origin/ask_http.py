"""`POST /-/swarm/ask`: pointers, pages and pieces for edges (docs/protocol.md)."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from daemon.answering import FrameStream, admit, read_ask
from daemon.logs import fields
from daemon.pacing import Pacer
from daemon.peer_auth import SESSION_HEADER, Gatekeeper
from origin.digests import page_bytes
from origin.disk import FileChanged, OpenFile
from origin.ledger import DIRECT, OriginLedger, Run
from origin.library import Found, Library, read_path
from swarm import pieces
from swarm.accounting import Reason
from swarm.metainfo import Signed, piece_bytes_for
from swarm.names import BadPath, Path
from swarm.wire import Ask, PageFrame, PointerFrame, RefusedFrame, UnchangedFrame, Why

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20  # read at once, so that small pieces do not cost a thread switch each
READ_AHEAD = 3  # batches read while one is being sent


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring pieces of one page, read at once."""

    page: int
    first_piece: int
    end_piece: int


@dataclass(slots=True)
class Coming:
    """A batch on its way: its page (None if this stream sent it already) and its bytes."""

    batch: Batch
    page: "asyncio.Task[Signed] | None"
    data: "asyncio.Future[bytes]"

    def cancel(self) -> None:
        for doing in (self.page, self.data):
            if doing is not None and not doing.cancel() and not doing.cancelled():
                doing.exception()  # seen: the answer has failed already


def batches(wanted: int, size: int) -> Iterator[Batch]:
    """The pieces of a bitmap in rising order, in batches that a page covers."""
    piece_bytes = piece_bytes_for(size)
    per_page = page_bytes(size) // piece_bytes
    per_batch = max(1, BATCH_BYTES // piece_bytes)
    for first, end in pieces.spans(wanted):
        while first < end:
            page = first // per_page
            stop = min(end, first + per_batch, (page + 1) * per_page)
            yield Batch(page, first, stop)
            first = stop


class AskHandler:
    """Answers whoever asks: everything here is public and signed. `gatekeeper` None: no swarm is set up."""

    def __init__(
        self, library: Library, ledger: OriginLedger, gatekeeper: Gatekeeper | None, pacer: Pacer | None = None
    ) -> None:
        self._library = library
        self._ledger = ledger
        self._gatekeeper = gatekeeper
        self._pacer = pacer

    async def handle_ask(self, request: web.Request) -> web.StreamResponse:
        """400 for nonsense, 401 for a session that does not prove the secret."""
        ask, body = await read_ask(request)
        asker = self._asker(request, body)
        try:
            path = read_path(ask.site, ask.path)
        except BadPath as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        answer = Answer(FrameStream(request, self._pacer), self._library, ask, path)
        try:
            await answer.stream.open()
            await answer.send()
            response = await answer.stream.end()
        except TimeoutError:
            log.info("an asker took nothing for too long", extra=fields(asker=asker, path=path.key))
            return answer.stream.cut()
        finally:
            self._ledger.on_control(answer.stream.control)
        self._ledger.on_sent(
            asker, ask.reason or Reason.STANDALONE, answer.stream.sent_bytes, identity=answer.identity, runs=answer.runs
        )
        return response

    def _asker(self, request: web.Request, body: bytes) -> str:
        if SESSION_HEADER not in request.headers:
            return DIRECT
        if self._gatekeeper is None:
            raise web.HTTPUnauthorized(text="no swarm is set up here\n")
        return admit(self._gatekeeper, request, body)


class Answer:
    """The answer to one question, and what was sent in it."""

    def __init__(self, stream: FrameStream, library: Library, ask: Ask, path: Path) -> None:
        self.stream = stream
        self.identity = ""
        self.runs: list[Run] = []
        self._library = library
        self._ask = ask
        self._path = path
        self._unsent_from = 0  # pieces go out in rising order

    async def send(self) -> None:
        """Everything but END. ConnectionError, TimeoutError if the asker is gone."""
        try:
            found = await self._library.find(self._path)
        except (OSError, FileChanged) as error:
            await self._refuse(Why.ORIGIN, self._ask.wanted(), f"cannot be read: {error}")
            return
        if found is None:
            await self._send_absent()
            return
        with found:
            self.identity = found.file.identity
            if self._ask.version is None:
                await self._send_meaning(found)
            else:
                await self._send_wanted(found, self._ask.version)

    async def _send_absent(self) -> None:
        if self._ask.version is None:
            await self._send_pointer(None)
        else:
            await self._refuse(Why.UNKNOWN, self._ask.wanted(), "gone")

    async def _send_meaning(self, found: Found) -> None:
        is_news = await self._send_pointer(found)
        version = found.version_of(self._path)
        if is_news and found.file.size <= self._ask.inline_bytes and version != self._ask.known_version:
            await self._send_pieces(found.file, version, _all_pieces(found.file.size))

    async def _send_pointer(self, found: Found | None) -> bool:
        """False if the asker has it already."""
        known = self._ask.known_sequence
        issued = self._library.pointer(self._path, found, known)
        age_ms = issued.age_ms(self._library.now())
        is_news = known is None or known < issued.pointer.sequence
        await self.stream.send(PointerFrame(issued.signed, age_ms) if is_news else UnchangedFrame(age_ms))
        return is_news

    async def _send_wanted(self, found: Found, version: bytes) -> None:
        if found.version_of(self._path) != version:
            await self._refuse(Why.UNKNOWN, self._ask.wanted(), "changed: the path means another version now")
            return
        there = _all_pieces(found.file.size)
        wanted = self._ask.wanted()
        if self._ask.onward is not None:
            wanted |= there & ~pieces.of_span(0, min(max(0, self._ask.onward), there.bit_length()))
        if beyond := wanted & ~there:
            await self._refuse(Why.UNKNOWN, beyond, "no such piece")
        await self._send_pieces(found.file, version, wanted & there)

    async def _send_pieces(self, file: OpenFile, version: bytes, wanted: int) -> None:
        self.stream.expected_bytes = pieces.count(wanted) * piece_bytes_for(file.size)
        coming: deque[Coming] = deque()
        sent_pages: set[int] = set()
        try:
            for batch in batches(wanted, file.size):
                coming.append(self._start(file, version, batch, is_page_new=batch.page not in sent_pages))
                sent_pages.add(batch.page)
                if len(coming) > READ_AHEAD:
                    await self._send_batch(file, coming[0])
                    coming.popleft()
            while coming:
                await self._send_batch(file, coming[0])
                coming.popleft()
        except FileChanged:
            await self._refuse(Why.UNKNOWN, self._rest(wanted), "changed: the file was rewritten while it was sent")
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            await self._refuse(Why.ORIGIN, self._rest(wanted), f"cannot be read: {error.strerror}")
        finally:
            for one in coming:
                one.cancel()

    def _start(self, file: OpenFile, version: bytes, batch: Batch, *, is_page_new: bool) -> Coming:
        offset, end = _span(batch, file.size)
        page = asyncio.create_task(self._library.page(version, file, batch.page)) if is_page_new else None
        return Coming(batch, page, file.read(offset, end - offset))

    async def _send_batch(self, file: OpenFile, coming: Coming) -> None:
        if coming.page is not None:
            await self.stream.send(PageFrame(await self.stream.waiting(coming.page)))
        data: bytes = await self.stream.waiting(coming.data)
        piece_bytes = piece_bytes_for(file.size)
        for piece in range(coming.batch.first_piece, coming.batch.end_piece):
            at = (piece - coming.batch.first_piece) * piece_bytes
            await self.stream.send_piece(piece, data[at : at + piece_bytes])
            self._unsent_from = piece + 1
        self.runs.append(_span(coming.batch, file.size))

    def _rest(self, wanted: int) -> int:
        """What of it was not sent yet."""
        return wanted >> self._unsent_from << self._unsent_from

    async def _refuse(self, why: Why, unsent: int, detail: str) -> None:
        await self.stream.send(RefusedFrame(why, tuple(pieces.spans(unsent)), detail=detail))


def _all_pieces(size: int) -> int:
    return pieces.of_span(0, -(-size // piece_bytes_for(size)))


def _span(batch: Batch, size: int) -> Run:
    piece_bytes = piece_bytes_for(size)
    return batch.first_piece * piece_bytes, min(batch.end_piece * piece_bytes, size)
