"""The head of an HTTP/1.1 request, read strictly: where the message ends must never be a matter of opinion.

Two readers that disagree about it can be made to answer a request that nobody sent (request smuggling). What is
ambiguous is refused, not guessed: RFC 9112 sections 2.2, 3, 5 and 6, RFC 9110 section 5.5.
"""

import re
from dataclasses import dataclass

MOST_LINE_BYTES = 16 << 10  # of the request line, and of each field
MOST_FIELDS = 128
MOST_HEAD_BYTES = 32 << 10
MOST_LENGTH_DIGITS = 18  # of a Content-Length
MOST_CHUNK_LINE_BYTES = 4096
MOST_TRAILER_BYTES = 8192
CR, LF = b"\r\n"

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
_TARGET = re.compile(r"/|https?://[^/?#]", re.IGNORECASE)
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=\x80-\xff]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?", re.ASCII
)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")

# Those that aiohttp's parser, behind us, has heard of; the registry of RFC 9110 section 16.1 and QUERY among them.
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY"}
    | {"COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND", "ACL"}
    | {"REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "MKCALENDAR", "LINK", "UNLINK"}
    | {"M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "SOURCE"}
)
BAD_REQUEST, URI_TOO_LONG, HEADERS_TOO_LARGE, NOT_IMPLEMENTED, BAD_VERSION = 400, 414, 431, 501, 505


class BadHead(ValueError):
    """A head nobody should act upon: answer `status`, and close."""

    def __init__(self, why: str, status: int = BAD_REQUEST) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`fields` are (name in lower case, value), decoded as Latin-1. The body has `body_bytes`, or comes in chunks."""

    method: str
    target: str
    minor: int  # of HTTP/1.x
    fields: tuple[tuple[str, str], ...]
    body_bytes: int = 0
    chunked: bool = False

    def all(self, name: str) -> list[str]:
        """The values of a field, by its name in lower case."""
        return [value for field, value in self.fields if field == name]


def check_beginning(data: bytes) -> None:
    """Refuse what cannot become a head any more, before its end has come. BadHead."""
    line_ends = data.count(b"\r\n")
    if data.count(b"\n") > line_ends or data.count(b"\r", 0, -1) > line_ends:
        raise BadHead("a line that ends in a bare CR or LF")
    if len(data) > MOST_HEAD_BYTES:
        raise BadHead("the header is too large", HEADERS_TOO_LARGE)
    line_end = data.find(b"\r\n")
    if (len(data) if line_end < 0 else line_end) > MOST_LINE_BYTES:
        raise BadHead("the request line is too long", URI_TOO_LONG)


def parse_head(head: bytes) -> RequestHead:
    """A whole head, with the empty line that ends it. BadHead."""
    check_beginning(head)
    line, *lines = head.split(b"\r\n")[:-2]
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadHead("a malformed request line")
    if match[3] != b"1":
        raise BadHead("only HTTP/1.0 and HTTP/1.1 are spoken here", BAD_VERSION)
    if len(lines) > MOST_FIELDS:
        raise BadHead("too many header fields", HEADERS_TOO_LARGE)
    fields = tuple(_field(field) for field in lines)
    method, target, minor = match[1].decode("ascii"), match[2].decode("latin-1"), int(match[4])
    _check_target(method, target)
    _check_host([value for name, value in fields if name == "host"], minor)
    length, chunked = _framing(fields, minor)
    return RequestHead(method, target, minor, fields, length, chunked)


def _field(line: bytes) -> tuple[str, str]:
    if line[:1] in (b" ", b"\t"):
        raise BadHead("a folded header field")  # RFC 9112 section 5.2
    if len(line) > MOST_LINE_BYTES:
        raise BadHead("a header field is too long", HEADERS_TOO_LARGE)
    match = _FIELD.fullmatch(line)
    if match is None:
        raise BadHead("a malformed header field")
    return match[1].decode("ascii").lower(), match[2].strip(b" \t").decode("latin-1")


def _check_target(method: str, target: str) -> None:
    if method == "CONNECT":
        raise BadHead("no tunnels here", NOT_IMPLEMENTED)
    if method not in METHODS:
        raise BadHead("an unknown method", NOT_IMPLEMENTED)  # RFC 9110 section 9.1
    if not _TARGET.match(target) and (method, target) != ("OPTIONS", "*"):
        raise BadHead("a malformed request target")


def _check_host(hosts: list[str], minor: int) -> None:
    """RFC 9112 section 3.2: exactly one, and well-formed; HTTP/1.0 may do without."""
    if len(hosts) > 1 or (not hosts and minor >= 1):
        raise BadHead("exactly one Host is needed")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadHead("a malformed Host")


def _framing(fields: tuple[tuple[str, str], ...], minor: int) -> tuple[int, bool]:
    """How long the body is (RFC 9112 section 6.3): its bytes, and whether it is chunked instead."""
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths:
            raise BadHead("both Content-Length and Transfer-Encoding")
        if minor < 1:
            raise BadHead("Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise BadHead("a transfer coding other than chunked", NOT_IMPLEMENTED)
        return 0, True
    if not lengths:
        return 0, False
    length = lengths[0]
    if len(lengths) > 1 or not (length.isascii() and length.isdigit()) or len(length) > MOST_LENGTH_DIGITS:
        raise BadHead("a malformed Content-Length")
    return int(length), False


def without(head: bytes, name: bytes) -> bytes:
    """A valid head without the fields of a name (in lower case)."""
    first, *lines = head.split(b"\r\n")
    return b"\r\n".join([first, *(line for line in lines if line.partition(b":")[0].lower() != name)])


class ChunkedBody:
    """Finds the end of a chunked body that comes in any number of parts (RFC 9112 section 7.1)."""

    def __init__(self) -> None:
        self._line = b""  # begun
        self._data_bytes = 0  # still to come of the chunk, with the CRLF behind it
        self._trailer_bytes = 0
        self._in_trailers = False

    def feed(self, data: bytes) -> int | None:
        """How many of these bytes belong to the body, if it ends among them; None if all do and it goes on. BadHead."""
        at = 0
        while at < len(data):
            if self._data_bytes:
                at = self._skip_data(data, at)
                continue
            end = data.find(b"\n", at)
            self._line += data[at:] if end < 0 else data[at : end + 1]
            if len(self._line) > MOST_CHUNK_LINE_BYTES:
                raise BadHead("a chunk's first line, or a trailer, is too long")
            if end < 0:
                return None
            at = end + 1
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                raise BadHead("a bare CR or LF in a chunked body")
            if self._on_line(line[:-2]):
                return at
        return None

    def _skip_data(self, data: bytes, at: int) -> int:
        """Past the chunk's bytes; the two behind them must be CRLF."""
        passed = min(len(data) - at, self._data_bytes)
        for place, expected in ((self._data_bytes - 2, CR), (self._data_bytes - 1, LF)):
            if 0 <= place < passed and data[at + place] != expected:
                raise BadHead("a chunk is longer than it says")
        self._data_bytes -= passed
        return at + passed

    def _on_line(self, line: bytes) -> bool:
        """Whether this line ends the body."""
        if self._in_trailers:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MOST_TRAILER_BYTES:
                raise BadHead("the trailers are too large")
            if line:
                _field(line)
            return not line
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise BadHead("a malformed chunk size")
        size = int(match[1], 16)
        self._in_trailers = size == 0
        self._data_bytes = size + 2 if size else 0
        return False
