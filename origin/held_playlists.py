"""Playlists that arrived before what they name: which are held back, and which may now be seen. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from swarm import playlist
from swarm.errors import RemoteError
from swarm.names import normalise

MOST_HELD = 1000  # of one origin; past it a packager is told to slow down


@dataclass(frozen=True, slots=True)
class Held:
    """A complete playlist in a file that nobody is served yet, and the URL paths it names."""

    url_path: str
    received: Path
    promised: frozenset[str]


def promised_paths(url_path: str, text: str, prefix: str) -> frozenset[str]:
    """The URL paths below `prefix` that must exist before the playlist may be seen. RemoteError if it is none.

    Segments marked as gaps (RFC 8216bis section 4.4.4.7) are named and do not exist; what lies elsewhere is not ours.
    """
    said = playlist.parse(text)
    gaps = {segment.uri for segment in said.segments if segment.gap} if isinstance(said, playlist.Media) else set()
    named = (_ingested_path(url_path, uri, prefix) for uri in playlist.named_uris(text) if uri not in gaps)
    return frozenset(path for path in named if path is not None and path != url_path)


def _ingested_path(base: str, uri: str, prefix: str) -> str | None:
    """None if it is not under the prefix, or no URI at all."""
    try:
        parts = urlsplit(uri)
        if parts.scheme or parts.netloc:
            return None
        path = normalise("", urlsplit(urljoin(base, uri)).path).url_path
    except (ValueError, RemoteError):  # BadPath is a ValueError
        return None
    return path if path.startswith(prefix) else None


class HeldPlaylists:
    """The newest playlist of each path that cannot be seen yet."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __repr__(self) -> str:
        return f"<HeldPlaylists {sorted(self._held)}>"

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_full(self) -> bool:
        return len(self._held) >= MOST_HELD

    def items(self) -> Iterable[Held]:
        return tuple(self._held.values())

    def hold(self, held: Held) -> Held | None:
        """Hold it back; the older playlist of that path, which nobody needs any more."""
        superseded = self._held.pop(held.url_path, None)
        self._held[held.url_path] = held
        return superseded

    def drop(self, url_path: str) -> Held | None:
        """A newer playlist of that path is there, or it was deleted."""
        return self._held.pop(url_path, None)

    def waiting_for(self, url_path: str) -> list[Held]:
        """Those that named a path which just landed."""
        return [held for held in self._held.values() if url_path in held.promised]
