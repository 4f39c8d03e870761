"""What somebody asks of `POST /purge`: JSON, a form, or parameters in the URL -> what is to be purged."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl

from edge.config import DEFAULT_SITE
from swarm.accounting import PurgeKind
from swarm.names import BadPath, Path, split_target
from swarm.purging import EVERY_SITE, MOST_VALUE_BYTES

MOST_AT_ONCE = 1000
FIELDS = (*PurgeKind, "site", "soft")
_TRUTH = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class BadPurge(ValueError):
    """It does not say what to purge; the text names what is wrong with it."""


@dataclass(frozen=True)
class Wanted:
    """What somebody wants purged; `site` may be `EVERY_SITE`."""

    kind: PurgeKind
    site: str
    value: str


@dataclass(frozen=True)
class Naming:
    """The sites of this edge, and how a host name leads to a site and a request target to a path (BadPath)."""

    sites: Collection[str]
    site_of: Callable[[str], str | None]
    path: Callable[[str, str], Path]

    def named(self, site: str) -> str:
        found = site if site in self.sites else self.site_of(site)
        if found is None:
            raise BadPurge(f"site: no {site!r} here; there are {', '.join(sorted(self.sites))}")
        return found

    def meant(self) -> str:
        """The one that is meant when none is named: the bare origin's, or the only one."""
        if DEFAULT_SITE in self.sites or len(self.sites) == 1:
            return DEFAULT_SITE if DEFAULT_SITE in self.sites else next(iter(self.sites))
        raise BadPurge(f"site: which of {', '.join(sorted(self.sites))}? Give a whole URL, or name the site")


def read_purge(body: bytes, query: Iterable[tuple[str, str]], naming: Naming) -> tuple[list[Wanted], bool]:
    """What is to be purged, and whether softly. BadPurge.

    Fields: `url`, `prefix`, `key` (each one or several), `site`, `soft`. `url` and `prefix` are whole URLs or begin
    with "/"; a key without a site is meant for every site.
    """
    fields = _fields(body, query)
    for name in fields:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1)
            raise BadPurge(f"{name!r}: no such field, " + (f"did you mean {near[0]}?" if near else _listed(FIELDS)))
    site = _one(fields, "site")
    wanted = [_wanted(kind, text, site, naming) for kind in PurgeKind for text in fields.get(kind, ())]
    if not wanted:
        raise BadPurge(f"nothing to purge: give {_listed(PurgeKind)}")
    if len(wanted) > MOST_AT_ONCE:
        raise BadPurge(f"{len(wanted)} at once; at most {MOST_AT_ONCE}")
    soft = _one(fields, "soft")
    if (soft or "").lower() not in _TRUTH:
        raise BadPurge(f"soft: expected true or false, not {soft!r}")
    return wanted, soft is not None and _TRUTH[soft.lower()]


def _fields(body: bytes, query: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Every field with its values, from the body and the URL together."""
    fields: dict[str, list[str]] = {}
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        raise BadPurge("the body is not UTF-8") from None
    is_json = text.startswith(("{", "["))
    pairs = _of_json(text) if is_json else _of_form(text)
    for name, value in (*query, *pairs):
        fields.setdefault(name, []).append(value)
    return fields


def _of_form(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True)


def _of_json(text: str) -> list[tuple[str, str]]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadPurge(f"the body is no JSON: {error}") from None
    if not isinstance(said, Mapping):
        raise BadPurge('the body is no JSON object, like {"url": "http://host/path"}')
    return [(name, _text(name, one)) for name, value in said.items() for one in _listing(value)]


def _listing(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) and name == "soft":
        return str(value).lower()
    if not isinstance(value, str):
        raise BadPurge(f"{name}: expected a string, not {json.dumps(value)[:40]}")
    return value


def _one(fields: Mapping[str, list[str]], name: str) -> str | None:
    values = fields.get(name, [])
    if len(values) > 1:
        raise BadPurge(f"{name}: given {len(values)} times")
    return values[0] if values else None


def _wanted(kind: PurgeKind, text: str, site: str | None, naming: Naming) -> Wanted:
    if len(text.encode("utf-8", "surrogatepass")) > MOST_VALUE_BYTES:
        raise BadPurge(f"{kind}: longer than {MOST_VALUE_BYTES} bytes")
    if kind is PurgeKind.KEY:
        if not text.strip() or not text.isprintable():
            raise BadPurge(f"{kind}: {text!r} is no surrogate key")
        return Wanted(kind, EVERY_SITE if site is None else naming.named(site), text.strip())
    authority, target = split_target(text)
    if authority is None and not text.startswith("/"):
        raise BadPurge(f"{kind}: expected http://host/path or /path, not {text!r}")
    of_url = _site(authority, site, naming)
    try:
        path = naming.path(of_url, target)
    except BadPath as error:
        raise BadPurge(f"{kind}: {text!r}: {error}") from None
    # A prefix may end within the query, or with the "?" before it.
    end = "?" if kind is PurgeKind.PREFIX and "?" in target and not path.query else ""
    return Wanted(kind, of_url, path.target + end)


def _site(authority: str | None, site: str | None, naming: Naming) -> str:
    named = None if site is None else naming.named(site)
    if authority is None:
        return named or naming.meant()
    of_url = naming.site_of(authority)
    if of_url is None:
        raise BadPurge(f"no site {authority!r} here; there are {', '.join(sorted(naming.sites))}")
    if named not in (None, of_url):
        raise BadPurge(f"site: {site!r} given beside a URL of {of_url!r}")
    return of_url


def _listed(names: Iterable[str]) -> str:
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}"
