"""What peers sent is held against what they sign for: a sender of bad bytes is heard out for its statement.

The plan goes on without it at once. Its stream is read on, aside and not for long, until it signs for what it sent: if
that contradicts itself it is evidence (`swarm/evidence.py`), otherwise the link is broken and nobody is accused.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from daemon.peer_auth import WrongSecret
from edge.metrics import EdgeMetrics
from swarm.accounting import Source
from swarm.errors import RemoteError, Unreachable
from swarm.evidence import Heard, SentWrong
from swarm.wire import EndFrame, Frame, PageFrame, PieceFrame, SentFrame

log = logging.getLogger(__name__)

HEAR_OUT_S = 3.0
HEAR_OUT_BYTES = 3 << 20  # a sender signs once per MiB, or sooner
MOST_HEARINGS = 8  # at once; bad streams beyond it are only closed


class Hearings:
    """The bad streams of one edge. `accuse` is given the node and what contradicts itself, its signature unchecked."""

    def __init__(self, metrics: EdgeMetrics, accuse: Callable[[str, SentWrong], None]) -> None:
        self._metrics = metrics
        self._accuse = accuse
        self._tasks: dict[asyncio.Task[None], str] = {}

    def __repr__(self) -> str:
        return f"<Hearings of {list(self._tasks.values())}>"

    def hear_out(self, node: str, heard: Heard, frames: AsyncGenerator[Frame, None]) -> bool:
        """Whether `frames` is now ours to close."""
        if len(self._tasks) >= MOST_HEARINGS or node in self._tasks.values():
            return False
        task = asyncio.create_task(self._hear(node, heard, frames), name=f"hearing {node}")
        self._tasks[task] = node
        task.add_done_callback(self._on_done)
        return True

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def _hear(self, node: str, heard: Heard, frames: AsyncGenerator[Frame, None]) -> None:
        async with aclosing(frames):
            try:
                async with asyncio.timeout(HEAR_OUT_S):
                    signed = await self._until_signed(heard, frames)
            except (TimeoutError, RemoteError, Unreachable, WrongSecret) as error:
                log.info("peer %s did not sign for what it sent: %s", node, str(error) or "nothing came")
                return
        case = heard.on_signed(signed.signed) if signed is not None else None
        if case is not None:
            self._accuse(node, case)

    async def _until_signed(self, heard: Heard, frames: AsyncGenerator[Frame, None]) -> SentFrame | None:
        left = HEAR_OUT_BYTES
        async for frame in frames:
            match frame:
                case SentFrame():
                    return frame
                case EndFrame():
                    return None
                case PageFrame(signed):
                    heard.on_page(signed)
                case PieceFrame(piece, data):
                    self._metrics.fetched_bytes[Source.PEER] += len(data)
                    heard.on_piece(piece, hashlib.sha256(data).digest())
                    left -= len(data)
                case _:
                    left -= 1024
            if left < 0:
                return None
        return None

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
