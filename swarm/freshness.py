"""How long a stored response may be used (RFC 9111, RFC 5861), for a shared cache.

Without a word from the origin nothing is fresh: there is no heuristic lifetime, a stored response is revalidated on
every use. `hls_default` is the profile for streaming origins that are silent; the caller chooses to apply it. Ages and
lifetimes are seconds as floats: a live playlist judged in whole seconds is stale for up to one second more.
"""

import re
from dataclasses import dataclass
from enum import Enum

from swarm.headers import Headers, combined, first
from swarm.http_dates import parse_http_date

MOST_DELTA_S = 2**31  # larger delta-seconds count as this (RFC 9111 section 1.2.2)

# Stored without a lifetime stated (RFC 9110 section 15.1), 206 aside: parts are made from whole bodies here.
_STORABLE_SILENT = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
# Whose meaning for a cache is known here, as `must-understand` demands (RFC 9111 section 5.2.2.3).
_UNDERSTOOD = _STORABLE_SILENT | {302, 303, 307, 400, 403, 406, 421, 451, 500, 502, 503, 504}
_OF_NO_WHOLE_BODY = frozenset({206, 304})

# Fields meant for caches like this one; the first that is there and well-formed speaks instead of Cache-Control and
# Expires (RFC 9213 section 2.2).
TARGETED = ("Starling-Cache-Control", "CDN-Cache-Control")

_DIRECTIVE = re.compile(
    r'\s*(?P<name>[^\s,=";]+)\s*(?:=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s,"]*)))?\s*(?:,|$)'
)
_DELTA = re.compile(r"[0-9]{1,19}", re.ASCII)
_SECONDS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})

# A dictionary member of RFC 9651 section 3.2: key, and the bare item if it has one.
_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE = (
    r'(?:-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}|"(?:[ !#-\[\]-~]|\\["\\])*"|:[A-Za-z0-9+/=]*:|\?[01]|@-?[0-9]{1,15}'
    r"|[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*)"
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE})?)*"
_LIST = rf"\((?: *{_BARE}{_PARAMETERS}(?= |\)))* *\)"
_MEMBER = re.compile(
    rf"(?P<key>{_KEY})(?:=(?:(?P<bare>{_BARE})|(?P<list>{_LIST})))?{_PARAMETERS}(?:[ \t]*(?P<comma>,)[ \t]*|$)",
    re.ASCII,
)


class Freshness(Enum):
    """What may be done with a stored response at an age."""

    FRESH = "fresh"  # served as it is
    STALE_OK = "stale_ok"  # served as it is, revalidated behind the viewer's back (RFC 5861 section 3)
    STALE_IF_ERROR = "stale_if_error"  # revalidated first; served if the origin cannot answer (RFC 5861 section 4)
    EXPIRED = "expired"  # revalidated first; never served without


@dataclass(frozen=True, slots=True)
class Lifetime:
    """What the origin lets a shared cache do with a response; durations in seconds."""

    ttl_s: float = 0.0  # fresh this long after it was made
    swr_s: float = 0.0  # stale-while-revalidate, counted from the end of ttl
    sie_s: float = 0.0  # stale-if-error, counted from the end of ttl
    storable: bool = False  # False: passes through, is never shared
    revalidate_always: bool = False  # no-cache: stored, and asked about on every use
    explicit: bool = False  # the origin said something about caching; False: a profile may
    withheld: frozenset[str] = frozenset()  # fields, in lower case, that may not be stored with the rest


def lifetime(status: int, headers: Headers, *, received_at: float, authorized: bool = False) -> Lifetime:
    """What these response headers allow. `received_at`: wall time in seconds, for an Expires without a Date.

    `authorized`: the request carried Authorization; such a response is shared only with leave (RFC 9111 section 3.5).
    """
    fields = list(headers)
    targeted = _targeted(fields)
    directives = targeted or parse_cache_control(combined(fields, "Cache-Control"))
    expires = None if targeted else combined(fields, "Expires")
    stated_s = _stated_ttl(directives, expires, first(fields, "Date"), received_at)
    always = directives.get("no-cache", "") is None
    strict = always or "must-revalidate" in directives or "proxy-revalidate" in directives
    may_store = _may_store(status, directives, stated=stated_s is not None, authorized=authorized)
    return Lifetime(
        ttl_s=stated_s or 0.0,
        # s-maxage alone forbids stale use too (RFC 9111 section 4.2.4), but has no grace to take away;
        # beside stale-while-revalidate the origin has said what it wants.
        swr_s=0.0 if strict else _delta(directives, "stale-while-revalidate") or 0.0,
        sie_s=0.0 if strict else _delta(directives, "stale-if-error") or 0.0,
        storable=may_store and (_may_share_cookies(directives, shared=bool(targeted)) or not _sets_cookies(fields)),
        revalidate_always=always,
        explicit=bool(directives) or expires is not None,
        withheld=_withheld(directives),
    )


def freshness(lifetime: Lifetime, age_s: float) -> Freshness:
    """What may be done with a response that is `age_s` old. Each allowance ends before its last instant."""
    if lifetime.revalidate_always:
        return Freshness.EXPIRED
    if age_s < lifetime.ttl_s:
        return Freshness.FRESH
    # Both counts start at the end of ttl, not at the last use: otherwise each stale hit would extend them.
    if age_s < lifetime.ttl_s + lifetime.swr_s:
        return Freshness.STALE_OK
    if age_s < lifetime.ttl_s + lifetime.sie_s:
        return Freshness.STALE_IF_ERROR
    return Freshness.EXPIRED


def initial_age_s(headers: Headers, response_delay_s: float) -> float:
    """How old a response was when it arrived: its Age plus the time it took to answer (RFC 9111 section 4.2.3).

    The `Date` half of the formula is left out: it needs two clocks that agree, and an edge whose clock is wrong by half
    a minute must make no difference.
    """
    value = (first(headers, "Age") or "").partition(",")[0].strip()  # of a list, the first (section 5.1)
    stated_s = _seconds(value) if _DELTA.fullmatch(value) else 0.0
    return stated_s + max(0.0, response_delay_s)


def parse_cache_control(value: str | None) -> dict[str, str | None]:
    """Directive name in lower case -> argument without its quotes, None if it has none. The first of a name counts, but
    where `no-cache` or `private` stand both with and without field names, the stricter."""
    directives: dict[str, str | None] = {}
    at, text = 0, value or ""
    while at < len(text):
        match = _DIRECTIVE.match(text, at)
        if match is None:  # not a directive: skip to the next comma
            at = (text.find(",", at) + 1) or len(text)
            continue
        argument = match["quoted"] if match["quoted"] is not None else match["token"]
        name = match["name"].lower()
        if name in ("no-cache", "private"):
            before = directives.get(name, "")
            directives[name] = None if before is None or not argument else f"{before},{argument}".strip(",")
        else:
            directives.setdefault(name, argument)
        at = match.end()
    return directives


SEGMENT_NAMES = (".m4s", ".mp4", ".cmfv", ".cmfa", ".ts", ".aac", ".vtt", ".m4v", ".m4a")
SEGMENT_TTL_S = 3600.0  # what the common packagers say of segments and init sections, which never change under a name
PLAYLIST_TTL_S = 30.0  # a multivariant playlist, or one that has ended
USUAL_TARGET_S = 4.0  # where the target duration is not known yet
STALE_IF_ERROR_S = 86400.0  # what never or seldom changes outlives an origin that is down for a day
LIVE_CEILING_TARGETS, LIVE_CEILING_LEAST_S = 3, 6.0  # older than this, an honest error beats a frozen playlist


def hls_default(url_path: str, status: int, *, target_s: float | None = None, live: bool = True) -> Lifetime | None:
    """The lifetime of an HLS resource whose origin is silent (`explicit` is False); None for anything else.

    `live`: a media playlist without EXT-X-ENDLIST, or one nobody has read yet. It is good for half a target duration
    (`target_s`), its 404 for a whole one (RFC 8216bis appendix B.1).
    """
    name = url_path.lower()
    is_playlist = name.endswith((".m3u8", ".m3u"))
    if not is_playlist and not name.endswith(SEGMENT_NAMES):
        return None
    target_s = target_s or USUAL_TARGET_S
    if status == 404:
        # Half a target for a segment: it was asked for early, and its playlist is about to name it.
        return Lifetime(ttl_s=target_s if is_playlist else target_s / 2, storable=True)
    if status != 200:
        return None
    if is_playlist:
        if live:
            ceiling_s = max(LIVE_CEILING_TARGETS * target_s, LIVE_CEILING_LEAST_S)
            return Lifetime(ttl_s=target_s / 2, sie_s=ceiling_s - target_s / 2, storable=True)
        return Lifetime(ttl_s=PLAYLIST_TTL_S, sie_s=STALE_IF_ERROR_S, storable=True)
    return Lifetime(ttl_s=SEGMENT_TTL_S, sie_s=STALE_IF_ERROR_S, storable=True)


def parse_targeted(value: str | None) -> dict[str, str | None]:
    """The directives of a targeted field, as `parse_cache_control` gives them; empty if it is absent or no dictionary
    of RFC 9651, or a lifetime in it is no integer: then it counts as absent (RFC 9213 section 2.1)."""
    directives: dict[str, str | None] = {}
    at, text = 0, (value or "").strip(" ")
    while at < len(text):
        match = _MEMBER.match(text, at)
        if match is None or (match["comma"] and match.end() == len(text)):
            return {}
        key, bare, at = match["key"], match["bare"], match.end()
        directives.pop(key, None)  # of a key that stands twice, the last counts
        if key in _SECONDS and not _DELTA.fullmatch(bare or ""):
            return {}
        if bare != "?0":
            directives[key] = None if bare in (None, "?1") else bare.strip('"')
    return directives


def _targeted(fields: list[tuple[str, str]]) -> dict[str, str | None]:
    return next(filter(None, (parse_targeted(combined(fields, name)) for name in TARGETED)), {})


def _stated_ttl(
    directives: dict[str, str | None], expires: str | None, date: str | None, received_at: float
) -> float | None:
    """RFC 9111 section 4.2.1: s-maxage, else max-age, else Expires; None if none is stated. What is unreadable is 0,
    and so are several Expires."""
    for name in ("s-maxage", "max-age"):
        if (stated_s := _delta(directives, name)) is not None:
            return stated_s
    if expires is None:
        return None
    until = parse_http_date(expires)
    made = parse_http_date(date) if date is not None else None
    return 0.0 if until is None else max(0.0, until - (received_at if made is None else made))


def _delta(directives: dict[str, str | None], name: str) -> float | None:
    """The seconds of a directive; None if it is absent, 0 if they are unreadable (RFC 9111 section 4.2.1)."""
    if name not in directives:
        return None
    argument = directives[name] or ""
    return _seconds(argument) if _DELTA.fullmatch(argument) else 0.0


def _seconds(digits: str) -> float:
    return float(min(int(digits), MOST_DELTA_S))


def _may_store(status: int, directives: dict[str, str | None], *, stated: bool, authorized: bool) -> bool:
    """RFC 9111 section 3, for a shared cache."""
    if status in _OF_NO_WHOLE_BODY or not 200 <= status <= 599:
        return False
    if "must-understand" in directives:
        if status not in _UNDERSTOOD:
            return False
    elif "no-store" in directives:
        return False
    if directives.get("private", "") is None:
        return False
    if authorized and directives.keys().isdisjoint({"public", "s-maxage", "must-revalidate"}):
        return False
    return stated or "public" in directives or status in _STORABLE_SILENT


def _may_share_cookies(directives: dict[str, str | None], *, shared: bool) -> bool:
    """Whether the origin speaks to shared caches at all. HTTP lets a cache store a Set-Cookie (RFC 9111 section 7.3);
    but frameworks add one viewer's session to whatever they send, and all others would be given it."""
    return shared or "public" in directives or "s-maxage" in directives


def _sets_cookies(fields: list[tuple[str, str]]) -> bool:
    return first(fields, "Set-Cookie") is not None


def _withheld(directives: dict[str, str | None]) -> frozenset[str]:
    """The fields named by `no-cache` and `private` (RFC 9111 sections 5.2.2.4 and 5.2.2.7)."""
    named = ",".join(directives.get(name) or "" for name in ("no-cache", "private"))
    return frozenset(name.strip().lower() for name in named.split(",")) - {""}
