"""Which segments have left the window of their live playlist (RFC 8216 6.2.2): nobody will ask for them again."""

from collections import Counter, OrderedDict
from urllib.parse import urljoin

from swarm.errors import RemoteError
from swarm.names import BadPath, Path, normalise
from swarm.playlist import named_uris

MOST_PLAYLISTS = 10_000
MOST_BYTES = 64 << 10  # of a playlist; a longer one is an archive, no window, and reading it would hold up everybody

Name = tuple[str, str]  # site, target as the playlist spells it


class Windows:
    """What the newest version of each live playlist names. A segment has left when no playlist names it any more."""

    def __init__(self) -> None:
        self._named: OrderedDict[str, frozenset[Name]] = OrderedDict()
        self._playlists: Counter[Name] = Counter()  # how many name it

    def __repr__(self) -> str:
        return f"<Windows of {len(self._named)} playlists>"

    def on_playlist(self, path: Path, body: bytes) -> list[Path]:
        """A newer version of a playlist; the segments that left with the one before."""
        is_window = b"#EXTINF" in body and b"#EXT-X-SKIP" not in body and len(body) <= MOST_BYTES
        if not is_window or "_HLS_" in path.query:
            return []
        named = frozenset() if b"#EXT-X-ENDLIST" in body else _named(path, body)
        left = self._take(path.key, named)
        if len(self._named) > MOST_PLAYLISTS:
            self._take(next(iter(self._named)), frozenset())
        return [gone for name in left if named and (gone := _path(name)) is not None]

    def _take(self, key: str, named: frozenset[Name]) -> list[Name]:
        """What a playlist names from now on (nothing: it is forgotten); what no playlist names any more."""
        before = self._named.pop(key, frozenset())
        if named:
            self._named[key] = named
        self._playlists.update(named - before)
        self._playlists.subtract(before - named)
        left = [name for name in before - named if self._playlists[name] <= 0]
        for name in left:
            del self._playlists[name]
        return left


def _named(path: Path, body: bytes) -> frozenset[Name]:
    """Nothing if players could not read it."""
    try:
        uris = named_uris(body.decode())
    except (RemoteError, UnicodeDecodeError):
        return frozenset()
    return frozenset((path.site, urljoin(path.url_path, uri)) for uri in uris)


def _path(name: Name) -> Path | None:
    site, target = name
    if not target.startswith("/") or target.startswith("//"):
        return None  # of another host
    try:
        return normalise(site, target)
    except BadPath:
        return None
