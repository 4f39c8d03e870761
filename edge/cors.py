"""What pages of other hosts may ask of this edge, and read of its answers (the Fetch standard's CORS protocol)."""

import re
from collections.abc import Mapping

from aiohttp import hdrs
from multidict import CIMultiDict

READABLE = ("Age", "Date", "Content-Length", "Content-Range", "ETag", "Cache-Status", "Server-Timing")
METHODS = "GET, HEAD, OPTIONS"
LASTS_S = 86_400  # for browsers that believe so long

_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*,\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


def preflight(method: str, headers: Mapping[str, str]) -> dict[str, str] | None:
    """The answer to a browser that asks whether a page may read; None if this is no such question. What else it would
    do there, the origin must say."""
    wanted = headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
    if method != hdrs.METH_OPTIONS or wanted not in (hdrs.METH_GET, hdrs.METH_HEAD):
        return None
    names = headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "").strip()
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": METHODS,
        # By name: a star would not cover Authorization, and older players' browsers do not know it.
        "Access-Control-Allow-Headers": names if _NAMES.fullmatch(names) else "*",
        "Access-Control-Max-Age": str(LASTS_S),
    }


def expose(headers: CIMultiDict[str]) -> None:
    """Let pages read an answer: whose pages, is the origin's to say if it does; what, is its and ours."""
    headers.setdefault("Access-Control-Allow-Origin", "*")
    listed = ",".join(headers.popall("Access-Control-Expose-Headers", ())).split(",")
    names = {name.lower(): name for name in (*READABLE, *(name.strip() for name in listed)) if name}
    headers["Access-Control-Expose-Headers"] = ", ".join(names.values())
