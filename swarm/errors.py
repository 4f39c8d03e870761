"""Errors by who must act next; shells translate library errors into these at one boundary each."""

from swarm.accounting import Cause


class RemoteError(Exception):
    """The other side broke the protocol: charge it, and ask the next holder."""

    def __init__(self, message: str, cause: Cause = Cause.FRAMING) -> None:
        super().__init__(message)
        self.cause = cause


class Unreachable(Exception):
    """The other side cannot be reached, was silent too long or broke off: nobody lied, ask the next one."""


class OriginUnreachable(Exception):
    """Nobody could fill this; a stale copy may still be served. `timed_out`: 504, not 502 (RFC 9110 section 15.6).
    `status`: what the origin answered, if it did."""

    def __init__(self, message: str, *, timed_out: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.status = status
