"""What a file is to HTTP: its type, how long its copy may be used, and so its response headers.

The lifetimes are the conventions of HLS origins: a live media playlist half a target duration (RFC 8216bis appendix
B.1), segments an hour, and everything that is not live may be shown for a day when the origin is gone.
"""

import math
import mimetypes
from dataclasses import dataclass
from email.utils import formatdate

from swarm import playlist
from swarm.errors import RemoteError

PLAYLIST_SUFFIXES = (".m3u8", ".m3u")
MOST_PLAYLIST_BYTES = 4 << 20  # a larger file of that name is only a file
SEGMENT_LIFETIME_S = 3600.0
INGESTED_LIFETIME_S = 60.0  # a packager that restarts uses its names again
PLAYLIST_LIFETIME_S = 30.0  # multivariant, or with an end: it may yet be replaced
OTHER_LIFETIME_S = 60.0
ABSENT_LIFETIME_S = 1.0
REVALIDATE_BEHIND_S = 60
GRACE_S = 86400  # a film must still play on the day its origin died
LEAST_LIVE_GRACE_S = 6.0
LIVE_GRACE_TARGETS = 3

_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m3u": "application/vnd.apple.mpegurl",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".m4s": "video/iso.segment",
    ".m4a": "audio/mp4",
    ".cmfv": "video/mp4",
    ".cmfa": "audio/mp4",
    ".ts": "video/mp2t",
    ".aac": "audio/aac",
    ".vtt": "text/vtt",
    ".json": "application/json",
    ".mpd": "application/dash+xml",
}


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a copy is fresh, and the header that says so."""

    fresh_s: float
    cache_control: str


@dataclass(frozen=True, slots=True)
class Description:
    """A version's end-to-end response headers, but for those that say which version it is."""

    content_type: str
    lifetime: Lifetime
    is_media: bool

    def headers(self, etag: str, size: int, mtime_ns: int) -> tuple[tuple[str, str], ...]:
        modified = formatdate(mtime_ns // 10**9, usegmt=True)
        found = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(size)),
            ("ETag", etag),
            ("Last-Modified", modified),
            ("Cache-Control", self.lifetime.cache_control),
        ]
        if self.is_media:  # pages of any site may play it
            found.append(("Access-Control-Allow-Origin", "*"))
        return tuple(found)


def content_type(name: str) -> str:
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    return _TYPES.get(suffix) or mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"


def may_be_playlist(name: str, size: int) -> bool:
    return name.lower().endswith(PLAYLIST_SUFFIXES) and size <= MOST_PLAYLIST_BYTES


def describe(name: str, text: bytes | None, *, ingested: bool) -> Description:
    """`text`: the file's content if `may_be_playlist`."""
    kind = content_type(name)
    is_media = kind.startswith(("video/", "audio/")) or kind in (_TYPES[".m3u8"], _TYPES[".vtt"], _TYPES[".mpd"])
    lifetime = _playlist_lifetime(text) if text is not None else None
    if lifetime is None:
        is_segment = kind.startswith(("video/", "audio/")) or kind == _TYPES[".vtt"]
        lifetime = _segment_lifetime(ingested) if is_segment else _lasting(OTHER_LIFETIME_S)
    return Description(kind, lifetime, is_media)


def _playlist_lifetime(text: bytes) -> Lifetime | None:
    """None if no player could read it: then it is just a file."""
    try:
        said = playlist.parse(text.decode("utf-8"))
    except (RemoteError, UnicodeDecodeError):
        return None
    if isinstance(said, playlist.Multivariant) or not playlist.is_live(said):
        return _lasting(PLAYLIST_LIFETIME_S)
    fresh_s = playlist.lifetime_s(said)
    grace_s = max(LEAST_LIVE_GRACE_S, LIVE_GRACE_TARGETS * said.target_duration_s)
    # Whole seconds by RFC 9111 section 1.2.2; the pointer carries the exact lifetime.
    return Lifetime(fresh_s, f"public, max-age={max(1, math.floor(fresh_s))}, stale-if-error={math.floor(grace_s)}")


def _segment_lifetime(ingested: bool) -> Lifetime:
    fresh_s = INGESTED_LIFETIME_S if ingested else SEGMENT_LIFETIME_S
    behind = f", stale-while-revalidate={REVALIDATE_BEHIND_S}" if not ingested else ""
    return Lifetime(fresh_s, f"public, max-age={fresh_s:.0f}{behind}, stale-if-error={GRACE_S}")


def _lasting(fresh_s: float) -> Lifetime:
    return Lifetime(fresh_s, f"public, max-age={fresh_s:.0f}, stale-if-error={GRACE_S}")
