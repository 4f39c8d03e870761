"""What a request names: a path is (site, URL path, the query that matters); and the id of one version of it (DESIGN 3).

The normaliser (RFC 3986 section 6) makes spellings that mean the same one path: unreserved characters decoded, the rest
encoded in upper-case hex, dot segments removed. What it returns is ASCII, starts with "/", and climbs nowhere. Nothing
is decoded twice: "%252e" stays what it is, three characters that happen to spell an encoding.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_plus, unquote_to_bytes

MOST_PATH_BYTES = 4096  # of the URL path, and again of the query that matters, both as normalised
MOST_NAME_BYTES = 255  # of one file name, the limit of every common file system
VERSION_FORMAT = 1

_HEX = re.compile(rb"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# RFC 3986 section 3.3 and 3.4: what may stand unencoded. "%" stays: it begins an encoding.
_PATH_ILLEGAL = re.compile(rb"[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]")
_QUERY_ILLEGAL = re.compile(rb"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadPath(ValueError):
    """The request target cannot name anything here: answer 400, read and write nothing."""


@dataclass(frozen=True, slots=True)
class Path:
    """A normalised name. `url_path` and `query` are ASCII as they stand in a request line; `query` has no "?"."""

    site: str
    url_path: str
    query: str = ""

    @property
    def target(self) -> str:
        """What to ask the origin for."""
        return f"{self.url_path}?{self.query}" if self.query else self.url_path

    @property
    def key(self) -> str:
        """The path as one string; equal only for equal paths, because no site contains "/"."""
        return self.site + self.target


def split_target(raw: str) -> tuple[str | None, str]:
    """Authority and origin-form target of a request line; the authority only in absolute form (RFC 9112 section 3.2.2).

    Takes the target as it was sent: a URL parsed by others has dot segments resolved and encodings changed.
    """
    scheme, found, rest = raw.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        return None, raw
    authority, slash, path = rest.partition("/")
    return authority, slash + path or "/"


def normalise(site: str, target: str, ignore_query: Iterable[str] = ()) -> Path:
    """The path that a request target (origin-form, RFC 9112 section 3.2.1) names at a site.

    Drops `CMCD` (CTA-5004: the player's measurements) and the parameters in `ignore_query`, by decoded name; the others
    keep their order. Raises BadPath.
    """
    try:
        raw = target.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadPath("the path is not UTF-8") from None
    raw_path, _, raw_query = raw.partition(b"?")
    return Path(site, _normalise_path(raw_path), _normalise_query(raw_query, {"CMCD", *ignore_query}))


def file_parts(url_path: str) -> tuple[str, ...]:
    """The decoded segments of a URL path, each safe as one name below a directory. Raises BadPath.

    Refuses what could be anything but a plain name: empty, ".", "..", or with "/", backslash, NUL or a control
    character once decoded. Dot segments are refused rather than resolved: a normalised path has none.
    """
    if not url_path.startswith("/"):
        raise BadPath("the path does not start with /")
    return tuple(_file_name(segment) for segment in url_path[1:].split("/"))


def version_id(path_key: str, variant: str, validator: str, size_or_generation: int) -> bytes:
    """The 16-byte id of a version: the same on every replica of an origin and after its restart.

    `variant` is what `Vary` selected by, `validator` a strong one (for files made of size and mtime), and
    `size_or_generation` the size where it is known, else a number that tells apart what the validator does not.
    """
    digest = hashlib.sha256(b"starling version\0" + bytes([VERSION_FORMAT]))
    for text in (path_key, variant, validator):
        # Each field says its length first: ("ab", "c") and ("a", "bc") are different versions.
        encoded = text.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(size_or_generation.to_bytes(8, "big"))
    return digest.digest()[:16]


_TOKEN_WORDS = {
    *("token", "sig", "sign", "signature", "auth", "authorization", "hmac", "jwt", "secret", "key", "apikey", "policy"),
    *("password", "passwd", "credential", "hdnea", "hdnts", "hdntl", "expires", "exp", "hash", "md5", "ticket"),
    *("verify", "wmsauthsign", "cat", "cdntoken", "accesstoken"),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+[0-9]*|[0-9]+")


def token_like(param_name: str) -> bool:
    """Whether a query parameter looks as if it proved somebody's right to the content.

    Start-up warns when such a one is in `cache.ignore_query`: it no longer guards what is cached (DESIGN 3).
    """
    words = {word.lower() for word in _WORD.findall(param_name)} | {param_name.lower()}
    return not words.isdisjoint(_TOKEN_WORDS)


def _normalise_path(raw: bytes) -> str:
    if not raw.startswith(b"/"):
        raise BadPath("the path does not start with /")
    if _STRAY_PERCENT.search(raw):
        raise BadPath("a percent sign without two hexadecimal digits")
    plain = unquote_to_bytes(raw)
    if b"\0" in plain or b"\\" in plain:
        raise BadPath("NUL or a backslash in the path")
    if b"#" in raw:
        raise BadPath("a fragment in the request target")
    try:
        plain.decode("utf-8")  # strict: overlong forms of "." and "/" are errors (RFC 3629 section 3)
    except UnicodeDecodeError:
        raise BadPath("the path is not UTF-8") from None
    path = _respell(raw, _PATH_ILLEGAL)
    if len(path) > MOST_PATH_BYTES:
        raise BadPath(f"the path is longer than {MOST_PATH_BYTES} bytes")
    return _remove_dot_segments(path)


def _normalise_query(raw: bytes, dropped: set[str]) -> str:
    """Parameters are told apart at "&"; a stray percent sign, which browsers let through, is encoded."""
    if b"#" in raw or b"\0" in raw:
        raise BadPath("NUL or a fragment in the request target")
    kept = [parameter for parameter in raw.split(b"&") if _parameter_name(parameter) not in dropped]
    query = _respell(_STRAY_PERCENT.sub(b"%25", b"&".join(kept)), _QUERY_ILLEGAL)
    if len(query) > MOST_PATH_BYTES:
        raise BadPath(f"the query is longer than {MOST_PATH_BYTES} bytes")
    return query


def _parameter_name(parameter: bytes) -> str:
    return unquote_plus(parameter.partition(b"=")[0].decode("utf-8", "surrogateescape"))


def _respell(raw: bytes, illegal: re.Pattern[bytes]) -> str:
    """One spelling for each meaning: RFC 3986 sections 6.2.2.1 and 6.2.2.2, and what is illegal encoded."""

    def decode_unreserved(match: re.Match[bytes]) -> bytes:
        byte = int(match[1], 16)
        return bytes([byte]) if byte in _UNRESERVED else match[0].upper()

    encoded = illegal.sub(lambda match: b"%%%02X" % match[0][0], raw)
    return _HEX.sub(decode_unreserved, encoded).decode("ascii")


def _remove_dot_segments(path: str) -> str:
    """RFC 3986 section 5.2.4, but a ".." above the root is BadPath, not forgiven."""
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if not kept:
                raise BadPath("the path climbs above the root")
            kept.pop()
        elif segment != ".":
            # "..%2F" is one odd name to us, but a server behind us that decodes it would climb.
            if ".." in re.split("%2F", segment):
                raise BadPath("a .. hidden behind an encoded slash")
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _file_name(segment: str) -> str:
    try:
        name = unquote_to_bytes(segment.encode("utf-8")).decode("utf-8")
    except UnicodeError:
        raise BadPath("the path is not UTF-8") from None
    if name in ("", ".", "..") or "/" in name or "\\" in name or _CONTROL.search(name):
        raise BadPath(f"{segment!r} is not a file name")
    if len(name.encode()) > MOST_NAME_BYTES:
        raise BadPath(f"a name longer than {MOST_NAME_BYTES} bytes")
    return name
