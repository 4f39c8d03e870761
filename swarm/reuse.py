"""Which stored response may answer a request, and what of requests and responses is kept (RFC 9110, RFC 9111).

A **variant** is what a response was selected by: the request fields its `Vary` names, one a line, in the order of their
names, with their normalised values ("accept-language: de,en", or the bare name of a field that was absent). The empty
variant answers every request. From a variant the request that selects it can be made again.
"""

from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

from swarm.headers import Headers, combined, first

# Fields between two neighbours (RFC 9110 section 7.6.1), and older ones that everybody treats so.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization"}
    | {"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
PRECONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"})
_OF_A_PART = PRECONDITIONS | {"range"}
# What tells how the stored body reads stays with it, whatever a later 304 says of its own (RFC 9111 section 3.2).
_OF_THE_BODY = frozenset({"content-length", "content-encoding", "content-range"})

Fields = tuple[tuple[str, str], ...]


def end_to_end(headers: Headers, but: Iterable[str] = ()) -> Fields:
    """The fields meant for whoever is at the other end: none of this connection's, nor those it names (RFC 9110
    section 7.6.1). `but`: more names, in lower case, to leave out. Bytes that are no UTF-8 are replaced."""
    fields = list(headers)
    named = (name.strip().lower() for name in (combined(fields, "Connection") or "").split(","))
    dropped = HOP_BY_HOP.union(named, but)
    return tuple((name, _readable(value)) for name, value in fields if name.lower() not in dropped)


def _readable(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def for_the_whole(request: Headers) -> Fields:
    """A viewer's fields without those that ask for a part, or for nothing if its own copy is good: what is stored must
    be whole."""
    return tuple((name, value) for name, value in request if name.lower() not in _OF_A_PART)


def has_preconditions(request: Headers) -> bool:
    return any(name.lower() in PRECONDITIONS for name, _ in request)


# --- Vary


def variant_of(vary: str | None, request: Headers) -> str | None:
    """The variant of a response with this (combined) `Vary`; None for "*", which no other request may reuse."""
    names = {name.strip().lower() for name in (vary or "").split(",")} - {""}
    return None if "*" in names else _selected_by(names, request)


def suits(variant: str, request: Headers, content_language: str | None = None) -> bool:
    """Whether a response selected as this variant answers a request too (RFC 9111 section 4.1).

    `content_language`: of the response. It also answers who wants that very language above all others.
    """
    if not variant:
        return True
    fields = list(request)
    for line in variant.split("\n"):
        name = line.partition(": ")[0]
        if line == _line(name, fields):
            continue
        if name != "accept-language" or content_language is None or _favourite(fields) != content_language.lower():
            return False
    return True


def likely_variant(variant: str, request: Headers) -> str:
    """What a request would select if the next response varies by what this one did."""
    return _selected_by((line.partition(": ")[0] for line in variant.split("\n") if line), request)


def fields_of(variant: str) -> Fields:
    """The request fields that select it."""
    return tuple(
        (name, value) for name, separator, value in (line.partition(": ") for line in variant.split("\n")) if separator
    )


def _selected_by(names: Iterable[str], request: Headers) -> str:
    fields = list(request)
    return "\n".join(_line(name, fields) for name in sorted(names))


def _line(name: str, fields: Headers) -> str:
    value = combined(fields, name)
    if value is None:
        return name
    return f"{name}: {_NORMALISED.get(name, _without_spaces)(value)}"


def _without_spaces(value: str) -> str:
    """One spelling of a list. Where there are quotes, commas may lie between them: left as it is."""
    return value.strip() if '"' in value else ",".join(member.strip() for member in value.split(","))


def _weighed(value: str) -> list[tuple[str, float]]:
    """(member in lower case, its weight) of a field such as Accept-Language (RFC 9110 section 12.4.2)."""
    found = []
    for member in value.lower().split(","):
        name, _, parameter = member.partition(";")
        weight = parameter.strip().removeprefix("q=").strip()
        try:
            found.append((name.strip(), float(weight) if weight else 1.0))
        except ValueError:
            found.append((member.strip(), 1.0))
    return [(name, weight) for name, weight in found if name]


def _languages(value: str) -> str:
    """Order means nothing beside weights, nor does case."""
    return ",".join(sorted(name if weight == 1 else f"{name};q={weight:g}" for name, weight in _weighed(value)))


def _codings(value: str) -> str:
    """Which codings are acceptable at all: servers do not weigh them, and browsers spell them in many ways."""
    return ",".join(sorted({name for name, weight in _weighed(value) if weight > 0} - {"identity"}))


_NORMALISED = {"accept-language": _languages, "accept-encoding": _codings}


def _favourite(request: Headers) -> str | None:
    """The one language wanted above all others."""
    wanted = _weighed(combined(request, "Accept-Language") or "")
    most = max((weight for _, weight in wanted), default=0.0)
    favourites = [name for name, weight in wanted if weight == most > 0]
    return favourites[0] if len(favourites) == 1 else None


# --- responses


def updated(stored: Headers, fresh: Headers) -> Fields:
    """A 304's fields, or those of a HEAD, replace the stored ones of the same name (RFC 9111 section 3.2)."""
    new = tuple((name, value) for name, value in fresh if name.lower() not in _OF_THE_BODY)
    names = {name.lower() for name, _ in new}
    return tuple((name, value) for name, value in stored if name.lower() not in names) + new


def validators(headers: Headers) -> tuple[str | None, str | None]:
    """ETag and Last-Modified."""
    fields = list(headers)
    return first(fields, "ETag"), first(fields, "Last-Modified")


def agrees(stored: Headers, size: int | None, head: Headers) -> bool:
    """Whether a HEAD's answer can be about the stored body: nothing that tells bodies apart differs (RFC 9111 section
    4.3.5)."""
    mine, theirs = list(stored), list(head)
    for name in ("ETag", "Last-Modified"):
        said = first(theirs, name)
        if said is not None and said != first(mine, name):
            return False
    length = first(theirs, "Content-Length")
    return length is None or size is None or length.strip() == str(size)


def invalidated(host: str, target: str, response: Headers) -> list[str]:
    """The targets whose stored responses an unsafe request made out of date when it succeeded (RFC 9111 section 4.4).

    Its own, and what `Location` and `Content-Location` name on the same host.
    """
    fields = list(response)
    base = f"http://{host}{target}"
    targets = [target]
    for name in ("Location", "Content-Location"):
        value = first(fields, name)
        if value is None:
            continue
        try:
            url = urlsplit(urljoin(base, value))
        except ValueError:
            continue
        if url.netloc == host:
            targets.append((url.path or "/") + (f"?{url.query}" if url.query else ""))
    return list(dict.fromkeys(targets))
