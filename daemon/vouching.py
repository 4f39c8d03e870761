"""An edge signs for the pieces it sends: at most once per MiB or 250 ms of a stream (`swarm/evidence.py`)."""

import time
from collections.abc import Callable

from daemon.keys import Signer
from swarm.evidence import STATEMENT_CONTEXT, Stating
from swarm.metainfo import Metainfo, Signed


class Vouching:
    """The statements of one stream.

    The digest of a piece is not computed anew: it was when the piece was verified, and its bytes have not changed since
    (those from disk are checked against rot). Digest and page come from the same metainfo: so a sender that does not
    lie cannot contradict itself, whatever happens to the bytes behind this line, in our memory or on the way. What the
    receiver then finds wrong is a broken link.
    """

    def __init__(self, signer: Signer, swarm_time: Callable[[], float]) -> None:
        self._signer = signer
        self._swarm_time = swarm_time
        self._stating = Stating()

    def on_sent(self, meta: Metainfo, piece: int) -> Signed | None:
        """A statement, if it is time for one. KeyError if no page covers the piece."""
        told = meta.signed_page_of(piece)
        if told is None:
            raise KeyError(piece)
        return self.on_sent_as(meta.version, piece, meta.digest_of(piece), told[1], meta.span(piece)[1])

    def on_sent_as(self, version: bytes, piece: int, digest: bytes, page: Signed, size: int) -> Signed | None:
        is_due = self._stating.on_sent(version, piece, digest, page, size, time.monotonic())
        return self.statement() if is_due else None

    def statement(self) -> Signed | None:
        """For what is not signed yet."""
        body = self._stating.statement(self._swarm_time())
        return self._signer.sign(STATEMENT_CONTEXT, body) if body is not None else None
