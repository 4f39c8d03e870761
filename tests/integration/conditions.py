"""What RFC 9110 says of ranges and conditional requests, as a table: options for curl, and the answer to expect.

`ETAG`, `DATE` (its Last-Modified), `LATER` and `EARLIER` stand for those of the file asked for.
"""

import hashlib
import os
import random
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from deploy.programs import Swarm
from tests.integration.curl import Answer, curl

SIZE = 100_000
DAY_S = 86_400


@dataclass(frozen=True)
class Case:
    """`span` of the body is expected (None: no body); `section` is where RFC 9110 says so."""

    options: tuple[str, ...]
    status: int
    span: tuple[int, int] | None
    section: str
    content_range: str | None = None


WHOLE = (0, SIZE)


def header(name: str, value: str, *more: str) -> tuple[str, ...]:
    return ("-H", f"{name}: {value}", *more)


def part(options: tuple[str, ...], start: int, end: int, section: str = "14.2") -> Case:
    return Case(options, 206, (start, end), section, f"bytes {start}-{end - 1}/{SIZE}")


CASES = (
    Case((), 200, WHOLE, "9.3.1"),
    Case(("-I",), 200, None, "9.3.2"),
    part(("-r", "0-0"), 0, 1),
    part(("-r", "0-99"), 0, 100),
    part(("-r", "16383-16384"), 16383, 16385),
    part(("-r", "500-"), 500, SIZE),
    part(("-r", "-100"), SIZE - 100, SIZE),
    part(("-r", "-200000"), 0, SIZE),
    part(("-r", "99990-200000"), 99990, SIZE),
    Case(("-r", f"{SIZE}-"), 416, None, "15.5.17", f"bytes */{SIZE}"),
    Case(("-r", f"{SIZE}-{SIZE + 5}"), 416, None, "15.5.17", f"bytes */{SIZE}"),
    Case(("-r", "-0"), 416, None, "14.1.2", f"bytes */{SIZE}"),
    Case(header("Range", "bytes=5-2"), 200, WHOLE, "14.1.1"),
    Case(header("Range", "bytes=x"), 200, WHOLE, "14.2"),
    Case(header("Range", "lines=1-2"), 200, WHOLE, "14.2"),
    Case(("-I", "-r", "0-99"), 200, None, "14.2"),
    Case(header("If-None-Match", "ETAG"), 304, None, "13.1.2"),
    Case(header("If-None-Match", "W/ETAG"), 304, None, "13.1.2"),
    Case(header("If-None-Match", '"other", ETAG'), 304, None, "13.1.2"),
    Case(header("If-None-Match", "*"), 304, None, "13.1.2"),
    Case(header("If-None-Match", '"other"'), 200, WHOLE, "13.1.2"),
    Case(header("If-None-Match", "ETAG", "-I"), 304, None, "13.1.2"),
    Case(header("If-None-Match", "ETAG", "-r", "0-99"), 304, None, "13.2.2"),
    Case(header("If-Modified-Since", "DATE"), 304, None, "13.1.3"),
    Case(header("If-Modified-Since", "LATER"), 304, None, "13.1.3"),
    Case(header("If-Modified-Since", "EARLIER"), 200, WHOLE, "13.1.3"),
    Case(header("If-Modified-Since", "yesterday"), 200, WHOLE, "13.1.3"),
    Case((*header("If-None-Match", '"other"'), *header("If-Modified-Since", "DATE")), 200, WHOLE, "13.1.3"),
    Case(header("If-Match", "ETAG"), 200, WHOLE, "13.1.1"),
    Case(header("If-Match", "*"), 200, WHOLE, "13.1.1"),
    Case(header("If-Match", '"other"'), 412, None, "13.1.1"),
    Case(header("If-Match", "W/ETAG"), 412, None, "13.1.1"),
    part(header("If-Match", "ETAG", "-r", "0-99"), 0, 100, "13.2.2"),
    Case(header("If-Unmodified-Since", "DATE"), 200, WHOLE, "13.1.4"),
    Case(header("If-Unmodified-Since", "EARLIER"), 412, None, "13.1.4"),
    part(header("If-Range", "ETAG", "-r", "0-99"), 0, 100, "13.1.5"),
    part(header("If-Range", "DATE", "-r", "0-99"), 0, 100, "13.1.5"),
    Case(header("If-Range", '"other"', "-r", "0-99"), 200, WHOLE, "13.1.5"),
    Case(header("If-Range", "W/ETAG", "-r", "0-99"), 200, WHOLE, "13.1.5"),
    Case(header("If-Range", "EARLIER", "-r", "0-99"), 200, WHOLE, "13.1.5"),
    Case(header("If-Range", '"other"', "-r", f"{SIZE}-"), 200, WHOLE, "14.2"),
)


class Asked:
    """A file made for one case, so that the first edge asked for it is cold."""

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.path = f"/case-{number}.bin"
        file = swarm.media / self.path[1:]
        self.body = random.Random(number).randbytes(SIZE)
        file.write_bytes(self.body)
        changed = file.stat().st_mtime - 10 * DAY_S
        os.utime(file, (changed, changed))
        origin = curl(swarm.directory, f"http://{swarm.origin_address}{self.path}", "-I")
        self.etag = origin.headers["etag"]
        self.words = {
            "ETAG": self.etag,
            "DATE": origin.headers["last-modified"],
            "LATER": formatdate(changed + DAY_S, usegmt=True),
            "EARLIER": formatdate(changed - DAY_S, usegmt=True),
        }

    def options(self, case: Case) -> list[str]:
        filled = []
        for option in case.options:
            for word, value in self.words.items():
                option = option.replace(word, value)
            filled.append(option)
        return filled


def amiss(case: Case, asked: Asked, answer: Answer) -> list[str]:
    """How the answer differs from what the RFC says; nothing if it does not."""
    found = []
    if answer.status != case.status:
        found.append(f"status {answer.status} instead of {case.status}")
    expected = asked.body[slice(*case.span)] if case.span else None
    if expected is not None and answer.body != expected:
        found.append(f"{len(answer.body)} bytes, {hashlib.sha256(answer.body).hexdigest()[:8]}, not those asked for")
    if case.status in (200, 206, 304) and answer.headers.get("etag") != asked.etag:
        found.append(f"ETag {answer.headers.get('etag')}")
    if answer.headers.get("content-range") != case.content_range:
        found.append(f"Content-Range {answer.headers.get('content-range')}")
    if case.status == 304 and answer.body:
        found.append("a 304 with a body")
    if "-I" in case.options and case.status == 200 and answer.headers.get("content-length") != str(SIZE):
        found.append(f"HEAD says Content-Length {answer.headers.get('content-length')}")
    if "date" not in answer.headers:
        found.append("no Date")
    return [f"{' '.join(case.options) or 'GET'} (RFC 9110 section {case.section}): {one}" for one in found]


def check_all(swarm: Swarm, edges: list[str], directory: Path) -> list[str]:
    """Each case at each edge, cold at the first, warm when asked again."""
    found = []
    for number, case in enumerate(CASES):
        asked = Asked(swarm, number)
        for node in [*edges, edges[0]]:
            answer = curl(directory, swarm.url(node, asked.path), *asked.options(case))
            found += [f"{node}: {one}" for one in amiss(case, asked, answer)]
    return found


def check_several_ranges(swarm: Swarm, node: str, directory: Path) -> list[str]:
    """RFC 9110 section 14.2 lets a server answer several ranges with all parts (15.3.7.2) or with the whole."""
    asked = Asked(swarm, 1000)
    answer = curl(directory, swarm.url(node, asked.path), "-r", "0-9,50000-50009")
    if answer.status == 200:
        return [] if answer.body == asked.body else ["several ranges: 200 without the whole body"]
    is_multipart = answer.status == 206 and answer.headers["content-type"].startswith("multipart/byteranges")
    has_both = asked.body[:10] in answer.body and asked.body[50000:50010] in answer.body
    return [] if is_multipart and has_both else [f"several ranges: status {answer.status}"]
