"""What this edge says of an answer in `Cache-Status` (RFC 9211)."""

import re
from enum import StrEnum

from swarm.accounting import Outcome, Source

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*", re.ASCII)


class Forwarded(StrEnum):
    """Why a request went on from here."""

    URI_MISS = "uri-miss"  # nothing stored of the path
    VARY_MISS = "vary-miss"  # only what other requests select
    STALE = "stale"  # what is stored was no longer fresh
    METHOD = "method"  # its method is the origin's to answer
    REQUEST = "request"  # the request itself forbade it, or asked for it
    BYPASS = "bypass"  # answers here are for one viewer each


def cache_status(
    node: str,
    outcome: Outcome,
    *,
    source: Source | None = None,
    why: Forwarded = Forwarded.URI_MISS,
    status: int | None = None,
    ttl_s: float | None = None,
) -> str:
    """This edge's member. `source`: of the first byte; `status`: the origin's; `ttl_s`: how long it stays fresh."""
    match outcome:
        case Outcome.HIT | Outcome.STALE_HIT:
            parameters = ["hit"]
        case Outcome.JOINED:
            parameters = [f"fwd={why}", _fwd_status(status), "collapsed", "stored"]
        case Outcome.MISS:
            parameters = [f"fwd={why}", _fwd_status(status), "stored"]
        case Outcome.REVALIDATED:
            parameters = [f"fwd={Forwarded.STALE}", _fwd_status(304)]
        case _:
            parameters = [f"fwd={why}", _fwd_status(status)]
    if ttl_s is not None:
        parameters.append(f"ttl={int(ttl_s // 1)}")
    if source is not None:
        parameters.append(f"detail={source}")
    return "; ".join(filter(None, (_name(node), *parameters)))


def _fwd_status(status: int | None) -> str:
    return "" if status is None else f"fwd-status={status}"


def _name(node: str) -> str:
    """A node's name as an sf-token, else as an sf-string (RFC 9651)."""
    return node if _TOKEN.fullmatch(node) else '"' + node.replace("\\", "\\\\").replace('"', '\\"') + '"'
