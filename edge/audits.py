"""Of the pieces of foreign origins that other edges vouched for, some are fetched again from the origin (decision 15).

A difference voids the record, whoever is to blame: what came of that version is forgotten and taken from the origin.
The signer is accused only where the origin cannot have changed its mind.
"""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.origins import Origin
from edge.plain_origin import PlainOrigin
from edge.pointers import Known
from edge.roster import Roster
from swarm.accounting import Reason, Source
from swarm.errors import OriginUnreachable
from swarm.evidence import AttestedWrong
from swarm.metainfo import Page, Pointer, Signed

log = logging.getLogger(__name__)

MOST_RATE = 0.01  # of the pieces an edge receives
SWARM_RATE = 0.04  # by all edges together ...
LEAST_RATE = 0.0025  # ... but no edge audits less
MOST_WAITING = 64  # audits; those chosen beyond it are left out


def rate(others: int) -> float:
    """The share of attested pieces that one edge audits.

    >>> [rate(others) for others in (1, 4, 8, 500)]
    [0.01, 0.01, 0.005, 0.0025]
    """
    return max(LEAST_RATE, min(MOST_RATE, SWARM_RATE / max(1, others)))


class Verdict(Enum):
    """What became of a record."""

    BORNE_OUT = "the origin says the same, or nothing that can be compared"
    DIFFERENT = "the origin says something else now, and may have said this then"
    LIE = "the origin never said this"


@dataclass(frozen=True)
class Audit:
    """A piece to be fetched again, and whose word is tried."""

    held: Held
    known: Known
    piece: int
    page: Signed


class Audits:
    """One edge's audits, one after another. `on_void` is told of a version whose record is no good, `accuse` of its
    signer where that is proof. `rng` must be nobody's to foresee."""

    def __init__(
        self,
        origins: Mapping[str, Origin],
        roster: Roster,
        metrics: EdgeMetrics,
        rng: random.Random,
        on_void: Callable[[Held], None],
        accuse: Callable[[str, AttestedWrong], None],
    ) -> None:
        self._origins = origins
        self._roster = roster
        self._metrics = metrics
        self._rng = rng
        self._on_void = on_void
        self._accuse = accuse
        self._waiting: list[Audit] = []
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Audits {len(self._waiting)} waiting>"

    def on_piece(self, held: Held, known: Known, piece: int) -> None:
        """An attested piece came from another edge and was found to be what its record says."""
        if self._rng.random() >= rate(len(self._roster.others())) or len(self._waiting) >= MOST_WAITING:
            return
        told = held.metainfo.signed_page_of(piece)
        if told is None or told[1].signer == self._roster.me or held.path.url_path.endswith(".m3u8"):
            return  # what a playlist says is rewritten on its way
        self._waiting.append(Audit(held, known, piece, told[1]))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="audits")

    async def _run(self) -> None:
        while self._waiting:
            audit = self._waiting.pop(0)
            meta = audit.held.metainfo
            offset, length = meta.span(audit.piece)
            verdict = await self._try(audit.known.pointer, offset, length, meta.digest_of(audit.piece))
            if verdict is not Verdict.BORNE_OUT:
                self._on_difference(audit, is_proof=verdict is Verdict.LIE)

    def _on_difference(self, audit: Audit, *, is_proof: bool) -> None:
        signer = audit.page.signer
        log.error(
            "piece %d of %s, vouched for by %s, is not the origin's: all of it is fetched anew",
            audit.piece, audit.held.path.target, signer,
        )  # fmt: skip
        self._on_void(audit.held)
        self._roster.health.on_wrong(signer, time.monotonic())
        if is_proof and audit.known.signed.signer == signer:
            self._accuse(signer, AttestedWrong(pointer=audit.known.signed, page=audit.page, piece=audit.piece))

    async def contradicts(self, pointer: Pointer, page: Page, piece: int) -> bool:
        """Whether the origin proves what somebody else accuses a home of."""
        return await self._try(pointer, *page.told(piece)) is Verdict.LIE

    async def _try(self, pointer: Pointer, offset: int, length: int, digest: bytes) -> "Verdict":
        """What the origin says of a record. Asked twice, lest it says something else each time."""
        data, is_proof = await self._fetch(pointer, offset, length)
        if data is None or hashlib.sha256(data).digest() == digest:
            return Verdict.BORNE_OUT
        again, _ = await self._fetch(pointer, offset, length)
        return Verdict.LIE if is_proof and again == data else Verdict.DIFFERENT

    async def _fetch(self, pointer: Pointer, offset: int, length: int) -> tuple[bytes | None, bool]:
        """The origin's bytes, if it gives any that can be compared; and whether it vouches that they never change."""
        origin = self._origins.get(pointer.site)
        if not isinstance(origin, PlainOrigin) or length <= 0:
            return None, False
        self._metrics.origin_requests[Reason.AUDIT] += 1
        try:
            again = await origin.piece(pointer, offset, length)
        except OriginUnreachable as error:
            log.info("%s was not audited: %s", pointer.path, error)
            return None, False
        self._metrics.origin_bytes[Reason.AUDIT] += again.read_bytes
        self._metrics.fetched_bytes[Source.ORIGIN] += again.read_bytes
        return again.data, again.is_proof

    async def close(self) -> None:
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
