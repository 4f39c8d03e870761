"""What is counted and why: every closed set of words, each word beside the sentence that explains it.

Counters, log lines, the `Cache-Status` header and the ledger of the origin all take their words from here, so they
cannot disagree. Outcomes sum to requests, sources to viewer bytes, reasons to the bytes the origin says it sent.
"""

from enum import StrEnum


class Word(StrEnum):
    """A word of a closed set, and its `meaning`: the sentence that explains it. It equals its text."""

    _value_: str
    meaning: str

    def __new__(cls, text: str, meaning: str = "") -> "Word":
        word = str.__new__(cls, text)
        word._value_ = text
        word.meaning = meaning
        return word


class Outcome(Word):
    """How a viewer's request ended: exactly one for each request."""

    HIT = "hit", "answered from this edge's cache, still fresh"
    STALE_HIT = "stale_hit", "answered from this edge's cache past its lifetime but within grace (RFC 5861)"
    JOINED = "joined", "not in the cache, but a fill was already under way and this request joined it"
    MISS = "miss", "not in the cache: this request began the fill"
    REVALIDATED = "revalidated", "in the cache but past its lifetime; it was confirmed unchanged before it was served"
    PASSED = "passed", "HTTP forbids sharing it: passed through to the origin and back, never stored"
    REFUSED = (
        "refused",
        "this edge would not take it: malformed, not allowed, no such range, or too busy (4xx of its own)",
    )
    FAILED = "failed", "nobody could answer it (502, 503, 504), or the body broke off before its end"


class Source(Word):
    """Where the bytes of a body came from."""

    MEMORY = "memory", "this edge's memory tier"
    DISK = "disk", "this edge's disk tier"
    PEER = "peer", "another edge of the swarm, while the viewer waited"
    ORIGIN = "origin", "the origin, while the viewer waited"


class Reason(Word):
    """Why the origin was asked: exactly one for each request to it, and so for each byte it sent."""

    FIRST_COPY = "first_copy", "nobody in the swarm had it yet, and this edge is its home"
    HOME_LOST = "home_lost", "its home died or could not be reached before passing it on"
    REHOMED = "rehomed", "the view changed: this edge became its home, and nobody who had it was found"
    DEADLINE = (
        "deadline",
        "the swarm had it but would have been too late for whoever waits, and the origin would be sooner",
    )
    NO_HOLDER = "no_holder", "its home answered, but neither had it nor would fetch it, and nobody else held it"
    VERIFY_FAILED = "verify_failed", "what peers sent did not match its digest"
    CHANGED = "changed", "the origin's object changed while it was being fetched: the new version is fetched afresh"
    ROT = "rot", "our own disk gave back other bytes than were written"
    AUDIT = "audit", "a piece that only a peer vouches for was fetched again to check that peer"
    METAINFO = "metainfo", "pages of metainfo or a pointer; their bytes are control bytes, so only requests add up here"
    PLAYLIST = "playlist", "a live playlist was polled, once for the whole swarm"
    PREFETCH = "prefetch", "a new segment was fetched before any viewer asked for it"
    REVALIDATE = "revalidate", "a copy past its lifetime was checked; bytes flow only if it had changed"
    NOT_CACHEABLE = "not_cacheable", "HTTP forbids sharing it, so it goes past the cache each time"
    STANDALONE = "standalone", "the asker takes part in no swarm: none is set up, or all of it refused this edge"

    @classmethod
    def _missing_(cls, value: object) -> "Reason":
        """A newer edge's word, or none of ours."""
        return cls.STANDALONE


class PeerState(Word):
    """What is known of another edge."""

    ALIVE = "alive", "it answers, or the tracker says so"
    SUSPECT = "suspect", "it missed a probe or an announcement; it has until its suspicion expires to speak up"
    DEAD = "dead", "its suspicion expired, or it said goodbye"
    BANNED = "banned", "it signed bytes that are wrong: a liar, and there is evidence"
    REFUSED = "refused", "one side would not talk to the other: wrong secret, wrong key for its name, or a name in use"


class Cause(Word):
    """Why a piece from a peer was thrown away."""

    DIGEST = "digest", "its SHA-256 is not the one in the metainfo"
    FRAMING = "framing", "the stream of frames could not be read"
    SIGNATURE = "signature", "the sender's signature over what it sent does not fit"
    TRUNCATED = "truncated", "the stream ended inside a frame"
    UNEXPECTED = "unexpected", "a piece that was not asked for, or not there"


class Tier(Word):
    """The two tiers of an edge's cache."""

    MEMORY = "memory", "bytes ready to write"
    DISK = "disk", "a file for each version, pieces at their offsets"


class Role(Word):
    """In which role an edge is asked; roles only descend, so that no wait can close a circle (DESIGN 4)."""

    ZONE_HOME = "zone_home", "home in its zone: it has it, or asks the homes in the path's first zone for it, as home"
    HOME = "home", "it was dealt the piece: it has it or fetches it from the origin"
    HOLDER = "holder", "it merely had the piece, or was already receiving it"

    @classmethod
    def _missing_(cls, value: object) -> "Role":
        """A newer edge's word: the role that promises least."""
        return cls.HOLDER


class Control(Word):
    """What flows beside the content; under 1 % of it if all is well."""

    POINTER = "pointer", "what a path means now: version, headers, lifetime"
    METAINFO = "metainfo", "pages of piece digests"
    VIEW = "view", "announcements to the tracker and the views it hands out"
    GOSSIP = "gossip", "messages between edges about edges"


class OriginFault(Word):
    """How a request to the origin failed, as the edge saw it."""

    UNREACHABLE = "unreachable", "no connection: refused, no route, or no such name"
    TIMEOUT = "timeout", "it took the request and then sent nothing for too long"
    STATUS = "status", "it answered 5xx"
    BROKEN = "broken", "its answer broke off, could not be read, or did not match its own metainfo"


class DiskOperation(Word):
    """What the disk was asked to do when it failed."""

    READ = "read", "read back a piece or an index"
    WRITE = "write", "store a piece, a pointer or an index, or drop one"


class Dropped(Word):
    """Why an edge let a viewer's connection go that did nothing wrong in HTTP's eyes."""

    NO_REQUEST = "no_request", "began a request, or only connected, and its header did not come in time"
    IDLE = "idle", "asked for nothing for long"
    SLOW = "slow", "took what it asked for too slowly, or not at all"
    TOO_MANY = "too_many", "came from an address that had as many connections as one may have"


class PurgeKind(Word):
    """What a purge names."""

    URL = "url", "one URL, its query included, in all its variants"
    PREFIX = "prefix", "every URL of a site that begins so"
    KEY = "key", "every response that bears this surrogate key"


class IngestResult(Word):
    """How a request to ingest ended."""

    STORED = "stored", "a complete file, now visible, or held back until what it names is there"
    DELETED = "deleted", "the file is gone from the stream"
    REFUSED = "refused", "path, sender or method not allowed, or a body too long: nothing kept"
    BROKEN = "broken", "the body ended early or could not be read: nothing kept"


def origin_copies(origin_bytes: float, distinct_bytes: float) -> float | None:
    """How often each byte watched left the origin: 1.0 is the least there is. None while nothing was watched."""
    return origin_bytes / distinct_bytes if distinct_bytes else None


def peer_share(peer_bytes: float, origin_bytes: float) -> float | None:
    """Of the bytes edges fetched, the part that came from other edges. None while nothing was fetched."""
    fetched_bytes = peer_bytes + origin_bytes
    return peer_bytes / fetched_bytes if fetched_bytes else None


def origin_offload(origin_bytes: float, viewer_bytes: float) -> float | None:
    """Of the bytes viewers got, the part the origin did not send. None while nobody watched.

    Without the swarm, each byte an edge fetched would have come from the origin:
    `origin_offload(peer_bytes + origin_bytes, viewer_bytes)` is what plain caches would have spared it. Show both.
    """
    return 1 - origin_bytes / viewer_bytes if viewer_bytes else None
