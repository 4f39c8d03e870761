"""Which bytes, if any, a GET or HEAD is answered with: preconditions and ranges (RFC 9110 sections 13 and 14).

Ranges here are half-open, as everywhere in the code: (start, end) holds the bytes start ... end - 1.
"""

import re
from dataclasses import dataclass
from enum import Enum

from swarm.headers import Headers, combined, first
from swarm.http_dates import parse_http_date

MOST_RANGES = 64  # in one Range field; more are ignored as an attack would be (RFC 9110 section 17.15)

_RANGE_SPEC = re.compile(r"(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"')
# Every separator run is followed by a tag: were the tag optional, a row of commas could be split in 2^n ways.
_ETAG_LIST = re.compile(rf"[\s,]*{_ETAG.pattern}(?:\s*,[\s,]*{_ETAG.pattern})*[\s,]*")


class RangeVerdict(Enum):
    """What a Range field comes to when it names no bytes to send."""

    IGNORE = "ignore"  # absent, another unit, malformed, or too many: the whole, 200
    UNSATISFIABLE = "unsatisfiable"  # well-formed, but nothing of it lies in the body: 416


@dataclass(frozen=True, slots=True)
class Full:
    """200 (or the stored status): all of it."""


@dataclass(frozen=True, slots=True)
class Partial:
    """206: bytes start ... end - 1."""

    start: int
    end: int

    def content_range(self, size: int | None) -> str:
        """The Content-Range value; an unknown size is a star."""
        return f"bytes {self.start}-{self.end - 1}/{'*' if size is None else size}"


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: the asker's copy is current."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412: what the asker believed is not so."""


@dataclass(frozen=True, slots=True)
class NotSatisfiable:
    """416: none of the ranges lies in the body."""

    def content_range(self, size: int) -> str:
        """The Content-Range value, which tells the asker the size."""
        return f"bytes */{size}"


Answer = Full | Partial | NotModified | PreconditionFailed | NotSatisfiable


def evaluate(
    method: str,
    request_headers: Headers,
    etag: str | None,
    last_modified: str | None,
    size: int | None,
) -> Answer:
    """How a request for an existing body is answered, in the order of RFC 9110 section 13.2.2.

    `etag` and `last_modified` are the header values as the answer carries them. `size` None (not known yet): ranges are
    ignored. Several ranges are answered whole, as section 14.2 allows; of several only one of which lies in the body,
    that one is sent.
    """
    headers = list(request_headers)
    reads = method in ("GET", "HEAD")
    if (if_match := combined(headers, "If-Match")) is not None:
        if not _matches(if_match, etag, strongly=True):
            return PreconditionFailed()
    elif _modified_since(first(headers, "If-Unmodified-Since"), last_modified, unknown=False):
        return PreconditionFailed()
    if (if_none_match := combined(headers, "If-None-Match")) is not None:
        if _matches(if_none_match, etag, strongly=False):
            return NotModified() if reads else PreconditionFailed()
    elif reads and not _modified_since(first(headers, "If-Modified-Since"), last_modified, unknown=True):
        return NotModified()
    if method == "GET" and size is not None and _range_applies(headers, etag, last_modified):
        return _pick(parse_range(combined(headers, "Range"), size))
    return Full()


def parse_range(value: str | None, size: int) -> list[tuple[int, int]] | RangeVerdict:
    """The bytes that a Range field asks of a body of `size` bytes, clipped to it, in the order asked."""
    unit, equals, specs = (value or "").partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return RangeVerdict.IGNORE
    ranges: list[tuple[int, int]] = []
    listed = [spec.strip() for spec in specs.split(",")]
    named = [spec for spec in listed if spec]  # empty list members are allowed, RFC 9110 section 5.6.1
    if not named or len(named) > MOST_RANGES:
        return RangeVerdict.IGNORE
    for spec in named:
        bounds = _bounds(spec, size)
        if bounds is None:
            return RangeVerdict.IGNORE
        if bounds[0] < bounds[1]:
            ranges.append(bounds)
    return ranges or RangeVerdict.UNSATISFIABLE


def named_end(value: str | None) -> int | None:
    """One past the last byte that a Range field of one bounded range names: it can be answered before the size of the
    body is known (RFC 9110 section 14.4). None for any other."""
    unit, _, spec = (value or "").partition("=")
    match = _RANGE_SPEC.fullmatch(spec.strip())
    if unit.strip().lower() != "bytes" or match is None or not match["first"] or not match["last"]:
        return None
    return int(match["last"]) + 1 if int(match["first"]) <= int(match["last"]) else None


def _bounds(spec: str, size: int) -> tuple[int, int] | None:
    """One range clipped to the body, empty if it lies outside; None if malformed."""
    match = _RANGE_SPEC.fullmatch(spec)
    if match is None or spec == "-":
        return None
    if not match["first"]:  # the last N bytes
        return max(0, size - int(match["last"])), size
    start = int(match["first"])
    if not match["last"]:
        return start, size
    last = int(match["last"])
    return (start, min(last + 1, size)) if start <= last else None


def _pick(ranges: list[tuple[int, int]] | RangeVerdict) -> Answer:
    if ranges is RangeVerdict.UNSATISFIABLE:
        return NotSatisfiable()
    if isinstance(ranges, list) and len(ranges) == 1:
        return Partial(*ranges[0])
    return Full()


def _range_applies(headers: list[tuple[str, str]], etag: str | None, last_modified: str | None) -> bool:
    """If-Range (RFC 9110 section 13.1.5): the range only if the asker's part is of this very body."""
    condition = first(headers, "If-Range")
    if condition is None:
        return True
    condition = condition.strip()
    if _ETAG.fullmatch(condition):
        return _equal(condition, etag, strongly=True)
    # An exact match, not "not later than": a date is a weak witness, and a part glued to another body is a broken file.
    return last_modified is not None and condition == last_modified.strip() and parse_http_date(condition) is not None


def _matches(value: str, etag: str | None, *, strongly: bool) -> bool:
    """Whether an If-Match or If-None-Match field names this body; "*" names any. A malformed one names none."""
    if value.strip() == "*":
        return True
    if not _ETAG_LIST.fullmatch(value):
        return False
    return any(_equal(candidate, etag, strongly=strongly) for candidate in _ETAG.findall(value))


def _equal(candidate: str, etag: str | None, *, strongly: bool) -> bool:
    """RFC 9110 section 8.8.3.2: weak comparison looks past W/; the strong one never matches a weak tag."""
    if etag is None:
        return False
    if strongly:
        return candidate == etag and not etag.startswith("W/")
    return candidate.removeprefix("W/") == etag.removeprefix("W/")


def _modified_since(condition: str | None, last_modified: str | None, *, unknown: bool) -> bool:
    """Whether the body changed after the date; `unknown` if either date is missing (sections 13.1.3 and 13.1.4)."""
    since = parse_http_date(condition) if condition is not None else None
    modified = parse_http_date(last_modified) if last_modified is not None else None
    if since is None or modified is None:
        return unknown
    return modified > since
